"""The review page as a web application that only its own page may talk to.

Any page that a browser shows may send requests to this machine, and any name may be made to lead to
it. So a request needs the token of the address (later a cookie that only we see), the host name
that we are reached by, and, if it changes anything, the token in a header too.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from openanimals.identification.review.scaled import SIZES, ScaledPhotographs
from openanimals.identification.review.service import FILTERS, Service
from openanimals.utils.errors import FileError, UserError

HERE = Path(__file__).parent
NOTE = 2000  # characters
BODY = 2**16  # bytes of a request
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
TYPES = {".js": "text/javascript", ".css": "text/css"}


class Guard:
    """Lets only our own page through; see the module.

    Args:
        app: the application behind it.
        token: that the address has.
        port: that we are reached at.
        expired: what to say to those without it.
    """

    def __init__(self, app: Any, token: str, port: int, expired: str) -> None:
        self.app, self._token, self._expired = app, token, expired
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._cookie = f"openanimals-{port}"  # cookies do not tell ports apart

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or refuse it."""
        from starlette.responses import JSONResponse

        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        problem = self._problem(scope, headers, given)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = dict(HEADERS)
                if given and not problem:
                    added["set-cookie"] = (
                        f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
                    )
                message["headers"] += [(k.encode(), v.encode()) for k, v in added.items()]
            await send(message)

        if problem:
            refused = JSONResponse({"error": problem}, 403)
            await refused(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)

    def _problem(self, scope: Any, headers: dict[str, str], given: str) -> str:
        """Return why a request is refused, "" if it is not."""
        if headers.get("host") not in self._hosts:
            return "this address is not the one that the command has printed"
        cookies = [part.strip() for part in headers.get("cookie", "").split(";")]
        shown = [text.removeprefix(f"{self._cookie}=") for text in cookies if "=" in text]
        opens = scope["path"] == "/" and scope["method"] == "GET"
        if not any(_equal(text, self._token) for text in [*shown, given if opens else ""]):
            return self._expired
        if scope["method"] in ("GET", "HEAD"):
            return ""
        origin = headers.get("origin", "")
        if origin and origin.removeprefix("http://") not in self._hosts:
            return "only the page itself may change anything"
        if not _equal(headers.get("x-token", ""), self._token):
            return self._expired
        return ""


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("latin-1", "replace"), other.encode())


