"""A small catalogue with matches on the disk, and a review of it that runs."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import numpy as np
import uvicorn
from PIL import Image

from openanimals.identification.catalogue_file import as_table, write_catalogue
from openanimals.identification.matches import Match
from openanimals.identification.ranking import Ranking
from openanimals.identification.review.app import build_app
from openanimals.identification.review.service import Service
from tests.identification.test_matches import matches

NAMES = ("Kesi", "Mara", "Zuri")
TOKEN = "a-token-of-the-test"


def in_doubt(n):
    """Return who an encounter may be: each is a little less in doubt than the one before."""
    return 0.52, 0.3 - n / 100, 0.1


def write_files(
    folder, encounters=12, names=NAMES, visit="visit {}", photograph=None, chances=in_doubt
):
    """Write a catalogue of two photographs an individual and an encounter, and matches.

    Args:
        folder: is made.
        encounters: how many.
        names: of the individuals.
        visit: names the encounters.
        photograph: used for all; None: each is noise of its own.
        chances: of each individual, by number of the encounter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, known, rng = [], [], np.random.default_rng(0)

    def add(path, **values):
        image = photograph or Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        image.save(folder / path)
        rows.append({"path": path, "date": "2025-04-01", **values})
        return path

    for n, name in enumerate(names):
        for side in ("left", "right"):
            known.append(add(f"known-{n}-{side}.jpg", identity=name, viewpoint=side, camera="A"))
    found = []
    for n in range(encounters):
        own = tuple(add(f"new-{n}-{m}.jpg", viewpoint=("left", "right")[m]) for m in range(2))
        own_chances = chances(n)
        place = ("North", "South")[n % 2]
        views = "left", "right"
        facts = "2025-05-01", place, views, "unsure", "", own_chances[0], 1 - sum(own_chances), ()
        found.append(Match(visit.format(n), own, *facts))
    write_catalogue(folder / "herd.csv", as_table(rows))
    everything = matches(*found)
    everything.write(folder / "matches")
    shape = encounters, len(names)
    probability = np.array([chances(n) for n in range(encounters)], np.float32)
    Ranking(
        encounters=[match.encounter for match in found],
        names=[*names],
        photographs=known,
        probability=probability[:, : len(names)],
        photograph=np.tile(2 * np.arange(len(names)), (encounters, 1)),
        query=np.zeros(shape, dtype=np.int32),
    ).save(folder / "matches")
    return folder


class Client:
    """Speaks to a review as its page does, or as somebody else would."""

    def __init__(self, port, service):
        self.port, self.service = port, service

    def raw(self, method, path, body=None, **headers):
        """Send a request as it is; return status, headers and bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        data = b"" if body is None else json.dumps(body).encode()
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    @property
    def cookie(self):
        return f"openanimals-{self.port}={TOKEN}"

    def get(self, path):
        status, _, data = self.raw("GET", path, Cookie=self.cookie)
        return status, json.loads(data)

    def post(self, path, body):
        headers = {"Cookie": self.cookie, "X_Token": TOKEN}
        status, _, data = self.raw("POST", path, body, **headers)
        return status, json.loads(data)

    def answer(self, question, answer, **more):
        choice = question["choice"]
        place = {name: choice[name] for name in ("individual", "other")}
        body = {"encounter": question["encounter"]["number"], **place, "answer": answer, **more}
        return self.post("/api/answer", body)


@contextmanager
def reviewing(folder, by="Ada", wait=1.0, prepare=lambda service: None):
    """Run a review in a thread; ``prepare`` is called with its service, where that stays."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        port = place.getsockname()[1]
        made = []

        def service():
            files = str(folder / "herd.csv"), str(folder / "matches")
            made.append(Service(*files, by, wait=wait))
            prepare(made[0])
            return made[0]

        app = build_app(service, TOKEN, port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            yield Client(port, made[0])
        finally:
            server.should_exit = True
            thread.join()
