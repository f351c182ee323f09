"""Training batches follow the samplers' streams, whoever reads them."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from openanimals.config import load
from openanimals.data.catalogue import Catalogue
from openanimals.data.images import read_image
from openanimals.data.loaders import build_test_loader, build_train_loader
from openanimals.data.samplers import balanced_stream, batches, identity_stream, shuffled_stream
from openanimals.data.sets import TrainSet

INDIVIDUALS, IMAGES = 6, 5
SIZE = (8, 10)  # height, width


@pytest.fixture
def zoo(tmp_path):
    """A catalogue whose pictures show noise, each another."""
    rng = np.random.default_rng(0)
    paths = [f"{i}_{k}.png" for i in range(INDIVIDUALS) for k in range(IMAGES)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)).save(tmp_path / path)
    labels = {"identity": [path[0] for path in paths], "camera": [path[2] for path in paths]}
    return Catalogue("zoo", tmp_path, pd.DataFrame({"path": paths, **labels}))


def cfg(**keys):
    settings = {
        "INPUT.SIZE_TRAIN": SIZE,
        "INPUT.SIZE_TEST": SIZE,
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
def test_batches_are_those_of_the_sampler(zoo, sampler):
    train = TrainSet.of(zoo)
    keys = cfg(DATALOADER__SAMPLER_TRAIN=sampler, DATALOADER__SEED=5)
    stream = shuffled_stream(30, seed=5)
    if sampler == "NaiveIdentitySampler":
        stream = identity_stream(train.labels.tolist(), 8, 2, seed=5)
    elif sampler == "BalancedIdentitySampler":
        stream = balanced_stream(train.labels.tolist(), train.images.column("camera"), 8, 2, seed=5)
    expected = list(islice(batches(stream, 8), 6))
    assert rows(build_train_loader(keys, train), 6) == expected
    assert rows(build_train_loader(keys, train, start=4), 2) == expected[4:]  # after a resume


def test_batch_holds_the_images_of_its_rows(zoo):
    batch = first(build_train_loader(cfg(), TrainSet.of(zoo)), 1)[0]
    assert batch.images.shape == (8, 3, *SIZE) and batch.images.dtype == torch.uint8
    for image, row in zip(batch.images, batch.rows.tolist(), strict=True):
        assert np.array_equal(image.permute(1, 2, 0), read_image(zoo.path(row), SIZE))
    assert batch.unreadable == batch.lost == []


def test_processes_share_each_batch(zoo):
    train = TrainSet.of(zoo)
    whole = rows(build_train_loader(cfg(), train))
    shares = [rows(build_train_loader(cfg(), train, rank=r, world_size=2)) for r in (0, 1)]
    assert [left + right for left, right in zip(*shares, strict=True)] == whole


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
    assert len(batch.unreadable) == expected.count(broken) and not batch.lost
    assert str(zoo.path(broken)) in batch.unreadable[0]
    assert np.array_equal(batch.images[0].permute(1, 2, 0), read_image(zoo.path(stand_in), SIZE))


def test_individual_without_a_readable_image_is_told(zoo):
    train = TrainSet.of(zoo)
    identity = zoo.identities[rows(build_train_loader(cfg(), train), 1)[0][0]]
    own = [row for row, name in enumerate(zoo.identities) if name == identity]
    for row in own:
        zoo.path(row).unlink()
    batch = first(build_train_loader(cfg(), train), 1)[0]
    lost = "\n".join(batch.lost)
    assert all(str(zoo.path(row)) in lost for row in own)


def test_batch_that_cannot_be_shared_is_refused(zoo):
    train = TrainSet.of(zoo)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH \(8\) .*NUM_INSTANCE \(2\) x 3 proc"):
        build_train_loader(cfg(), train, world_size=3)
    with pytest.raises(ValueError, match="IMS_PER_BATCH is 8; expected .* processes, 3"):
        keys = cfg(DATALOADER__SAMPLER_TRAIN="TrainingSampler")
        build_train_loader(keys, train, world_size=3)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_test_images_come_once_each_in_row_order(zoo, world_size):
    loaders = [
        build_test_loader(cfg(), zoo, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    found = [batch.rows.tolist() for loader in loaders for batch in loader]
    assert [row for batch in found for row in batch] == list(range(30))
    assert max(map(len, found)) == 7
    assert sum(len(loader) for loader in loaders) == len(found)


def test_unreadable_test_images_are_black_and_told(zoo):
    zoo.path(3).write_bytes(b"not a picture")
    loader = build_test_loader(cfg(), zoo)
    batch = next(iter(loader))
    assert batch.rows.tolist() == list(range(7))  # nothing stands in
    assert not batch.images[3].any() and batch.images[2].any()
    assert len(loader.unreadable) == 1 and str(zoo.path(3)) in loader.unreadable[0]
