"""The image cache gives what reading gives now, whatever happened to its files or photographs."""

import errno
import json
import os
import shutil
import signal
import sys
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from openanimals.data import cache as cache_module
from openanimals.data import dataset as dataset_module
from openanimals.data.cache import CachedImages, ImageCache, make_room
from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError, read_image
from tests import processes
from tests.data.cache_process import noise_dataset
from tests.data.pictures import save_noise

CPU = torch.device("cpu")
COUNT, ROW_BYTES = 10, 8 * 10 * 3
BYTES = COUNT * ROW_BYTES
SCRIPT = [sys.executable, "tests/data/cache_process.py"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with ten photographs of noise, each another; all files have one length."""
    for number in range(COUNT):
        save_noise(tmp_path / "noise" / f"{number}.png", seed=number)
    return tmp_path / "noise"


@pytest.fixture
def noise(folder) -> ReIDDataset:
    return noise_dataset(folder)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The rows that were decoded, in any order."""
    rows, read = [], ReIDDataset.read

    def watched(self, row):
        rows.append(row)
        return read(self, row)

    monkeypatch.setattr(ReIDDataset, "read", watched)
    return rows


@pytest.fixture
def cache(tmp_path):
    """A function that makes a cache in a folder of its own."""

    def make(mode="disk", limit=10**9, device=CPU, build=True, folder=tmp_path / "cache"):
        return ImageCache(mode, limit, folder, device, build=build)

    return make


@pytest.fixture
def built(cache, noise, reads, tmp_path) -> Path:
    """The file of a cache on disk; the reads of building it are forgotten."""
    cache().open(noise)
    reads.clear()
    return next((tmp_path / "cache").glob("*.images"))


def as_pillow_reads(dataset: ReIDDataset) -> np.ndarray:
    """Return the images ``[N, H, W, 3]``, black where Pillow cannot read them."""
    images = np.zeros((len(dataset), *dataset.size, 3), np.uint8)
    for row, path in enumerate(dataset.paths):
        try:
            images[row] = read_image(path, dataset.size, dataset.boxes[row], dataset.masks[row])
        except ImageError:
            continue
    return images


def assert_holds(cache, dataset, reads, *, again):
    """The next one to open gets the right images and reads all of them, or none."""
    reads.clear()
    found = cache().open(dataset)
    assert sorted(reads) == (list(range(COUNT)) if again else [])
    reads.clear()
    for images in (found, cache().open(dataset)):
        np.testing.assert_array_equal(images.images.numpy(), as_pillow_reads(dataset))
        assert images.unreadable == found.unreadable
    assert set(reads) == set(found.unreadable)  # which are tried each time
    names = sorted(os.listdir(cache().folder))
    assert [name.split(".")[-1] for name in names if name != ".lock"] == ["images", "json"]
    return found


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


@pytest.mark.parametrize("mode", ["ram", "disk", "device"])
def test_more_than_the_limit_is_refused(mode, cache, folder, noise, reads):
    with pytest.raises(ValueError, match=rf"CACHE is '{mode}', but 10 .* than INPUT.CACHE_LIMIT"):
        cache(mode, limit=BYTES - 1).open(noise)
    assert not reads
    both = cache(mode, limit=2 * BYTES - 1)
    both.open(noise)
    with pytest.raises(ValueError, match="of this run before them"):
        both.open(noise_dataset(folder, exact=False))


def test_auto_keeps_what_fits(cache, folder, noise, caplog):
    own = cache("auto", limit=2 * BYTES - 1)
    assert own.open(noise) is not None
    for _ in range(2):
        assert own.open(noise_dataset(folder, exact=False)) is None
    assert caplog.text.count("are more than INPUT.CACHE_LIMIT") == 1


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


@pytest.mark.parametrize("length", [0, 1, BYTES // 2, BYTES + 1])
def test_a_file_of_another_length_is_made_again(built, cache, noise, reads, length, caplog):
    caplog.set_level("INFO")
    os.truncate(built, length)
    assert_holds(cache, noise, reads, again=True)
    assert f"it has {length} bytes instead of {BYTES}" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 1}', '{"files": {}}', "\x00", None])
def test_a_damaged_or_missing_list_is_made_again(built, cache, noise, reads, text):
    listed = built.with_suffix(".json")
    listed.unlink() if text is None else listed.write_text(text)
    assert cache("auto", build=False).open(noise) is None
    assert_holds(cache, noise, reads, again=True)


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


# Disks that are full, folders that cannot be used, processes that die


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


def test_killed_while_building_and_built_by_the_next(noise, cache, reads, folder, tmp_path):
    arguments = [*SCRIPT, str(folder), str(tmp_path / "cache"), str(tmp_path / "log")]
    killed = processes.run(arguments, KILL_AT="7")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = os.listdir(tmp_path / "cache")
    assert any(name.endswith(".tmp") for name in left)
    assert not any(name.endswith(".images") for name in left)
    assert_holds(cache, noise, reads, again=True)


def test_two_processes_build_it_once(noise, cache, reads, folder, tmp_path):
    arguments = [*SCRIPT, str(folder), str(tmp_path / "cache"), str(tmp_path / "log")]
    finished = processes.run_together(arguments, [{}, {}])
    assert [process.returncode for process in finished] == [0, 0], finished[0].stderr
    checksum = str(zlib.crc32(as_pillow_reads(noise).tobytes()))
    assert [process.stdout.strip() for process in finished] == [checksum, checksum]
    log = (tmp_path / "log").read_text().split()
    assert sorted(map(int, log)) == list(range(COUNT))
    assert_holds(cache, noise, reads, again=False)


# Room in the folder


def test_files_of_other_runs_make_room_but_not_those_of_this_one(cache, folder):
    datasets = [noise_dataset(folder, size) for size in ((8, 10), (10, 8), (16, 5), (20, 4))]
    before = cache()
    before.open(datasets[0])
    before.open(datasets[1])
    own = cache(limit=3 * BYTES)
    own.open(datasets[2])
    own.open(datasets[0])  # used again, so the second one is the oldest
    own.open(datasets[3])
    left = cache("auto", build=False)
    assert [left.open(dataset) is not None for dataset in datasets] == [True, False, True, True]


def test_room_is_made_by_the_files_not_used_for_longest(tmp_path):
    old, kept, used, new, target = (tmp_path / f"{n:032x}.images" for n in range(5))
    for number, path in enumerate([old, kept, used, new]):
        path.write_bytes(bytes(100))
        path.with_suffix(".json").touch()
        os.utime(path, ns=(0, number))

    def left(needed, limit):
        make_room(target, needed, limit, in_use={kept})
        paths = set(tmp_path.glob("*.images"))
        assert {path.with_suffix(".json") for path in paths} == set(tmp_path.glob("*.json"))
        return paths

    assert left(100, 500) == {old, kept, used, new}
    assert left(101, 500) == {kept, used, new}
    assert left(199, 300) == {kept}
    assert left(200, 300) == {kept}


def test_files_of_others_in_the_folder_stay_as_they_are(cache, noise, tmp_path):
    folder = tmp_path / "cache"
    names = ["cow.images", "cow.json", ".cow.jpg.x.tmp", "a" * 31 + ".images"]
    (folder / ".unpacked.tmp").mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name)
    ours = f"{noise.digest()[:32]}.images"
    (folder / f".{ours}.x.tmp").touch()  # of a process that was killed
    cache(limit=BYTES).open(noise)
    assert all((folder / name).read_text() == name for name in names)
    made = {ours, ours.replace("images", "json"), ".unpacked.tmp"}
    assert set(os.listdir(folder)) - {".lock"} == {*names, *made}
    assert json.loads((folder / ours).with_suffix(".json").read_text())["unreadable"] == {}


def test_opening_counts_as_use(built, cache, noise):
    os.utime(built, ns=(5, 5))
    cache().open(noise)
    assert built.stat().st_mtime_ns > 5


# Batches


def test_a_batch_is_gathered():
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 7, 3), np.uint8)
    batch = CachedImages(torch.from_numpy(images), {}).take(torch.tensor([8, 0, 0, 3]))
    np.testing.assert_array_equal(batch, images[[8, 0, 0, 3]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_gathered_on_the_device(cache, noise):
    batch = (
        cache("device", device=torch.device("cuda")).open(noise).take(torch.tensor([3, 1]), True)
    )
    assert batch.device.type == "cuda"
    np.testing.assert_array_equal(batch.cpu(), as_pillow_reads(noise)[[3, 1]])
    pinned = cache("ram").open(noise).take(torch.tensor([3, 1]), pinned=True)
    assert pinned.is_pinned() and torch.equal(pinned, batch.cpu())


def test_a_device_that_is_too_small_is_an_error(cache, noise, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(ValueError, match="INPUT.CACHE is 'device', but .* out of memory; set it"):
        cache("device").open(noise)
