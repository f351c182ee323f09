"""Training batches follow the samplers' streams, whoever reads them, cached or not."""

import os
import re
import signal
from itertools import cycle, islice

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from openanimals.config import load
from openanimals.data import loaders
from openanimals.data.build import TrainSet, load_catalogue_of
from openanimals.data.catalogue import Catalogue
from openanimals.data.dataset import ReIDDataset
from openanimals.data.image_io import ImageError, read_image
from openanimals.data.loaders import (
    LoaderError,
    build_cache,
    build_test_loader,
    build_train_loader,
    naming_lost_workers,
)
from openanimals.data.samplers import balanced_stream, identity_stream, shuffled_stream
from openanimals.data.validate import check_data
from tests.data.pictures import save_noise

INDIVIDUALS, IMAGES = 6, 5
SIZE = (8, 10)  # height, width


@pytest.fixture
def zoo(tmp_path):
    """A catalogue whose pictures show noise, each another."""
    paths = [f"{i}_{k}.png" for i in range(INDIVIDUALS) for k in range(IMAGES)]
    for number, path in enumerate(paths):
        save_noise(tmp_path / path, number)
    labels = {"identity": [path[0] for path in paths], "camera": [path[2] for path in paths]}
    return Catalogue("zoo", tmp_path, pd.DataFrame({"path": paths, **labels}))


