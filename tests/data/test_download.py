import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from openanimals import cli
from openanimals.data import download
from openanimals.data.catalogue import CatalogueError
from openanimals.data.download import DownloadError
from openanimals.data.splits import paper_partition
from tests.data import wildlife_fixtures as fixtures
from tests.data.pictures import save_picture

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # in the package


@pytest.fixture
def root(tmp_path):
    return tmp_path / "datasets"


@pytest.fixture
def hyena(package, serve):
    """Serve a tiny HyenaID2022 to the real class, as the real archive is packed."""
    serve(fixtures.make_hyena, pack_tar, "hyena.coco.tar.gz", package.HyenaID2022, unknown=1)
    return package.HyenaID2022


@pytest.fixture
def serve(server, tmp_path, monkeypatch):
    """A function that makes a species, packs it and lets its class download that."""

    def make(maker, pack, name, cls, change=lambda folder: None, **counts):
        folder = maker(tmp_path / "made", **counts)
        change(folder)
        pack(folder, tmp_path / name)
        server.files[name] = (tmp_path / name).read_bytes()
        monkeypatch.setattr(cls, "url", server.url(name))

    return make


def pack_tar(folder, file):
    with tarfile.open(file, "w:gz") as archive:
        for entry in sorted(folder.iterdir()):
            archive.add(entry, entry.name)


def pack_zip(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for entry in sorted(folder.rglob("*")):
            archive.write(entry, entry.relative_to(folder))


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_prepares_a_species_and_only_verifies_it_then(package, hyena, server, root, capsys):
    before = os.getcwd(), os.environ["PATH"], package.utils.download_url
    catalogue = download.prepare("Animals-HyenaID2022", root)
    assert (os.getcwd(), os.environ["PATH"], package.utils.download_url) == before
    assert len(catalogue) == 31
    assert names(root) == [".openanimals", "HyenaID2022"]
    assert names(root / "HyenaID2022") == ["hyena.coco"]
    first = capsys.readouterr().out
    assert "Community Data License" in first
    assert "31 images, 6 individuals, 1 images of unknown ones" in first
    assert catalogue.digest() in first
    train, query, gallery = paper_partition(catalogue.identities)
    assert (len(train), len(query), len(gallery)) == (15, 6, 9)
    assert "individuals 3 train, 3 test; images 15 train, 6 query, 9 gallery" in first
    requests = len(server.log)
    download.prepare("HyenaID2022", root)
    assert len(server.log) == requests
    printed = capsys.readouterr().out
    assert printed.startswith(f"Animals-HyenaID2022: verifying what is in {root}/HyenaID2022\n")
    assert printed.splitlines()[-4:] == first.splitlines()[-4:]


def test_goes_on_with_an_interrupted_download(hyena, server, root):
    body = server.files["hyena.coco.tar.gz"]
    server.cuts = [1000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="by hand: get hyena.coco.tar.gz from https://lila"):
        download.prepare("HyenaID2022", root)
    assert names(root) == ["HyenaID2022.archives"]  # here an archive may be put by hand
    server.log.clear()
    download.prepare("HyenaID2022", root)
    assert server.log == [("hyena.coco.tar.gz", "bytes=1000-", len(body) - 1000)]


def test_goes_on_with_an_interrupted_unpacking(hyena, server, root, monkeypatch):
    def extract_some_and_die():
        Path("hyena.coco").mkdir()
        Path("hyena.coco/left-over").touch()
        os.remove("hyena.coco.tar.gz")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hyena, "_extract", extract_some_and_die)
        with pytest.raises(KeyboardInterrupt):
            download.prepare("HyenaID2022", root)
    assert names(root) == ["HyenaID2022.archives", "HyenaID2022.unpacking"]
    server.log.clear()
    download.prepare("HyenaID2022", root)
    assert server.log == []
    assert names(root) == [".openanimals", "HyenaID2022"]
    assert names(root / "HyenaID2022/hyena.coco") == ["annotations", "images"]


def test_archive_that_leaves_its_folder(hyena, server, root, tmp_path):
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../escaped"))
    server.files["hyena.coco.tar.gz"] = (tmp_path / "evil.tar.gz").read_bytes()
    with pytest.raises(DownloadError, match="'../../escaped' is outside its folder"):
        download.prepare("HyenaID2022", root)
    assert not list(tmp_path.rglob("escaped"))


