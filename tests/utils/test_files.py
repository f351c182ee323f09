import os

import pytest

from openanimals.utils.errors import FileError
from openanimals.utils.files import atomic_path, read_json, remove_leftovers


def test_file_appears_whole_with_its_folder(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("content")
        assert not target.exists()
        assert temporary.parent == target.parent  # so that a rename suffices
    assert target.read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_error_inside_leaves_the_old_file_alone(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("crash")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_any_new_file(tmp_path):
    plain, target = tmp_path / "plain", tmp_path / "atomic"
    plain.touch()
    with atomic_path(target) as temporary:
        temporary.write_text("")
    assert target.stat().st_mode == plain.stat().st_mode


def test_renamed_only_after_a_flush_to_the_disk(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("flush") or sync(file))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("rename") or replace(*names))
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("")
    assert done == ["flush", "rename"]


def test_leftovers_of_a_kill_can_be_removed(tmp_path):
    killed = atomic_path(tmp_path / "file.txt")
    killed.__enter__().write_text("half")  # and nobody ever leaves the block
    (tmp_path / "file.txt").write_text("old")
    (tmp_path / ".hidden").touch()
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file.txt", ".hidden"}


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"[1]", b"null", b'{"b": 1}', b"\xff", b"[" * 9999]
)
def test_damaged_json_names_its_file(content, tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b'{"a": 1, "b": 2}')
    assert read_json(path, "a") == {"a": 1, "b": 2}
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"run\.json is damaged: .*expected an object with a"):
        read_json(path, "a")
