"""The review as others may speak to it: who is let in, what it serves, what it writes."""

import io
import re
import socket
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.harness import peak_memory
from openanimals.cli import main
from openanimals.identification.decisions.evidence import Evidence
from tests.identification.review.review_fixtures import TOKEN, reviewing, write_files

EVIL = '<script>alert(1)</script>" onerror="alert(2)'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def client(files):
    with reviewing(files) as client:
        yield client


def said(folder):
    with Evidence(folder / "herd.csv.decisions.sqlite") as evidence:
        return [
            (d.kind, d.first, d.second, d.by)
            for d in evidence.decisions()
            if d.kind != "undo" and d.undone_by is None
        ]


def test_only_who_has_the_token_gets_anything(client):
    for path in ("/", "/static/review.js", "/api/question", "/photograph/0/full", "/nothing"):
        for headers in ({}, {"Cookie": f"openanimals-{client.port}=wrong"}, {"Cookie": "a"}):
            status, _, data = client.raw("GET", path, **headers)
            assert status == 403 and b"openanimals review" in data and b"<" not in data
    assert client.raw("GET", "/?token=wrong")[0] == 403
    assert client.raw("GET", f"/api/question?token={TOKEN}")[0] == 403  # it opens the page only
    status, headers, _ = client.raw("GET", f"/?token={TOKEN}")
    assert status == 200
    assert re.fullmatch(
        rf"openanimals-{client.port}={TOKEN}; HttpOnly; SameSite=Strict; Path=/",
        headers["set-cookie"],
    )


def test_another_host_name_is_refused(client):
    for host in ("evil.example", f"evil.example:{client.port}", "127.0.0.1", "127.0.0.1:1"):
        status, headers, _ = client.raw("GET", f"/?token={TOKEN}", Host=host, Cookie=client.cookie)
        assert status == 403 and "set-cookie" not in headers
    own = f"localhost:{client.port}"
    assert client.raw("GET", "/api/progress", Host=own, Cookie=client.cookie)[0] == 200


def test_other_sites_cannot_change_anything(client, files):
    before = said(files)
    body = {"encounter": 0, "individual": "Kesi", "answer": "same"}
    mine = {"Cookie": client.cookie, "X_Token": TOKEN}
    for headers in (
        {"Cookie": client.cookie},  # a form of another site has no header of ours
        {**mine, "X_Token": "wrong"},
        {**mine, "Origin": "http://evil.example"},
        {**mine, "Origin": "null"},
        {**mine, "Origin": f"http://127.0.0.1:{client.port + 1}"},
        {"X_Token": TOKEN},  # without the cookie
    ):
        assert client.raw("POST", "/api/answer", body, **headers)[0] == 403
    assert client.raw("GET", "/api/answer", **mine)[0] == 405
    assert said(files) == before


def test_every_answer_forbids_what_is_not_ours(client):
    for path in (f"/?token={TOKEN}", "/api/progress", "/static/review.css", "/photograph/0/thumb"):
        _, headers, _ = client.raw("GET", path, Cookie=client.cookie)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    _, _, page = client.raw("GET", "/", Cookie=client.cookie)
    text = page.decode()
    assert not re.search(r"https?://|\son\w+=|style=|<script(?! type=)", text)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
            "/static/texts.json",
        ),
        *("/photograph/..%2fherd.csv/full", "/photograph/99/full", "/photograph/-1/full"),
        *("/photograph/0/huge", "/photograph/0/full/..", "/photograph//etc/passwd"),
    ],
)
def test_nothing_is_served_by_its_path(client, path):
    status, _, data = client.raw("GET", path, Cookie=client.cookie)
    assert status == 404 and len(data) < 100


def test_mistakes_have_an_answer(client):
    for path, body, words in (
        ("/api/answer", {"encounter": 99, "individual": "Kesi", "answer": "same"}, "encounter 99"),
        ("/api/answer", {"encounter": 0, "individual": "Kesy", "answer": "same"}, "'Kesi'"),
        ("/api/answer", {"encounter": 0, "individual": "Kesi", "answer": "sane"}, "'same'"),
        ("/api/answer", {"encounter": 0, "lineup": ["Kesy"], "answer": "none"}, "'Kesi'"),
        ("/api/answer", {"encounter": 0, "answer": "none"}, "line-up"),
        ("/api/answer", {"encounter": [], "answer": {}}, "encounter"),
        ("/api/answer", [], "JSON object"),
        ("/api/answer", {"note": "x" * 2**17}, "too long"),
        ("/api/decide", {"kind": "merge", "first": "Kesi", "second": "Nobody"}, "'Nobody'"),
        ("/api/decide", {"kind": "split", "first": "Kesi", "rows": [10**6]}, "photographs"),
    ):
        status, answer = client.post(path, body)
        assert status == 400 and words in answer["error"]


