"""The command ``openanimals review``: a page at an address that only this machine can reach."""

import hashlib
import json
import os
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Any

from openanimals.identification.review.answers import SECOND_LOOK
from openanimals.identification.review.app import build_app
from openanimals.identification.review.service import Service
from openanimals.utils.errors import FileError, UserError, naming
from openanimals.utils.files import expanded, read_json
from openanimals.utils.machine import user_cache

HOST = "127.0.0.1"


def review(
    catalogue: str, matches: str, by: str, *, port: int | None = None, browser: bool = True
) -> None:
    """Serve the review page until the user ends it.

    Address and token are kept for the next time, so that pages that are open go on when the command
    was ended and started again; but not after the catalogue or the matches were written anew, as
    the numbers that such pages have are then of other encounters and photographs.

    Args:
        catalogue: its file.
        matches: folder that ``openanimals identify`` has written.
        by: the reviewer.
        port: to be reached at; None: that of the last time, or any that is free.
        browser: open the page.

    Raises:
        UserError: a file cannot be used, nobody reviews, or the port is taken.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise UserError(
            f"the review page needs {error.name}: pip install starlette uvicorn"
        ) from error
    by = by.strip()
    if not by or by.endswith(SECOND_LOOK):
        raise UserError(f"who reviews? --by {by!r} is no name that decisions can be kept under")
    kept = _file(catalogue, by)
    mark = _mark(expanded(catalogue), expanded(matches) / "matches.json")
    before = _read(kept)
    if before.get("of") != mark:
        before = {}
    place = _bind(before.get("port", 0) if port is None else port, given=port is not None)
    own_port = place.getsockname()[1]
    token = before.get("token") or secrets.token_urlsafe(24)
    app = build_app(lambda: Service(catalogue, matches, by), token, own_port)
    _write(kept, {"port": own_port, "token": token, "of": mark})
    address = f"http://{HOST}:{own_port}/?token={token}"
    print(f"review of {catalogue} by {by}: {address}\nto end it: Ctrl+C", flush=True)
    if browser:
        webbrowser.open(address)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[place])


def _bind(port: int, *, given: bool) -> socket.socket:
    place = socket.socket()
    if os.name == "posix":  # elsewhere two programs could have one port
        # Else the port of a program that was killed would stay taken for minutes.
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((HOST, port))
        place.listen()
    except (OSError, OverflowError) as error:
        place.close()
        if not given and port:
            return _bind(0, given=False)
        raise UserError(
            f"port {port} cannot be used: {error}; leave --port out, and a free one is taken"
        ) from error
    return place


def _file(catalogue: str, by: str) -> Path:
    """Return where port and token are kept: a place of the user's own."""
    key = f"{expanded(catalogue).absolute()}\n{by}"
    return user_cache() / "review" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _mark(*files: Path) -> str:
    """Return a text that is another one when a file was written anew."""
    return hashlib.sha256(
        b"".join(hashlib.sha256(f.read_bytes() if f.is_file() else b"").digest() for f in files)
    ).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, "port", "token", "of")
    except (OSError, FileError):
        return {}


def _write(file: Path, content: dict[str, Any]) -> None:
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        # From the start, nobody else may read it.
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as opened:
            json.dump(content, opened)
