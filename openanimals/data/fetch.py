"""One file over HTTP: what has arrived stays, and the next try goes on there if the server can."""

import errno
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from openanimals.utils.errors import UserError

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


class DownloadError(UserError):
    """Data that cannot be fetched or unpacked; says what was kept and how to go on."""


def fetch(url: str, target: Path, *, attempts: int = 4, wait: float = 1.0) -> None:
    """Download a file unless it is there.

    Until all of it has arrived, ``<target>.part`` holds what has; the size that the server
    announces is checked. Progress is a bar on a terminal, and one line at each (re)start.

    Args:
        url: its address.
        target: the file.
        attempts: how many tries in a row may fail without getting further than any before.
        wait: seconds before the next try, doubled with each such try.

    Raises:
        DownloadError: the server refuses, the disk is too small, or the attempts are used up.
    """
    part = target.with_name(target.name + ".part")
    failures, furthest = 0, _size(part)
    while not target.exists():
        try:
            _receive(url, part)
            os.replace(part, target)
        except (OSError, http.client.HTTPException) as cause:
            # Further than ever, not than the last try: some servers start anew at each.
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures == attempts or _is_final(cause):
                kept = (
                    f"; {part} keeps what has arrived; the next try goes on there if the server can"
                )
                raise DownloadError(f"{url}: {cause}{kept if _size(part) else ''}") from cause
            time.sleep(wait * 2**failures)


def _receive(url: str, part: Path) -> None:
    """Append what is missing to a partial file, or start it anew where the server wants that."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "openanimals"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # all of it is here
        part.unlink()
        raise ConnectionError("the file on the server has changed since") from error
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None:
            _check_room(part.parent, total - start)
        print(f"downloading {url} ({_megabytes(start)} of {_megabytes(total)} here)", flush=True)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=None)
        with bar, open(part, "ab" if start else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


def _is_final(cause: Exception) -> bool:
    """Tell whether another try cannot help: no room, or the server refuses the address."""
    if isinstance(cause, urllib.error.HTTPError):
        return cause.code < 500 and cause.code not in (
            http.client.REQUEST_TIMEOUT,
            http.client.TOO_MANY_REQUESTS,
        )
    return isinstance(cause, OSError) and cause.errno == errno.ENOSPC


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"it needs {_megabytes(needed)} more, and {_megabytes(free)} are free"
        )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _megabytes(count: int | None) -> str:
    return "unknown MB" if count is None else f"{count / 1e6:.1f} MB"
