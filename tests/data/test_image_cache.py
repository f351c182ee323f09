"""Where ready images are kept, and what happens where they cannot be."""

import errno
import os
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch

from openanimals.data import pixel_files
from openanimals.data.image_cache import ImageCache
from openanimals.data.pixels import Pixels
from tests.data.pictures import as_pillow_reads

CPU = torch.device("cpu")
COUNT, ROW_BYTES = 10, 8 * 10 * 3
BYTES = COUNT * ROW_BYTES


@pytest.fixture
def cache(tmp_path):
    """A function that makes a cache in a folder of its own."""

    def make(mode, limit=10**9, device=CPU, build=True, folder=tmp_path / "cache"):
        return ImageCache(mode, limit, folder, device, build=build)

    return make


@pytest.mark.parametrize("mode", ["auto", "ram", "disk", "device"])
def test_images_are_read_once(mode, cache, noise, reads, tmp_path):
    own = cache(mode)
    pixels = own.open(noise)
    assert own.open(replace(noise)) is pixels
    assert sorted(reads) == list(range(COUNT))
    np.testing.assert_array_equal(pixels.images.numpy(), as_pillow_reads(noise))
    assert (tmp_path / "cache").exists() == (mode in ("auto", "disk"))


def test_nothing_is_kept_when_off_or_empty(cache, noise, reads, tmp_path):
    assert cache("off").open(noise) is None
    assert cache("auto").open(replace(noise, paths=[], boxes=[], masks=[])) is None
    assert not reads and not (tmp_path / "cache").exists()


def test_auto_may_be_told_to_use_only_what_is_there(cache, noise, reads):
    assert cache("auto", build=False).open(noise) is None
    assert not reads
    assert cache("disk", build=False).open(noise) is not None
    reads.clear()
    assert cache("auto", build=False).open(noise) is not None
    assert not reads


@pytest.mark.parametrize("mode", ["ram", "disk", "device"])
def test_more_than_the_limit_is_refused(mode, cache, noise, reads):
    with pytest.raises(ValueError, match=rf"CACHE is '{mode}', but 10 .* than INPUT.CACHE_LIMIT"):
        cache(mode, limit=BYTES - 1).open(noise)
    assert not reads
    other = replace(noise, exact=False)
    both = cache(mode, limit=2 * BYTES - 1)
    both.open(noise)
    with pytest.raises(ValueError, match="of this run before them"):
        both.open(other)


def test_auto_keeps_what_fits(cache, noise, caplog):
    own = cache("auto", limit=2 * BYTES - 1)
    assert own.open(noise) is not None
    other = replace(noise, exact=False)
    assert own.open(other) is None
    assert own.open(other) is None
    assert caplog.text.count("are more than INPUT.CACHE_LIMIT") == 1


def test_auto_leaves_half_of_the_free_disk(cache, noise, reads, monkeypatch, caplog):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * BYTES - 1))
    assert cache("auto").open(noise) is None
    assert not reads and "more than half of" in caplog.text
    assert cache("disk").open(noise) is not None  # asked for
    assert cache("auto").open(noise) is not None  # there already


def test_files_of_other_runs_make_room_but_not_those_of_this_one(cache, noise):
    views = [replace(noise, size=size) for size in ((8, 10), (10, 8), (16, 5), (20, 4))]
    before = cache("disk")
    before.open(views[0])
    before.open(views[1])
    own = cache("disk", limit=3 * BYTES)
    own.open(views[2])
    own.open(views[0])  # used again, so the second one is the oldest
    own.open(views[3])
    left = cache("auto", build=False)
    assert [left.open(view) is not None for view in views] == [True, False, True, True]


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
        if self.space < 0:
            fail(errno.ENOSPC)()
        return self.file.write(content)


@pytest.mark.parametrize("mode", ["auto", "disk"])
@pytest.mark.parametrize("when", ["reserving", "writing", "quota"])
def test_a_full_disk_is_told_and_costs_only_the_cache(
    mode,
    when,
    cache,
    noise,
    monkeypatch,
    caplog,
    tmp_path,
):
    if when == "writing":

        def limited(path, *mode):
            return FullDisk(open(path, *mode), space=4 * ROW_BYTES)

        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        monkeypatch.setattr(pixel_files, "open", limited, raising=False)
    else:
        number = errno.EDQUOT if when == "quota" else errno.ENOSPC
        monkeypatch.setattr(os, "posix_fallocate", fail(number), raising=False)
    own = cache(mode)
    assert own.open(noise) is None
    assert own.open(noise) is None
    assert caplog.text.count("no cache: ") == 1
    assert ("quota" if when == "quota" else "No space left on device") in caplog.text
    assert os.listdir(tmp_path / "cache") == [".lock"]


def test_a_folder_that_cannot_be_used(cache, noise, tmp_path, caplog):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"INPUT\.CACHE_DIR cannot be used: .*file"):
        cache("disk", folder=tmp_path / "file" / "cache").open(noise)
    assert cache("auto", folder=tmp_path / "file" / "cache").open(noise) is None
    assert "no cache: " in caplog.text


def test_a_batch_is_gathered_in_channels_last_memory():
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 7, 3), np.uint8)
    images.flags.writeable = False
    batch = Pixels.of(images, {}).take(torch.tensor([8, 0, 0, 3]))
    assert batch.shape == (4, 3, 5, 7) and batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1), images[[8, 0, 0, 3]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_gathered_on_the_device(cache, noise):
    pixels = cache("device", device=torch.device("cuda")).open(noise)
    batch = pixels.take(torch.tensor([3, 1]), pinned=True)
    assert batch.device.type == "cuda"
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1).cpu(), as_pillow_reads(noise)[[3, 1]])
    pinned = cache("ram").open(noise).take(torch.tensor([3, 1]), pinned=True)
    assert pinned.is_pinned() and torch.equal(pinned, batch.cpu())


def test_a_device_that_is_too_small_is_an_error(cache, noise, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(ValueError, match="INPUT.CACHE is 'device', but .* out of memory; set it"):
        cache("device").open(noise)