def test_names_are_text_everywhere(tmp_path):
    names = (EVIL, "Mara", "Zuri")
    write_files(tmp_path, 2, names, visit=EVIL + " {}")
    with reviewing(tmp_path, by=EVIL) as client:
        status, question = client.get("/api/question")
        assert question["choice"]["title"] == EVIL and question["encounter"]["name"] == f"{EVIL} 0"
        assert client.answer(question, "same")[0] == 200
        for path in ("/", "/api/question", "/api/catalogue", "/api/progress"):
            _, headers, data = client.raw("GET", path, Cookie=client.cookie)
            if headers["content-type"].startswith("text/html"):
                assert EVIL.encode() not in data and b"<script>" not in data
            else:
                assert headers["content-type"] == "application/json"
        assert said(tmp_path)[0] == ("name", "new-0-0.jpg", EVIL, EVIL)


def test_photographs_are_scaled_and_say_nothing_of_where(tmp_path):
    write_files(tmp_path, 2)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x8825] = {1: "S", 2: (2.0, 30.0, 0.0)}
    exif[0x010E] = "34.8333"
    image = Image.new("RGB", (3000, 1000), "red")
    image.paste("blue", (0, 0, 1500, 1000))
    image.save(tmp_path / "known-0-left.jpg", exif=exif, comment=b"34.8333")
    (tmp_path / "known-0-right.jpg").unlink()
    (tmp_path / "known-1-left.jpg").write_bytes(b"no image")
    with reviewing(tmp_path) as client:
        for size, longest in (("full", 1600), ("thumb", 240)):
            _, _, data = client.raw("GET", f"/photograph/0/{size}", Cookie=client.cookie)
            shown = Image.open(io.BytesIO(data))
            assert max(shown.size) == longest and shown.height == pytest.approx(3 * shown.width, 2)
            assert shown.getpixel((10, 10))[2] > 200 > 50 > shown.getpixel((10, 10))[0]
            assert not shown.getexif() and b"34.8333" not in data
        for row, words in ((1, b"known-0-right.jpg"), (2, b"known-1-left.jpg")):
            status, headers, data = client.raw(
                "GET", f"/photograph/{row}/full", Cookie=client.cookie
            )
            assert status == 404 and words in data
            assert headers["content-type"].startswith("text/plain")
        assert client.get("/api/spots?first=0&second=3")[0] == 200
        assert client.get("/api/spots?first=0&second=2")[0] == 400


def test_a_photograph_of_200_megapixels_takes_little_memory(tmp_path):
    write_files(tmp_path, 1)
    Image.new("L", (16384, 12288), 128).save(tmp_path / "known-0-left.jpg", quality=20)
    with reviewing(tmp_path) as client:
        clear = Path("/proc/self/clear_refs")
        if clear.exists():
            clear.write_text("5")  # the peak is counted anew
        before = peak_memory()
        _, _, data = client.raw("GET", "/photograph/0/full", Cookie=client.cookie)
        assert Image.open(io.BytesIO(data)).size == (1600, 1200)
        assert peak_memory() - before < 100  # MiB; all of it is 192


def test_a_box_is_cut_out_of_what_was_decoded_smaller(tmp_path):
    write_files(tmp_path, 1)
    image = Image.new("RGB", (4000, 3000), "green")
    image.paste("red", (1000, 600, 3000, 1800))
    image.save(tmp_path / "boxed.jpg", quality=95)
    with open(tmp_path / "herd.csv", "a", encoding="utf-8") as file:
        file.write("boxed.jpg,Mara,,,,,,1000 600 2000 1200,,,,\n")
    with reviewing(tmp_path) as client:
        row = len(client.service.images) - 1
        for size in ("full", "thumb"):
            _, _, data = client.raw("GET", f"/photograph/{row}/{size}", Cookie=client.cookie)
            shown = Image.open(io.BytesIO(data)).convert("RGB")
            assert shown.width / shown.height == pytest.approx(2000 / 1200, 0.02)
            for corner in ((4, 4), (shown.width - 5, shown.height - 5)):
                assert shown.getpixel(corner)[0] > 180 > 60 > shown.getpixel(corner)[1]


def test_answers_are_on_the_disk_before_the_next_question_comes(tmp_path):
    write_files(tmp_path, 4)
    with reviewing(tmp_path) as client:
        _, question = client.get("/api/question")
        assert question["encounter"]["place"] == "North"
        for _ in range(2):  # sent twice, it counts once
            status, following = client.answer(question, "same", note="clear")
            assert status == 200 and following["encounter"]["number"] == 1
            assert said(tmp_path) == [("name", f"new-0-{m}.jpg", "Kesi", "Ada") for m in range(2)]
        _, south = client.answer(following, "skip", place="North")
        assert south["encounter"]["number"] == 2
        assert client.get("/api/question?besides=2&place=North")[1] == {"encounter": None}
        assert (
            client.get("/api/question?place=North&everything=true")[1]["encounter"]["number"] == 2
        )
        _, undone = client.post("/api/undo", {})
        assert (undone["undone"], undone["encounter"]["number"]) == ("skip", 1)
        _, listed = client.get("/api/candidates?encounter=0&start=0&count=9")
        assert [each["title"] for each in listed] == ["Kesi", "Mara", "Zuri"]
        assert listed[0]["answered"] == "same"
    with reviewing(tmp_path, by="Bo") as client:  # started again, by somebody else
        _, question = client.get("/api/question")
        assert question["encounter"]["number"] == 0 and not question["choice"]["answered"]
        client.answer(question, "different")
        _, progress = client.get("/api/progress")
        (found,) = progress["disagreements"]
        assert {each["by"]: each["answer"] for each in found["answers"]} == {
            **{"Ada": "same", "Bo": "different"}
        }
        assert progress["others"] == [0, 1] and progress["reviewers"] == {"Ada": 1, "Bo": 1}


