import io
import shutil
import tarfile
import zipfile

import pytest

from openanimals.data.download import ArchiveError, unpack

FILE, DIR, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def make_tar(file, *members):
    with tarfile.open(file, "w:gz") as archive:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o6755
            member.size = 1 if kind == FILE else 0
            archive.addfile(member, io.BytesIO(b"x"))
    return file


@pytest.mark.parametrize(
    "members",
    [
        [("../x", FILE, "")],
        [("a/../../x", FILE, "")],
        [("/tmp/x", FILE, "")],
        [("..\\x", FILE, "")],
        [("l", LINK, "/etc")],
        [("l", LINK, "../..")],
        [("l", HARD, "../x")],
        [("d", DIR, ""), ("l", LINK, "d"), ("l/x", FILE, "")],
        [("l/x", FILE, ""), ("./l", LINK, "d")],
        [("fifo", tarfile.FIFOTYPE, "")],
        [("device", tarfile.CHRTYPE, "")],
    ],
    ids=str,
)
def test_tar_that_is_refused_writes_nothing(tmp_path, members):
    archive = make_tar(tmp_path / "x.tar.gz", ("good", FILE, ""), *members)
    (tmp_path / "in").mkdir()
    with pytest.raises(ArchiveError, match="nothing was unpacked"):
        unpack(archive, tmp_path / "in", delete=True)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "x.tar.gz"]


def test_links_inside_stay_and_special_bits_go(tmp_path):
    archive = make_tar(tmp_path / "x.tar.gz", ("d/a", FILE, ""), ("d/b", LINK, "a"))
    unpack(archive, tmp_path / "in", delete=True)
    assert (tmp_path / "in/d/b").read_bytes() == b"x"
    assert (tmp_path / "in/d/a").stat().st_mode & 0o7000 == 0
    assert not archive.exists()


def test_a_python_that_cannot_check_a_tar_says_which_can(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "x.tar.gz", ("good", FILE, ""))
    monkeypatch.delattr(tarfile, "data_filter")  # as in Debian 12's Python, 3.11.2
    with pytest.raises(ArchiveError, match="takes Python 3.10.12, 3.11.4, 3.12 or later; this is"):
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "C:/x"])
def test_zip_outside_its_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("good", "x")
        archive.writestr(name, "x")
    with pytest.raises(ArchiveError, match="outside its folder"):
        unpack(tmp_path / "x.zip", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path, kind):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/zeros").write_bytes(bytes(10_000_000))
    archive = shutil.make_archive(str(tmp_path / "bomb"), kind, tmp_path / "made")
    with pytest.raises(ArchiveError, match="more than 100 times its size"):
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_tar_that_is_a_zip_too(tmp_path):
    archive = make_tar(tmp_path / "x.tar.gz", ("../x", FILE, ""))
    with zipfile.ZipFile(archive, "a") as innocent:
        innocent.writestr("good", "x")
    with pytest.raises(ArchiveError, match="outside its folder"):
        unpack(archive, tmp_path / "in")
