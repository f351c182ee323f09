"""Streams against those recorded from the released code, and what must hold of any stream."""

import hashlib
import json
from itertools import islice

import numpy as np
import pytest

from openanimals.config import get_cfg
from openanimals.data.samplers import (
    balanced_stream,
    batch_sampler,
    identity_stream,
    shuffled_stream,
)
from tests.reference import load_json

RECORDED = load_json("samplers.json")
NAIVE = [name for name in RECORDED if name.startswith("naive_")]
LABELS = RECORDED["naive_int_b8_k4_seed0"]["labels"]  # 9 identities with 1 to 12 images
BALANCED = [name for name in RECORDED if name.startswith("fastreid_balanced_")]


def take(stream, count):
    return list(islice(stream, count))


def batches(stream, batch_size, **share):
    """The rows of batches; their images are numbered from the start of the training."""
    for batch in batch_sampler(stream, batch_size, **share):
        rows, numbers = zip(*batch, strict=True)
        assert numbers == tuple(range(numbers[0], numbers[0] + len(rows)))
        yield list(rows)


@pytest.mark.parametrize("name", NAIVE)
def test_identity_stream_is_the_recorded_one(name):
    case = RECORDED[name]
    stream = identity_stream(case["labels"], case["batch"], case["k"], case["seed"])
    assert take(stream, case["n"]) == case["seq"]


@pytest.mark.parametrize("name", ["HyenaID2022", "WhaleSharkID"])
def test_identity_stream_of_the_published_runs(shared, name):
    identities = (shared / f"partitions/{name}.identities.txt").read_text().splitlines()
    train = json.loads((shared / f"partitions/{name}.partition.json").read_text())["IDX_TRAIN"]
    case, seed = RECORDED[f"real_{name}"], get_cfg().DATALOADER.SEED
    stream = identity_stream([identities[row] for row in train], 64, 4, seed)
    drawn = take(stream, 3 * case["batches_per_epoch"] * 64)
    assert drawn[:64] == case["first_batch"]
    digest = hashlib.sha256(json.dumps(drawn).encode()).hexdigest()
    assert digest == case["sha256_first3epochs"]


def test_the_seed_is_what_the_release_draws():
    assert RECORDED["sampler_seed_after_animals_init"] == get_cfg().DATALOADER.SEED
    assert np.random.RandomState(666).randint(2**31) == get_cfg().DATALOADER.SEED


@pytest.mark.parametrize("batch_size, instances", [(8, 4), (12, 2), (9, 1), (18, 2), (4, 4)])
def test_every_batch_has_p_identities_with_k_images_each(batch_size, instances):
    stream = identity_stream(LABELS, batch_size, instances, seed=3)
    for batch in islice(batches(stream, batch_size), 60):
        groups = [batch[start : start + instances] for start in range(0, batch_size, instances)]
        owners = [{LABELS[row] for row in group} for group in groups]
        assert all(len(owner) == 1 for owner in owners)
        assert len(set.union(*owners)) == batch_size // instances
        for group, (owner,) in zip(groups, owners, strict=True):
            if LABELS.count(owner) >= instances:
                assert len(set(group)) == instances


def test_in_a_round_no_image_comes_twice_and_none_is_wasted():
    labels = [0] * 4 + [1] * 4 + [2] * 4
    drawn = take(identity_stream(labels, 6, 2, seed=0), 600)
    # Whatever is drawn, 3 identities with 2 pairs each give 2 batches of all three, so a round is
    # exactly the 12 images.
    for start in range(0, 600, 12):
        assert sorted(drawn[start : start + 12]) == list(range(12))


@pytest.mark.parametrize("name", BALANCED)
def test_balanced_stream_is_the_recorded_one(name):
    case = RECORDED[name]
    stream = balanced_stream(case["labels"], case["cams"], case["batch"], case["k"], case["seed"])
    assert take(stream, len(case["seq"])) == case["seq"]


def test_balanced_images_by_one_camera_are_others_than_the_first():
    drawn = take(balanced_stream([0] * 6 + [1] * 2, [None] * 8, 8, 4, seed=2), 8 * 50)
    for start in range(0, len(drawn), 4):
        first, *others = drawn[start : start + 4]
        assert first not in others
        assert len(set(others)) == (3 if first < 6 else 1)


@pytest.mark.parametrize(
    "stream",
    [
        identity_stream(LABELS, 8, 4, seed=0),
        balanced_stream(LABELS, LABELS, 8, 4, seed=0),
        shuffled_stream(10, seed=0),
    ],
)
def test_rows_are_plain_ints_and_numpys_global_stream_is_left_alone(stream):
    before = np.random.get_state()[1].tolist()
    assert {type(row) for row in take(stream, 100)} == {int}
    assert np.random.get_state()[1].tolist() == before


def test_shuffled_stream_is_the_recorded_one_and_has_every_row_once_in_an_epoch():
    case = RECORDED["training_n10_seed0"]
    assert take(shuffled_stream(case["size"], case["seed"]), len(case["seq"])) == case["seq"]
    drawn = take(shuffled_stream(7, seed=5), 70)
    epochs = [drawn[start : start + 7] for start in range(0, 70, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 5


@pytest.mark.parametrize("skip", [0, 1, 5, 23])
def test_skipping_gives_the_batches_of_a_run_that_was_not_interrupted(skip):
    whole = take(batches(identity_stream(LABELS, 8, 4, seed=1), 8), 30)
    resumed = batches(identity_stream(LABELS, 8, 4, seed=1), 8, start=skip)
    assert take(resumed, 30 - skip) == whole[skip:]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_shares_of_all_processes_make_the_batch(world_size):
    whole = take(batches(shuffled_stream(50, seed=1), 8, start=3), 20)
    shares = [
        take(batches(shuffled_stream(50, 1), 8, start=3, rank=rank, world_size=world_size), 20)
        for rank in range(world_size)
    ]
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == whole
    last = next(iter(batch_sampler(shuffled_stream(50, 1), 8, start=3, rank=1, world_size=2)))
    assert last == list(zip(whole[0][4:], range(28, 32), strict=True))


def test_a_stream_that_ends_drops_the_batch_it_cannot_fill():
    assert list(batches(iter(range(10)), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(batches(iter(range(3)), 4, start=2)) == []


@pytest.mark.parametrize(
    ("labels", "batch_size", "message"),
    [
        (LABELS, 64, "needs 16 identities .* has 9"),
        ([], 8, "needs 2 identities .* the training set has 0"),
        (LABELS, 2, "needs 0 identities .* DATALOADER.NUM_INSTANCE"),
    ],
)
def test_what_would_never_fill_a_batch_says_what_to_change(labels, batch_size, message):
    with pytest.raises(ValueError, match=message):
        identity_stream(labels, batch_size, 4, seed=0)
    with pytest.raises(ValueError, match=message):
        balanced_stream(labels, labels, batch_size, 4, seed=0)