def test_damaged_archive(hyena, server, root):
    body = bytearray(server.files["hyena.coco.tar.gz"])
    body[len(body) // 2] ^= 255
    server.files["hyena.coco.tar.gz"] = bytes(body)
    with pytest.raises(DownloadError, match="CRC check failed.*delete that file and run"):
        download.prepare("HyenaID2022", root)
    assert not (root / "HyenaID2022").exists()


def test_archive_without_all_images(package, serve, root):
    def lose_one(folder):
        (folder / "hyena.coco/images/train2022/000000000001.jpg").unlink()

    hyenas = fixtures.make_hyena, pack_tar, "hyena.coco.tar.gz", package.HyenaID2022, lose_one
    serve(*hyenas, identities=1, images=2)
    with pytest.raises(DownloadError, match="1 of 2 files are missing"):
        download.prepare("HyenaID2022", root)
    assert not (root / "HyenaID2022").exists()


def test_zip_and_what_the_class_does_after_it(package, server, serve, root):
    def add(folder):
        (folder / "wildlife_reidentification-main/Lion_Data_Zero").mkdir()

    server.ranges = server.lengths = False  # as GitHub's archives
    nyala = fixtures.make_nyala, pack_zip, "main.zip", package.NyalaData, add
    serve(*nyala, identities=2, images=3)
    assert len(download.prepare("NyalaData", root)) == 6
    assert names(root / "NyalaData/wildlife_reidentification-main") == ["Nyala_Data_Zero"]


def test_several_files_one_of_them_no_archive(package, server, root, tmp_path, monkeypatch):
    class MacaqueFaces(package.DownloadURL, package.WildlifeDataset):
        downloads = [(server.url("list"), "list.csv"), (server.url("faces"), "faces.zip")]

        def create_catalogue(self):
            return self.finalize_catalogue(pd.read_csv(Path(self.root) / "list.csv"))

    for number in range(3):
        save_picture(tmp_path / f"made/{number}.jpg")
    pack_zip(tmp_path / "made", tmp_path / "faces.zip")
    server.files["faces"] = (tmp_path / "faces.zip").read_bytes()
    rows = [f"{number},{number},faces/{number}.jpg" for number in range(3)]
    server.files["list"] = "\n".join(["image_id,identity,path", *rows]).encode()
    monkeypatch.setattr(package, "MacaqueFaces", MacaqueFaces)
    catalogue = download.prepare("MacaqueFaces", root)
    assert catalogue.identities == ["0", "1", "2"]
    assert names(root / "MacaqueFaces") == ["faces", "list.csv"]
    assert (root / "MacaqueFaces/list.csv").stat().st_nlink == 1


def test_disks_without_hard_links(hyena, root, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(download.os, "link", refuse)
    assert len(download.prepare("HyenaID2022", root)) == 31


def test_kaggle_that_is_not_set_up_and_its_archive_by_hand(package, root, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kaggle").touch(0o755)
    monkeypatch.setattr(download.sys, "executable", str(programs / "python"))
    archives = root / "SeaTurtleIDHeads.archives"
    for program in ("exit 1", "exit 0"):
        (programs / "kaggle").write_text(f"#!/bin/sh\n{program}\n")
        with pytest.raises(DownloadError) as error:
            download.prepare("SeaTurtleIDHeads", root)
        message = str(error.value)
        assert "Kaggle must be setup" in message
        assert "get seaturtleidheads.zip from https://www.kaggle.com/datasets/" in message
        assert f"put it into {archives}, and run" in message
    folder = fixtures.make_seaturtle(tmp_path / "made", identities=2, images=3)
    pack_zip(folder, archives / "seaturtleidheads.zip")
    assert len(download.prepare("SeaTurtleIDHeads", root)) == 6


def test_set_to_be_had_by_hand_only(package, root):
    with pytest.raises(DownloadError, match="manually.*\n.*by hand: get ELPephant"):
        download.prepare("ELPephants", root)


def test_data_that_is_there_but_incomplete_is_not_touched(package, root):
    folder = fixtures.make_hyena(root, identities=1, images=2)
    (folder / "hyena.coco/images/train2022/000000000001.jpg").write_bytes(b"")
    with pytest.raises(CatalogueError, match="1 image files .* are empty.*0001.jpg"):
        download.prepare("HyenaID2022", root)
    shutil.rmtree(folder / "hyena.coco/annotations")
    with pytest.raises(CatalogueError, match=f"move {folder} away"):
        download.prepare("HyenaID2022", root)
    assert names(folder / "hyena.coco") == ["images"]


def test_by_the_command_line_in_the_root_of_the_environment(package, root, monkeypatch, capsys):
    fixtures.make_hyena(root, identities=6, images=5)
    monkeypatch.setenv("REID_DATASETS", str(root))
    assert cli.main(["prepare", "Animals-HyenaID2022"]) == 0
    assert "images 15 train, 6 query, 9 gallery" in capsys.readouterr().out
    assert cli.main(["prepare", "Animals-WhaleShark", "--root", str(root / "new")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: Animals-WhaleShark: wildlife-datasets has no class 'WhaleShark'"
    )
    assert "did you mean 'WhaleSharkID'" in error and not (root / "new").exists()