def cfg(**keys):
    settings = {
        "INPUT.SIZE_TRAIN": SIZE,
        "INPUT.SIZE_TEST": SIZE,
        "INPUT.EXACT_TRAIN": True,
        "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler",
        "DATALOADER.NUM_INSTANCE": 2,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 8,
        "TEST.IMS_PER_BATCH": 7,
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    return load(None, [part for pair in settings.items() for part in pair])


def first(loader, count=3):
    return list(islice(loader, count))


def rows(loader, count=3):
    return [batch.rows.tolist() for batch in first(loader, count)]


SAMPLERS = ["NaiveIdentitySampler", "BalancedIdentitySampler", "TrainingSampler"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_are_those_of_the_sampler_shared_among_processes(zoo, sampler):
    train = TrainSet.of(zoo)
    keys = cfg(DATALOADER__SAMPLER_TRAIN=sampler, DATALOADER__SEED=5)
    stream = shuffled_stream(30, seed=5)
    if sampler == "NaiveIdentitySampler":
        stream = identity_stream(train.labels.tolist(), 8, 2, seed=5)
    elif sampler == "BalancedIdentitySampler":
        stream = balanced_stream(train.labels.tolist(), train.images.column("camera"), 8, 2, seed=5)
    expected = [list(islice(stream, 8)) for _ in range(6)]
    assert rows(build_train_loader(keys, train), 6) == expected
    assert rows(build_train_loader(keys, train, start=4), 2) == expected[4:]  # after a resume
    shares = [rows(build_train_loader(keys, train, rank=r, world_size=2), 6) for r in (0, 1)]
    assert [left + right for left, right in zip(*shares, strict=True)] == expected


def test_batch_holds_the_images_of_its_rows(zoo):
    batch = first(build_train_loader(cfg(), TrainSet.of(zoo)), 1)[0]
    assert batch.images.shape == (8, 3, *SIZE) and batch.images.dtype == torch.uint8
    for image, row in zip(batch.images, batch.rows.tolist(), strict=True):
        assert np.array_equal(image.permute(1, 2, 0), read_image(zoo.path(row), SIZE))
    assert batch.unreadable == batch.lost == {}


def test_auto_augment_does_not_depend_on_workers_processes_or_resume(zoo):
    keys = {"INPUT__AUTOAUG__ENABLED": True, "INPUT__AUTOAUG__PROB": 0.5, "SEED": 3}
    train = TrainSet.of(zoo)
    whole = torch.stack([b.images for b in first(build_train_loader(cfg(**keys), train), 4)])
    plain = torch.stack([b.images for b in first(build_train_loader(cfg(), train), 4)])
    changed = (whole != plain).flatten(2).any(2).float().mean().item()
    assert 0.2 < changed < 0.8
    by_workers = cfg(**keys, DATALOADER__NUM_WORKERS=2)
    for loader, expected in (
        (build_train_loader(by_workers, train), whole),
        (build_train_loader(cfg(**keys), train, start=2), whole[2:]),
        (build_train_loader(cfg(**keys), train, rank=1, world_size=2), whole[:, 4:]),
    ):
        images = [batch.images for batch in first(loader, len(expected))]
        assert torch.equal(torch.stack(images), expected)


def test_another_image_of_the_individual_stands_in_for_an_unreadable_one(zoo):
    train = TrainSet.of(zoo)
    expected = rows(build_train_loader(cfg(), train), 1)[0]
    broken = expected[0]
    zoo.path(broken).write_bytes(b"not a picture")
    batch = first(build_train_loader(cfg(), train), 1)[0]
    stand_in = broken + 1 if (broken + 1) % IMAGES else broken + 1 - IMAGES  # cyclically the next
    assert batch.rows.tolist() == [stand_in if row == broken else row for row in expected]
    assert batch.unreadable.keys() == {broken} and not batch.lost
    assert str(zoo.path(broken)) in batch.unreadable[broken]
    assert np.array_equal(batch.images[0].permute(1, 2, 0), read_image(zoo.path(stand_in), SIZE))


@pytest.mark.parametrize("sampler", [*SAMPLERS, "Reversed"])
def test_batch_that_cannot_be_shared_is_refused(zoo, reversed_sampler, sampler):
    factors = r"DATALOADER.NUM_INSTANCE \(2\) x " if sampler in SAMPLERS[:2] else ""
    with pytest.raises(ValueError, match=rf"PER_BATCH \(8\) .* multiple of {factors}3 processes"):
        keys = cfg(DATALOADER__SAMPLER_TRAIN=sampler)
        build_train_loader(keys, TrainSet.of(zoo), world_size=3)
    keys = cfg(DATALOADER__SAMPLER_TRAIN=sampler, SOLVER__ACCUMULATE=2)
    with pytest.raises(ValueError, match=r"SOLVER.ACCUMULATE \(2\) x 8 processes"):
        build_train_loader(keys, TrainSet.of(zoo), world_size=8)


@pytest.fixture
def reversed_sampler(monkeypatch):
    """A sampler of the user's own, by the name Reversed; it takes the rows from the last."""
    monkeypatch.setattr(loaders.SAMPLER_REGISTRY, "_entries", {**loaders.SAMPLER_REGISTRY._entries})

    @loaders.SAMPLER_REGISTRY.register("Reversed")
    def backwards(cfg, train):
        return cycle(reversed(range(len(train.labels))))


def test_a_sampler_of_ones_own(zoo, reversed_sampler):
    keys = cfg(DATALOADER__SAMPLER_TRAIN="Reversed")
    found = rows(build_train_loader(keys, TrainSet.of(zoo), start=1), 2)
    assert found == [[*range(21, 13, -1)], [*range(13, 5, -1)]]


def test_an_unknown_sampler_or_transform_is_told_with_the_closest(zoo):
    with pytest.raises(
        ValueError, match=r"unknown sampler .* \(did you mean 'TrainingSampler'\?\)"
    ):
        build_train_loader(cfg(DATALOADER__SAMPLER_TRAIN="TrainSampler"), TrainSet.of(zoo))
    with pytest.raises(ValueError, match="unknown transform 'Gray'; known: "):
        loaders.build_transforms(cfg(INPUT__TRANSFORMS=["Gray"]))


def test_transforms_of_ones_own_come_last_in_their_order(monkeypatch):
    monkeypatch.setattr(loaders.TRANSFORM_REGISTRY, "_entries", {})
    for name, act in (("double", lambda x, _: x * 2), ("inc", lambda x, _: x + 1)):
        loaders.TRANSFORM_REGISTRY.register(name)(lambda cfg, act=act: act)
    keys = cfg(INPUT__TRANSFORMS=["double", "inc"], INPUT__FLIP__ENABLED=True, INPUT__FLIP__PROB=1)
    images = torch.arange(12).reshape(1, 3, 1, 4)
    found = loaders.build_transforms(keys)(images, torch.Generator())
    assert torch.equal(found, images.flip(-1) * 2 + 1)


LOST = r"(worker \(pid|MemoryError).*/dev/shm: lower DATALOADER.NUM_WORKERS .*--resume"
STOPPED = r"no images have come for 1 s \(TIMEOUT\): .* was stopped, .*--resume"


@pytest.mark.parametrize(
    ("end", "told"), [(signal.SIGKILL, LOST), ("memory", LOST), (signal.SIGSTOP, STOPPED)]
)
def test_a_lost_worker_is_one_clear_error(zoo, monkeypatch, end, told):
    def read(self, row):
        if end == "memory":
            raise MemoryError
        os.kill(os.getpid(), end)

    monkeypatch.setattr(ReIDDataset, "read", read)
    keys = cfg(DATALOADER__NUM_WORKERS=1, TIMEOUT=1 if end == signal.SIGSTOP else 60)
    for loader in (build_train_loader(keys, TrainSet.of(zoo)), build_test_loader(keys, zoo)):
        with pytest.raises(LoaderError, match=told):
            first(loader)


def test_other_errors_in_a_loader_keep_their_traceback():
    with pytest.raises(RuntimeError, match="^a bug$"), naming_lost_workers():
        raise RuntimeError("a bug")


@pytest.mark.parametrize("wanted", [None, range(7, 21), range(0)])
def test_test_images_come_once_each_in_row_order(zoo, wanted):
    loader = build_test_loader(cfg(), zoo, wanted)
    found = [batch.rows.tolist() for batch in loader]
    expected = range(30) if wanted is None else wanted
    assert [row for batch in found for row in batch] == list(expected)
    assert all(len(batch) == 7 for batch in found[:-1])


def test_unreadable_test_images_are_black_and_told(zoo):
    zoo.path(3).write_bytes(b"not a picture")
    loader = build_test_loader(cfg(), zoo)
    batch = next(iter(loader))
    assert batch.rows.tolist() == list(range(7))  # nothing stands in
    assert not batch.images[3].any() and batch.images[2].any()
    assert loader.unreadable == batch.lost and loader.unreadable.keys() == {3}
    assert str(zoo.path(3)) in loader.unreadable[3]


# INPUT.MAX_MEGAPIXELS: of the zoo's photographs, each has 108 pixels

TOO_LARGE = r"Image size \(108 pixels\) exceeds .*; to read it, raise INPUT.MAX_MEGAPIXELS"


@pytest.fixture
def _limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.mark.usefixtures("_limit")
@pytest.mark.parametrize("megapixels", [100e-6, 120e-6])
@pytest.mark.parametrize(("workers", "mode"), [(0, "off"), (1, "off"), (0, "ram"), (0, "disk")])
def test_images_above_the_limit_are_told(zoo, tmp_path, monkeypatch, megapixels, workers, mode):
    keys = cfg(INPUT__MAX_MEGAPIXELS=megapixels, DATALOADER__NUM_WORKERS=workers)
    loader = build_test_loader(keys, zoo, range(3), cache=cache_of(keys, tmp_path, mode))
    if workers:  # which are to know the limit even where they do not inherit it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    (batch,) = loader
    assert [*batch.lost] == ([] if megapixels > 108e-6 else [0, 1, 2])
    assert all(re.search(TOO_LARGE, message) for message in batch.lost.values())


@pytest.mark.usefixtures("_limit")
def test_training_and_the_check_know_the_limit(zoo):
    save_noise(zoo.root / "herd/a/1.png", 0)
    save_noise(zoo.root / "herd/b/1.png", 1)
    source = f"folder:{zoo.root}/herd"
    named = load_catalogue_of(cfg(INPUT__MAX_MEGAPIXELS=120e-6), source)
    assert check_data(named)[1] == 0
    load_catalogue_of(cfg(INPUT__MAX_MEGAPIXELS=100e-6), source)
    assert "INPUT.MAX_MEGAPIXELS" in check_data(named)[0]
    build_train_loader(cfg(INPUT__MAX_MEGAPIXELS=120e-6), TrainSet.of(zoo))
    assert read_image(zoo.path(0)).any()
    build_train_loader(cfg(INPUT__MAX_MEGAPIXELS=100e-6), TrainSet.of(zoo))
    with pytest.raises(ImageError, match=TOO_LARGE):
        read_image(zoo.path(0))


# With a cache

MODES = ["ram", "disk"]  # on a CPU; auto is disk and device is ram, see test_cache.py


def cache_of(keys, tmp_path, mode="auto", **options):
    keys = keys.clone()
    keys.defrost()
    keys.INPUT.CACHE, keys.INPUT.CACHE_DIR = mode, str(tmp_path / "cache")
    return build_cache(keys, torch.device("cpu"), **options)


def assert_same_batches(ours, theirs, count=3):
    ours, theirs = first(ours, count), first(theirs, count)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.equal(our.images, their.images) and torch.equal(our.rows, their.rows)
        assert (our.unreadable, our.lost) == (their.unreadable, their.lost)
        for images in (our.images, their.images):
            assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", [*MODES, "off"])
@pytest.mark.parametrize("exact", [True, False])
def test_a_cache_changes_no_batch(zoo, tmp_path, mode, exact):
    keys = cfg(INPUT__EXACT_TRAIN=exact, INPUT__EXACT_TEST=exact)
    train, cache = TrainSet.of(zoo), cache_of(keys, tmp_path, mode)
    for start in (0, 2):
        cached = build_train_loader(keys, train, start=start, cache=cache)
        assert_same_batches(cached, build_train_loader(keys, train, start=start))
    cached = build_test_loader(keys, zoo, range(3, 20), cache=cache)
    assert_same_batches(cached, build_test_loader(keys, zoo, range(3, 20)), 9)


@pytest.mark.parametrize(("mode", "workers"), [("ram", 0), ("disk", 2)])
def test_what_auto_augment_changes_is_read_past_the_cache(zoo, tmp_path, mode, workers, caplog):
    caplog.set_level("INFO")
    keys = cfg(
        INPUT__AUTOAUG__ENABLED=True, INPUT__AUTOAUG__PROB=0.5, DATALOADER__NUM_WORKERS=workers
    )
    train, cache = TrainSet.of(zoo), cache_of(keys, tmp_path, mode)
    cached = build_train_loader(keys, train, cache=cache)
    assert_same_batches(cached, build_train_loader(keys, train), 4)
    assert "images that it changes (50 %) are read from their files" in caplog.text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("auto_augment", [False, True])
def test_unreadable_images_are_told_from_the_cache_as_without(zoo, tmp_path, mode, auto_augment):
    keys = cfg(INPUT__AUTOAUG__ENABLED=auto_augment, INPUT__AUTOAUG__PROB=0.5)
    train = TrainSet.of(zoo)
    drawn = rows(build_train_loader(keys, train), 1)[0]
    zoo.path(drawn[0]).write_bytes(b"not a picture")
    lost = zoo.identities[drawn[2]]  # of another individual than the first
    for row in range(len(zoo)):
        if zoo.identities[row] == lost:
            zoo.path(row).unlink()
    cache = cache_of(keys, tmp_path, mode)
    cached = build_train_loader(keys, train, cache=cache)
    assert_same_batches(cached, build_train_loader(keys, train), 6)
    batch = first(build_train_loader(keys, train, cache=cache), 1)[0]
    own = [row for row in range(len(zoo)) if zoo.identities[row] == lost]
    assert batch.unreadable and sorted(batch.lost) == own
    assert all(str(zoo.path(row)) in message for row, message in batch.lost.items())
    assert not batch.images[2].any() and batch.images[0].any()
    tested = build_test_loader(keys, zoo, cache=cache), build_test_loader(keys, zoo)
    assert_same_batches(*tested, 9)
    assert len(tested[0].unreadable) == 1 + IMAGES
    assert tested[0].unreadable == tested[1].unreadable


def test_nothing_is_read_once_the_cache_has_it(zoo, tmp_path):
    keys, train = cfg(DATALOADER__NUM_WORKERS=2), TrainSet.of(zoo)
    expected = first(build_train_loader(keys, train))
    found = iter(build_train_loader(keys, train, cache=cache_of(keys, tmp_path)))
    batch = next(found)
    for row in range(len(zoo)):
        zoo.path(row).unlink()
    assert_same_batches([batch, *islice(found, 2)], expected)


def test_no_process_is_started_where_nothing_is_read(zoo, tmp_path, monkeypatch):
    asked = []

    def watched(*arguments, **options):
        asked.append(options["num_workers"])
        return DataLoader(
            *arguments, **options | {"num_workers": 0, "prefetch_factor": None, "timeout": 0}
        )

    monkeypatch.setattr(loaders, "DataLoader", watched)
    monkeypatch.setattr(loaders, "CORES", 8)
    keys, train = cfg(DATALOADER__NUM_WORKERS=2), TrainSet.of(zoo)
    cache = cache_of(keys, tmp_path)
    for loader in (build_train_loader(keys, train, cache=cache), build_train_loader(keys, train)):
        first(loader, 1)
    assert asked == [0, 2]


def test_an_evaluation_alone_uses_a_cache_but_makes_none(zoo, tmp_path):
    folder = tmp_path / "cache"
    once = cache_of(cfg(), tmp_path, build=False)
    first(build_test_loader(cfg(), zoo, cache=once), 1)
    assert not folder.exists()
    first(build_test_loader(cfg(), zoo, cache=cache_of(cfg(), tmp_path)), 1)
    used = next(folder.glob("*.images"))
    os.utime(used, ns=(5, 5))
    first(build_test_loader(cfg(), zoo, cache=cache_of(cfg(), tmp_path, build=False)), 1)
    assert used.stat().st_mtime_ns > 5


def test_the_cache_is_where_the_keys_say(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder, expected in (("", "user/openanimals/images"), ("~/mine", "home/mine")):
        keys = cfg(INPUT__CACHE_DIR=folder, INPUT__CACHE_LIMIT=30 * SIZE[0] * SIZE[1] * 3 / 2**30)
        cache = build_cache(keys, torch.device("cpu"))
        assert cache.limit == pytest.approx(30 * SIZE[0] * SIZE[1] * 3)
        assert not (tmp_path / expected).exists()
        first(build_test_loader(keys, zoo, cache=cache), 1)
        assert len(list((tmp_path / expected).glob("*.images"))) == 1
