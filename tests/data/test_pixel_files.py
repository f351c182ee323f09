"""Ready images in a file are what reading gives now, whatever happened to file or photographs."""

import json
import os
import signal
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from openanimals.data import photographs
from openanimals.data.image_io import ImageError, read_image
from openanimals.data.photographs import Photographs
from openanimals.data.pixel_files import PixelFile, make_room
from tests import processes
from tests.data.pictures import as_pillow_reads, save_noise

COUNT, ROW_BYTES = 10, 8 * 10 * 3
LIMIT = 10**9
SCRIPT = [sys.executable, "tests/data/cache_process.py"]


@pytest.fixture
def file(noise, tmp_path):
    return PixelFile(noise, tmp_path / "cache")


@pytest.fixture
def built(file, reads):
    """A file that is whole; the reads of building it are forgotten."""
    file.build(LIMIT)
    reads.clear()
    return file


def assert_holds(file, pixels):
    """The images are right, also for the next one who opens them, and nothing else is left."""
    again = file.open()
    for found in (pixels, again):
        np.testing.assert_array_equal(found.images.numpy(), as_pillow_reads(file.photographs))
    assert again.unreadable == pixels.unreadable
    assert sorted(os.listdir(file.path.parent)) == [".lock", file.index.name, file.path.name]


def test_images_are_those_that_pillow_reads(file, noise, reads):
    assert file.open() is None and not file.path.parent.exists()
    pixels = file.build(LIMIT)
    assert sorted(reads) == list(range(COUNT))
    reads.clear()
    assert_holds(file, pixels)
    assert_holds(file, file.build(LIMIT))
    assert not reads and not pixels.unreadable


def test_boxes_and_masks_count(noise, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.eye(12, 9, dtype=np.uint8)).save(mask)
    cropped = replace(noise, boxes=[(1, 2, 5, 6)] + [None] * (COUNT - 1))
    masked = replace(noise, masks=[None, str(mask)] + [None] * (COUNT - 2))
    images = {}
    for name, view in {"plain": noise, "cropped": cropped, "masked": masked}.items():
        images[name] = PixelFile(view, tmp_path / "cache").build(LIMIT).images.numpy()
    same = {name: (images[name] == images["plain"]).all((1, 2, 3)) for name in images}
    assert np.flatnonzero(~same["cropped"]).tolist() == [0]
    assert np.flatnonzero(~same["masked"]).tolist() == [1]
    np.testing.assert_array_equal(images["cropped"], as_pillow_reads(cropped))
    Image.fromarray(1 - np.eye(12, 9, dtype=np.uint8)).save(mask)
    assert PixelFile(masked, tmp_path / "cache").open() is None, "another mask in the same file"


def test_other_settings_are_another_file(noise, tmp_path):
    others = [
        replace(noise, size=(10, 8)),
        replace(noise, exact=False),
        replace(noise, boxes=[(0, 0, 3, 3)] + [None] * (COUNT - 1)),
        replace(noise, masks=["ellipse"] + [None] * (COUNT - 1)),
        replace(noise, paths=noise.paths[::-1]),
    ]
    assert len({PixelFile(view, tmp_path).path for view in [noise, *others]}) == len(others) + 1


def test_another_version_of_what_reads_is_another_file(noise, tmp_path, monkeypatch):
    fast = replace(noise, exact=False)
    before = [PixelFile(view, tmp_path).path for view in (noise, fast)]
    monkeypatch.setattr(photographs, "version", lambda name: "another")
    assert PixelFile(noise, tmp_path).path == before[0]
    assert PixelFile(fast, tmp_path).path != before[1]
    monkeypatch.setattr(PIL, "__version__", "another")
    assert PixelFile(noise, tmp_path).path != before[0]


def test_a_file_under_the_wrong_name_is_made_again(built, noise, caplog):
    other = PixelFile(replace(noise, size=(10, 8)), built.path.parent)
    built.path.rename(other.path)
    built.index.rename(other.index)
    assert other.open() is None
    assert_holds(other, other.build(LIMIT))
    assert f"{other.path} is made again: its index is of other settings" in caplog.text


