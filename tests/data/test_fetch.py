"""One file over HTTP, from a server that cuts connections, refuses or has changed its mind."""

import os
from collections import namedtuple

import pytest

from openanimals.data import download
from openanimals.data.download import DownloadError, fetch

BODY = os.urandom(300_000)


def test_fetches_a_file_once(server, tmp_path):
    server.files["a.bin"] = BODY
    for _ in range(2):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]
    assert server.log == [("a.bin", None, len(BODY))]


@pytest.mark.parametrize(
    ("arrived", "server_has", "log"),
    [
        # Of another process, then cut twice.
        (
            20_000,
            {"cuts": [80_000, 50_000]},
            [("bytes=20000-", 80_000), ("bytes=100000-", 50_000), ("bytes=150000-", 150_000)],
        ),
        (300_000, {}, [("bytes=300000-", 0)]),  # all had arrived but the rename
        (300_004, {}, [("bytes=300004-", 0), (None, 300_000)]),  # it has changed
        (None, {"ranges": False, "cuts": [100_000]}, [(None, 100_000), ("bytes=100000-", 300_000)]),
        (None, {"lengths": False}, [(None, 300_000)]),
        (None, {"codes": [503, 429]}, [(None, 0), (None, 0), (None, 300_000)]),  # it is busy
    ],
)
def test_goes_on_with_what_has_arrived(server, tmp_path, arrived, server_has, log):
    server.files["a.bin"] = BODY
    for name, value in server_has.items():
        setattr(server, name, value)
    if arrived is not None:
        (tmp_path / "a.bin.part").write_bytes((BODY + b"more")[:arrived])
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [(wanted, sent) for _, wanted, sent in server.log] == log


def test_server_without_ranges_that_never_gets_further_is_given_up(server, tmp_path):
    server.files["a.bin"] = BODY
    server.ranges, server.cuts = False, [100_000, 50_000, 100_000, 99_999, 100_000]
    with pytest.raises(DownloadError, match="the next try goes on there if the server can"):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert server.cuts == []


def test_wrong_size_is_an_error_that_keeps_what_came(server, tmp_path):
    server.files["a.bin"] = BODY
    server.cuts = [100_000, 0, 0, 0, 0]  # then it promises the rest and never sends any
    with pytest.raises(DownloadError, match="100000 of 300000 bytes.*a.bin.part keeps what"):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin.part"]
    assert len(server.log) == 5


def test_missing_file_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(DownloadError, match="absent.bin: HTTP Error 404"):
        fetch(server.url("absent.bin"), tmp_path / "a.bin")
    assert len(server.log) == 1
    assert not list(tmp_path.iterdir())


def test_no_server(server, tmp_path):
    with pytest.raises(DownloadError, match="refused"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin")


def test_no_room_is_said_before_the_first_byte(server, tmp_path, monkeypatch):
    server.files["a.bin"] = BODY
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(DownloadError, match="needs 0.3 MB more, and 0.0 MB are free"):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert len(server.log) == 1
    assert not (tmp_path / "a.bin.part").exists()
