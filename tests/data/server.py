"""A file server that can be told to misbehave."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Server(http.server.ThreadingHTTPServer):
    """Serves the files in `files` and keeps what happened in `log` as (path, range, bytes sent).

    Each number in `cuts` ends one answer after that many bytes. `ranges` and `lengths` switch off
    what real servers may lack, `codes` are errors to answer first.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.log, self.cuts, self.codes = {}, [], [], []
        self.ranges, self.lengths = True, True

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        body = server.files.get(self.path[1:])
        if server.codes or body is None:
            server.log.append((self.path[1:], wanted, 0))
            return self.send_error(server.codes.pop(0) if server.codes else 404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(body):
            server.log.append((self.path[1:], wanted, 0))
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        rest = body[start:]
        sent = rest[: server.cuts.pop(0)] if server.cuts else rest
        server.log.append((self.path[1:], wanted, len(sent)))  # before the client can go on
        self.send_response(206 if start else 200)
        if server.lengths:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """Give a server that runs within the block."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
