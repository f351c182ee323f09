"""The image cache where a disk is full, a folder cannot be used, or a process dies."""

import errno
import multiprocessing
import os
import signal

import numpy as np
import pytest

from openanimals.data import cache as cache_module
from openanimals.data.dataset import ReIDDataset
from tests.data.pictures import (
    BYTES,
    COUNT,
    ROW_BYTES,
    as_pillow_reads,
    assert_holds,
    noise_dataset,
)


def fail(number):
    def failing(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return failing


class FullDisk:
    """A file that takes so many bytes and no more."""

    def __init__(self, file, space):
        self.file, self.space = file, space

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def fileno(self):
        return self.file.fileno()

    def write(self, content):
        self.space -= len(bytes(content))
        return self.file.write(content) if self.space >= 0 else fail(errno.ENOSPC)()


@pytest.mark.parametrize("mode", ["auto", "disk"])
@pytest.mark.parametrize("when", ["reserving", "writing", "quota"])
def test_a_full_disk_is_told_and_costs_only_the_cache(
    mode, when, cache, noise, monkeypatch, caplog
):
    if when == "writing":

        def limited(path, *mode):
            return FullDisk(open(path, *mode), space=4 * ROW_BYTES)

        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        monkeypatch.setattr(cache_module, "open", limited, raising=False)
    else:
        number = errno.EDQUOT if when == "quota" else errno.ENOSPC
        monkeypatch.setattr(os, "posix_fallocate", fail(number), raising=False)
    own = cache(mode)
    assert own.open(noise) is None
    assert own.open(noise) is None
    assert caplog.text.count("no cache: ") == 1
    assert ("quota" if when == "quota" else "No space left on device") in caplog.text
    assert set(os.listdir(own.folder)) <= {".lock"}


def test_a_folder_that_cannot_be_used(cache, noise, tmp_path, caplog):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"INPUT\.CACHE_DIR cannot be used: .*file"):
        cache("disk", folder=tmp_path / "file" / "cache").open(noise)
    assert cache("auto", folder=tmp_path / "file" / "cache").open(noise) is None
    assert "no cache: " in caplog.text


def test_a_folder_that_may_only_be_read_serves_as_well(built, cache, noise, reads, monkeypatch):
    for name in ("utime", "replace"):
        monkeypatch.setattr(os, name, fail(errno.EROFS))
    np.testing.assert_array_equal(cache().open(noise).images, as_pillow_reads(noise))
    assert not reads


@pytest.fixture
def start(cache, noise, tmp_path, monkeypatch):
    """A function that starts a process which opens the cache, and dies at a number of images.

    Each image that it decodes becomes a line of a log.
    """
    read = ReIDDataset.read
    monkeypatch.setattr(cache_module, "CHUNK", 4)

    def begin(kill_at=COUNT + 1):
        def watched(self, row):
            with open(tmp_path / "log", "a+") as file:
                file.write(f"{row}\n")
                file.seek(0)
                if kill_at <= len(file.readlines()):  # two threads may write before one counts
                    os.kill(os.getpid(), signal.SIGKILL)
            return read(self, row)

        def work():
            ReIDDataset.read = watched
            np.testing.assert_array_equal(cache().open(noise).images, as_pillow_reads(noise))

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        return process

    return begin


def test_killed_while_building_and_built_by_the_next(noise, cache, reads, start, tmp_path):
    killed = start(kill_at=7)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert set(os.listdir(tmp_path / "cache")) == {".lock", ".unfinished"}
    assert_holds(cache, noise, reads, again=True)


def test_two_processes_build_it_once(noise, cache, reads, start, tmp_path):
    both = [start(), start()]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    log = (tmp_path / "log").read_text().split()
    assert sorted(map(int, log)) == list(range(COUNT))
    assert_holds(cache, noise, reads, again=False)


# Room in the folder


def test_files_not_used_for_longest_make_room_but_not_those_of_this_run(cache, folder):
    datasets = [noise_dataset(folder, size) for size in ((8, 10), (10, 8), (16, 5), (20, 4))]
    before = cache()
    before.open(datasets[0])
    before.open(datasets[1])
    size = max(path.stat().st_size for path in before.folder.glob("*.images"))
    own = cache(limit=2 * size + BYTES)
    own.open(datasets[2])
    own.open(datasets[0])  # used again, so the second one is the oldest
    own.open(datasets[3])
    assert len(list(own.folder.glob("*.images"))) == 3
    left = cache("auto", build=False)
    assert [left.open(dataset) is not None for dataset in datasets] == [True, False, True, True]


def test_files_of_others_in_the_folder_stay_as_they_are(cache, noise, tmp_path):
    folder = tmp_path / "cache"
    names = ["cow.images", "cow.json", ".cow.jpg.x.tmp", "a" * 31 + ".images"]
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)
    (folder / ".unfinished").touch()  # of a process that was killed
    cache(limit=BYTES).open(noise)
    assert all((folder / name).read_text() == name for name in names)
    made = f"{noise.digest()[:32]}.images"
    assert set(os.listdir(folder)) - {".lock"} == {*names, made}