def build_app(service: Callable[[], Service], token: str, port: int) -> Any:
    """Return the application.

    Args:
        service: makes the service, in the thread that it stays in.
        token: that the address has.
        port: that it is reached at.

    Raises:
        UserError: a file cannot be used.
    """
    from jinja2 import Environment, FileSystemLoader
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    desk, readers = ThreadPoolExecutor(1), ThreadPoolExecutor(2)
    own = desk.submit(service).result()
    pictures = ScaledPhotographs(own.images)
    house = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
    version = hashlib.sha256(token.encode()).hexdigest()[:8]
    page = house.get_template("review.html").render(
        texts=texts, token=token, version=version, by=own.by, filters=own.options()
    )

    async def ask(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        call = asyncio.get_running_loop().run_in_executor
        return await call(desk, lambda: function(*arguments, **options))

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers={"cache-control": "no-store"})

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        there = {file.name: file for file in (HERE / "static").iterdir()}
        if name not in there or there[name].suffix not in TYPES:
            return PlainTextResponse("not found", 404)
        kind = TYPES[there[name].suffix]
        return Response(there[name].read_bytes(), media_type=kind, headers=_fresh())

    async def photograph(request: Request) -> Response:
        row, size = request.path_params["row"], request.path_params["size"]
        if not 0 <= row < len(pictures) or size not in SIZES:
            return PlainTextResponse("not found", 404)
        read = asyncio.get_running_loop().run_in_executor
        try:
            data = await read(readers, pictures.jpeg, row, size)
        except (UserError, OSError, MemoryError) as error:
            return PlainTextResponse(str(error) or "not enough memory", 404, headers=_fresh())
        kept = {"cache-control": "private, max-age=3600"}
        return Response(data, media_type="image/jpeg", headers=kept)

    async def spots(request: Request) -> Response:
        rows = [_number(request.query_params.get(name)) for name in ("first", "second")]
        if any(row is None or row >= len(pictures) for row in rows):
            raise UserError("spots: expected two photographs of the catalogue")
        read = asyncio.get_running_loop().run_in_executor
        return JSONResponse(await read(readers, pictures.spots, *rows))

    async def question(request: Request) -> Response:
        given = request.query_params
        encounter, other = _number(given.get("encounter")), _number(given.get("other"))
        if encounter is not None:
            about = given.get("individual", ""), other, given.get("lineup") == "true"
            return JSONResponse(await ask(own.question, encounter, *about))
        return JSONResponse(await ask(own.next, *_wanted(given), _number(given.get("besides"))))

    async def candidates(request: Request) -> Response:
        given = request.query_params
        parts = (_number(given.get(name)) or 0 for name in ("encounter", "start", "count"))
        return JSONResponse(await ask(own.candidates, *parts))

    async def answer(request: Request) -> Response:
        said = await _body(request)
        encounter, other = _number(said.get("encounter")), _number(said.get("other"))
        texts = [str(said.get(name) or "") for name in ("individual", "answer", "note")]

        def decide() -> dict[str, Any]:
            if encounter is None:
                raise UserError("an answer without an encounter")
            individual, word, note = texts
            if word == "none":
                shown = [str(name) for name in said.get("lineup") or []]
                if not shown:
                    raise UserError("none of whom? expected the individuals of the line-up")
                numbers = own.none_of(encounter, shown, note[:NOTE])
            else:
                numbers = own.answer(encounter, individual, other, word, note[:NOTE])
            return {"numbers": numbers, **own.next(*_wanted(said))}

        return JSONResponse(await ask(decide))

    async def undo(request: Request) -> Response:
        return JSONResponse(await ask(own.undo))

    async def progress(request: Request) -> Response:
        return JSONResponse(await ask(own.progress))

    async def catalogue(request: Request) -> Response:
        given = request.query_params
        if name := given.get("name"):
            return JSONResponse(await ask(own.individual, name))
        start, count = _number(given.get("start")) or 0, 60
        return JSONResponse(await ask(own.individuals, given.get("find", ""), start, count))

    async def decide(request: Request) -> Response:
        said = await _body(request)
        texts = (str(said.get(name) or "") for name in ("kind", "first", "second"))
        rows = [_number(row) for row in said.get("rows") or []]
        if any(row is None or row >= len(pictures) for row in rows):
            raise UserError("split: expected photographs of the catalogue")
        return JSONResponse({"numbers": await ask(own.decide, *texts, rows)})

    async def mendable(request: Request, error: Exception) -> Response:
        # The page keeps an answer, and sends it again, where a file cannot be written now.
        return JSONResponse({"error": str(error)}, 503 if isinstance(error, FileError) else 400)

    routes = [
        Route("/", show),
        Route("/static/{name}", static),
        Route("/photograph/{row:int}/{size}", photograph),
        *(
            Route(f"/api/{function.__name__}", function)
            for function in (question, candidates, spots, progress, catalogue)
        ),
        *(
            Route(f"/api/{function.__name__}", function, methods=["POST"])
            for function in (answer, undo, decide)
        ),
    ]
    app = Starlette(routes=routes, exception_handlers={UserError: mendable})
    return Guard(app, token, port, texts["expired"])


async def _body(request: Any) -> dict[str, Any]:
    """Return the object that a request carries.

    Raises:
        UserError: it carries something else.
    """
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > BODY:
            raise UserError("the request is too long")
    try:
        said = json.loads(data)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise UserError("expected a JSON object")
    return said


def _wanted(given: Any) -> tuple[dict[str, str], bool]:
    """Return filters, and whether everything is wanted."""
    only = {name: str(given[name]) for name in FILTERS if given.get(name)}
    return only, given.get("everything") in (True, "true")


def _number(text: Any) -> int | None:
    return int(text) if text is not None and str(text).isdecimal() else None


def _fresh() -> dict[str, str]:
    return {"cache-control": "no-cache"}
