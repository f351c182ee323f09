"""The image cache gives what reading gives now, whatever happened to its files or photographs."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from openanimals.data import dataset as dataset_module
from openanimals.data.cache import CachedImages
from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError, read_image
from tests.data.pictures import (
    BYTES,
    COUNT,
    as_pillow_reads,
    assert_holds,
    noise_dataset,
    save_noise,
)


@pytest.mark.parametrize("mode", ["auto", "ram", "disk", "device"])
def test_images_are_read_once(mode, cache, folder, noise, reads, tmp_path):
    own = cache(mode)
    found = own.open(noise)
    assert own.open(noise_dataset(folder)) is found
    assert sorted(reads) == list(range(COUNT))
    np.testing.assert_array_equal(found.images.numpy(), as_pillow_reads(noise))
    assert (tmp_path / "cache").exists() == (mode in ("auto", "disk"))


def test_nothing_is_kept_when_off_or_empty(cache, noise, reads, tmp_path):
    assert cache("off").open(noise) is None
    (tmp_path / "empty").mkdir()
    assert cache("auto").open(noise_dataset(tmp_path / "empty")) is None
    assert not reads and not (tmp_path / "cache").exists()


def test_auto_may_be_told_to_use_only_what_is_there(cache, noise, reads):
    assert cache("auto", build=False).open(noise) is None
    assert not reads
    assert cache("disk", build=False).open(noise) is not None
    reads.clear()
    assert cache("auto", build=False).open(noise) is not None
    assert not reads


@pytest.mark.parametrize("mode", ["auto", "ram", "disk", "device"])
def test_more_than_the_limit_is_refused_but_by_auto_told(mode, cache, folder, noise, caplog):
    other, own = noise_dataset(folder, exact=False), cache(mode, limit=2 * BYTES - 1)
    assert own.open(noise) is not None
    if mode == "auto":
        assert own.open(other) is None and own.open(other) is None
        assert caplog.text.count("are more than INPUT.CACHE_LIMIT") == 1
    else:
        message = rf"CACHE is '{mode}', but 10 .* of this run before .* than INPUT.CACHE_LIMIT"
        with pytest.raises(ValueError, match=message):
            own.open(other)


def test_auto_leaves_half_of_the_free_disk(cache, noise, reads, monkeypatch, caplog):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * BYTES - 1))
    assert cache("auto").open(noise) is None
    assert not reads and "more than half of" in caplog.text
    assert cache("disk").open(noise) is not None  # asked for
    assert cache("auto").open(noise) is not None  # there already


# What the files are of


def test_boxes_and_masks_count(cache, folder, noise, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.eye(12, 9, dtype=np.uint8)).save(mask)
    cropped = noise_dataset(folder, bbox=[(1, 2, 5, 6)] + [None] * (COUNT - 1))
    masked = noise_dataset(folder, masked=True, mask=[None, str(mask)] + [None] * (COUNT - 2))
    found = {}
    for name, dataset in {"plain": noise, "cropped": cropped, "masked": masked}.items():
        found[name] = cache().open(dataset).images.numpy()
        np.testing.assert_array_equal(found[name], as_pillow_reads(dataset))
    same = {name: (found[name] == found["plain"]).all((1, 2, 3)) for name in found}
    assert np.flatnonzero(~same["cropped"]).tolist() == [0]
    assert np.flatnonzero(~same["masked"]).tolist() == [1]
    Image.fromarray(1 - np.eye(12, 9, dtype=np.uint8)).save(mask)
    assert cache("auto", build=False).open(masked) is None, "another mask in the same file"


def test_other_settings_and_versions_are_another_file(folder, noise, tmp_path, monkeypatch):
    fast = noise_dataset(folder, exact=False)
    datasets = [
        *(noise, fast, noise_dataset(folder, (10, 8))),
        noise_dataset(folder, bbox=[(0, 0, 3, 3)] + [None] * (COUNT - 1)),
        noise_dataset(folder, masked=True, mask="ellipse"),
        noise_dataset(folder.rename(tmp_path / "elsewhere")),
    ]
    digests = [dataset.digest() for dataset in datasets]
    assert len(set(digests)) == len(datasets)
    assert noise_dataset(tmp_path / "elsewhere", mask="ellipse").digest() == digests[-1]  # unused
    monkeypatch.setattr(dataset_module, "version", lambda name: "another")
    assert (noise.digest() == digests[0]) and (fast.digest() != digests[1])
    monkeypatch.setattr(PIL, "__version__", "another")
    assert noise.digest() != digests[0]


@pytest.mark.parametrize("length", [0, 1, BYTES // 2, BYTES, BYTES + 9])
def test_a_file_that_is_cut_short_is_made_again(built, cache, noise, reads, length, caplog):
    caplog.set_level("INFO")
    os.truncate(built, length)
    assert cache("auto", build=False).open(noise) is None
    assert_holds(cache, noise, reads, again=True)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("change", ["content", "length", "time", "gone"])
def test_a_changed_photograph_makes_the_file_again(built, cache, noise, reads, change, caplog):
    caplog.set_level("INFO")
    path, before = Path(noise.paths[4]), os.stat(noise.paths[4])
    old = cache().open(noise)
    first = old.images.clone()
    if change == "gone":
        path.unlink()
    elif change == "time":
        os.utime(path, ns=(5, 5))
    else:
        save_noise(path, seed=99, shape=(12, 9) if change == "content" else (40, 30))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert (os.stat(path).st_size == before.st_size) == (change == "content")
    found = assert_holds(cache, noise, reads, again=True)
    assert f"1 files have changed since, such as {path}" in caplog.text
    assert ("no such file" in found.unreadable.get(4, "")) == (change == "gone")
    np.testing.assert_array_equal(old.images, first)  # who has it open keeps it


def test_unreadable_images_are_black_and_told_until_they_can_be_read(cache, noise, reads):
    Path(noise.paths[1]).write_bytes(b"no image")
    Path(noise.paths[6]).unlink()
    found = cache().open(noise)
    for row in (1, 6):
        with pytest.raises(ValueError) as caught:
            read_image(noise.paths[row])
        assert found.unreadable[row] == str(caught.value)
    assert found.unreadable.keys() == {1, 6}
    np.testing.assert_array_equal(found.images.numpy(), as_pillow_reads(noise))
    assert cache().open(noise).unreadable == found.unreadable
    for row in (1, 6):
        save_noise(Path(noise.paths[row]), seed=row)
    assert not assert_holds(cache, noise, reads, again=True).unreadable


def test_an_image_that_could_not_be_read_for_a_moment_is_tried_again(cache, noise, monkeypatch):
    def fails(self, row):
        if row == 5:
            raise ImageError("the disk is away")
        return read(self, row)

    read = ReIDDataset.read
    with monkeypatch.context() as patch:
        patch.setattr(ReIDDataset, "read", fails)
        assert cache().open(noise).unreadable == {5: "the disk is away"}
        assert cache().open(noise).unreadable == {5: "the disk is away"}
    assert not cache().open(noise).unreadable


# Batches


def test_a_batch_is_gathered():
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 7, 3), np.uint8)
    batch = CachedImages(torch.from_numpy(images), {}).take(torch.tensor([8, 0, 0, 3]))
    np.testing.assert_array_equal(batch, images[[8, 0, 0, 3]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_gathered_on_the_device(cache, noise):
    batch = cache("device", device="cuda").open(noise).take(torch.tensor([3, 1]), True)
    assert batch.device.type == "cuda"
    np.testing.assert_array_equal(batch.cpu(), as_pillow_reads(noise)[[3, 1]])
    pinned = cache("ram").open(noise).take(torch.tensor([3, 1]), pinned=True)
    assert pinned.is_pinned() and torch.equal(pinned, batch.cpu())


def test_a_device_that_is_too_small_is_an_error(cache, noise, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(ValueError, match="INPUT.CACHE is 'device', but .* out of memory.; set it"):
        cache("device").open(noise)


def test_images_that_memory_cannot_hold_are_an_error(cache, noise, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *_, **__: empty(10**15))
    with pytest.raises(
        ValueError, match="INPUT.CACHE is 'ram', but a cache .* memory.*; set it to"
    ):
        cache("ram").open(noise)