def test_a_catalogue_is_looked_at_and_mended(tmp_path):
    write_files(tmp_path, 1)
    with reviewing(tmp_path) as client:
        decide = {"merge": ("Kesi", "Mara"), "rename": ("Kesi", "Kesi II")}
        for kind, (first, second) in decide.items():
            status, _ = client.post("/api/decide", {"kind": kind, "first": first, "second": second})
            assert status == 200
        _, found = client.get("/api/catalogue")
        counts = {each["name"]: each["count"] for each in found["individuals"]}
        assert counts == {"Kesi II": 4, "Zuri": 2} and found["unknown"] == 2
        _, kesi = client.get("/api/catalogue?name=Mara")
        assert [each["row"] for each in kesi["photographs"]] == [0, 1, 2, 3]
        split = {"kind": "split", "first": "Kesi II", "rows": [2, 3]}
        assert client.post("/api/decide", split)[0] == 200
        status, problem = client.post("/api/decide", split)  # by a page of before
        assert status == 400 and "is not Kesi II any more" in problem["error"]
        _, found = client.get("/api/catalogue?find=new")
        assert [each["count"] for each in found["individuals"]] == [2]
        client.post("/api/answer", {"encounter": 0, "individual": "Kesi", "answer": "same"})
        client.post("/api/decide", {"kind": "split", "first": "Kesi", "rows": []})
        _, history = client.get("/api/catalogue?name=Kesi")
        assert {"merge", "rename", "name"} <= {h["text"].split()[3] for h in history["history"]}
        with Evidence(tmp_path / "herd.csv.decisions.sqlite") as evidence:
            evidence.decide("name", "new-0-0.jpg", "Zuri", by="Bo")
        _, found = client.get("/api/catalogue")
        (conflict,) = found["conflicts"]
        assert "Zuri" in conflict["text"]
        client.post("/api/decide", {"kind": "undo", "first": str(conflict["decisions"][-1])})
        assert client.get("/api/catalogue")[1]["conflicts"] == []


def test_a_file_that_cannot_be_written_is_told_and_the_answer_may_be_sent_again(tmp_path):
    write_files(tmp_path, 2)
    with reviewing(tmp_path, wait=0.1) as client:
        _, question = client.get("/api/question")
        other = sqlite3.connect(tmp_path / "herd.csv.decisions.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, problem = client.answer(question, "same")
        assert status == 503 and "locked" in problem["error"]
        assert client.raw("GET", "/photograph/0/full", Cookie=client.cookie)[0] == 200
        other.execute("ROLLBACK")
        other.close()
        assert client.answer(question, "same")[0] == 200
    assert len(said(tmp_path)) == 2

    def read_only(service):
        service.evidence._connection.execute("PRAGMA query_only = ON")

    with reviewing(tmp_path, prepare=read_only) as client:
        _, question = client.get("/api/question")
        status, problem = client.answer(question, "same")
        assert status == 503 and "readonly" in problem["error"]


def test_the_command_says_what_is_wrong(files, tmp_path, capsys):
    common = ["review", "--catalogue", str(files / "herd.csv"), "--no-browser"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        own = ["--matches", str(files / "matches"), "--by", "Ada"]
        cases = [
            ([*own, "--port", port], rf"port {port} cannot be used.*leave --port out"),
            ([*own[:2], "--by", " "], "no name"),
            ([*own[:2], "--by", "Ada, second look"], "no name"),
            (["--matches", str(tmp_path), "--by", "Ada"], "matches.json"),
        ]
        for options, words in cases:
            assert main([*common, *options]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert re.search(words, line)


def test_pages_that_are_open_go_on_until_the_matches_are_written_anew(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: sockets[0].close())
    write_files(tmp_path, 2)

    def address():
        files = ["--catalogue", str(tmp_path / "herd.csv"), "--matches", str(tmp_path / "matches")]
        assert not main(["review", *files, "--by", "Ada", "--no-browser"])
        return re.search(r":(\d+)/\?token=(\S+)", capsys.readouterr().out).groups()

    before = address()
    assert address() == before
    write_files(tmp_path, 3)  # number 0 may be another encounter now
    port, token = address()
    assert token != before[1] and address() == (port, token)