@pytest.mark.parametrize("length", [0, 1, ROW_BYTES * COUNT // 2, ROW_BYTES * COUNT + 1])
def test_a_file_of_another_length_is_made_again(built, reads, length, caplog):
    os.truncate(built.path, length)
    assert built.open() is None
    assert_holds(built, built.build(LIMIT))
    assert sorted(reads) == list(range(COUNT))
    assert f"is made again: it has {length} bytes; expected {ROW_BYTES * COUNT}" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"images": [[1]]}', "\x00"])
def test_a_damaged_index_is_made_again(built, reads, text, caplog):
    built.index.write_text(text)
    assert built.open() is None
    assert_holds(built, built.build(LIMIT))
    assert sorted(reads) == list(range(COUNT))
    assert "is made again: its index is damaged" in caplog.text


def test_half_of_a_pair_is_made_again(built):
    for part in (built.index, built.path):
        part.unlink()
        assert built.open() is None
        assert_holds(built, built.build(LIMIT))


def test_a_damaged_image_is_read_again(built, reads, caplog):
    with open(built.path, "r+b") as stored:
        stored.seek(3 * ROW_BYTES + 7)
        byte = stored.read(1)[0]
        stored.seek(-1, os.SEEK_CUR)
        stored.write(bytes([byte ^ 1]))
    assert built.open() is None
    assert_holds(built, built.build(LIMIT))
    assert reads == [3]
    path = built.photographs.paths[3]
    assert f"1 images are damaged in the cache and read again, such as {path}" in caplog.text


@pytest.mark.parametrize("shape", [(12, 9), (40, 30)], ids=["same length", "another length"])
def test_a_changed_photograph_is_read_again(built, reads, shape, caplog):
    path, before = built.photographs.paths[4], os.stat(built.photographs.paths[4])
    save_noise(Path(path), seed=99, shape=shape)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (os.stat(path).st_size == before.st_size) == (shape == (12, 9))
    old = built.path.stat().st_ino
    assert built.open() is None
    assert_holds(built, built.build(LIMIT))
    assert reads == [4] and built.path.stat().st_ino != old
    assert f"1 images have changed since they were cached and are read again, such as {path}" in (
        caplog.text
    )


def test_who_has_the_old_file_open_keeps_its_images(built):
    before = built.open()
    first = before.images.clone()
    save_noise(Path(built.photographs.paths[0]), seed=99, shape=(30, 30))
    assert not np.array_equal(built.build(LIMIT).images[0], first[0])
    np.testing.assert_array_equal(before.images, first)


def test_a_touched_photograph_is_hashed_once(built, reads):
    path = built.photographs.paths[2]
    os.utime(path, ns=(5, 5))
    assert_holds(built, built.open())
    assert not reads
    _, [[_, time_of_change, _]], _ = json.loads(built.index.read_text())["images"][2]
    assert time_of_change == 5


def test_unreadable_images_are_black_and_told_until_they_can_be_read(file, noise, reads):
    Path(noise.paths[1]).write_bytes(b"no image")
    Path(noise.paths[6]).unlink()
    pixels = file.build(LIMIT)
    assert_holds(file, pixels)
    assert pixels.unreadable.keys() == {1, 6}
    for row in (1, 6):
        with pytest.raises(ValueError) as caught:
            read_image(noise.paths[row])
        assert pixels.unreadable[row] == str(caught.value)
    save_noise(Path(noise.paths[1]), seed=1)
    save_noise(Path(noise.paths[6]), seed=6)
    assert file.open() is None
    reads.clear()
    pixels = file.build(LIMIT)
    assert set(reads) == {1, 6} and not pixels.unreadable
    assert_holds(file, pixels)


def test_an_image_that_could_not_be_read_for_a_moment_is_tried_again(file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Photographs, "read", fails_at(5, Photographs.read))
        assert file.build(LIMIT).unreadable == {5: "the disk is away"}
    assert file.open() is None
    pixels = file.build(LIMIT)
    assert not pixels.unreadable
    assert_holds(file, pixels)


def fails_at(broken, read):
    def failing(self, row):
        if row == broken:
            raise ImageError("the disk is away")
        return read(self, row)

    return failing


def test_a_photograph_that_vanished_is_told(built):
    os.unlink(built.photographs.paths[7])
    assert built.open() is None
    assert "no such file" in built.build(LIMIT).unreadable[7]


def test_a_folder_that_may_only_be_read_serves_as_well(built, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError("read-only")

    os.utime(built.photographs.paths[2], ns=(5, 5))
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    np.testing.assert_array_equal(built.open().images, as_pillow_reads(built.photographs))


def test_killed_while_building_and_built_by_the_next(noise, file, tmp_path):
    arguments = [*SCRIPT, str(tmp_path / "noise"), str(file.path.parent), str(tmp_path / "log")]
    killed = processes.run(arguments, KILL_AT="7")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = os.listdir(file.path.parent)
    assert any(name.endswith(".tmp") for name in left) and file.path.name not in left
    assert file.open() is None
    assert_holds(file, file.build(LIMIT))


def test_two_processes_build_it_once(noise, file, tmp_path):
    arguments = [*SCRIPT, str(tmp_path / "noise"), str(file.path.parent), str(tmp_path / "log")]
    finished = processes.run_together(arguments, [{}, {}])
    assert [process.returncode for process in finished] == [0, 0], finished[0].stderr
    checksum = str(zlib.crc32(as_pillow_reads(noise).tobytes()))
    assert [process.stdout.strip() for process in finished] == [checksum, checksum]
    log = (tmp_path / "log").read_text().split()
    assert sorted(map(int, log)) == list(range(COUNT))
    assert_holds(file, file.open())


def test_room_is_made_by_the_files_not_used_for_longest(tmp_path):
    old, kept, used, new, target = (tmp_path / f"{n:032x}.pixels" for n in range(5))
    for number, path in enumerate([old, kept, used, new]):
        path.write_bytes(bytes(100))
        path.with_suffix(".json").touch()
        os.utime(path, ns=(0, number))
    os.utime(old.with_suffix(".json"), ns=(0, 99))

    def left(needed, limit):
        make_room(target, needed, limit, in_use={kept})
        paths = set(tmp_path.glob("*.pixels"))
        assert {path.with_suffix(".json") for path in paths} == set(tmp_path.glob("*.json"))
        return paths

    assert left(100, 500) == {old, kept, used, new}
    assert left(101, 500) == {kept, used, new}
    assert left(199, 300) == {kept}
    assert left(200, 300) == {kept}


def test_files_of_others_in_the_folder_stay_as_they_are(file):
    names = ["cow.pixels", "cow.json", ".cow.jpg.x.tmp", ".lock", "a" * 31 + ".pixels"]
    folder = file.path.parent
    (folder / ".unpacked.tmp").mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name)
    (folder / f".{file.path.name}.x.tmp").touch()  # ours, of a process that was killed
    file.build(limit=file.photographs.nbytes)
    assert all((folder / name).read_text() == name for name in names)
    ours = {file.path.name, file.index.name, ".unpacked.tmp"}
    assert set(os.listdir(folder)) == {*names, *ours}


def test_opening_counts_as_use(built):
    os.utime(built.path, ns=(5, 5))
    built.open()
    assert built.path.stat().st_mtime_ns > 5
