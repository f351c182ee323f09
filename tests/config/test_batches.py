"""Which batches can be trained on: enough individuals for all, and two in each part to compare."""

import re

import pytest

from openanimals.config import load
from openanimals.config.checks import batch_problems


@pytest.mark.parametrize(
    ("keys", "processes", "message"),
    [
        ({"SOLVER__ACCUMULATE": 2}, 1, r"leaves one to .*, 2 parts.* a multiple of 4 from 8 to 12"),
        ({}, 2, r"leaves one to each part of a batch .* a multiple of 4 from 8 to 12"),
        ({"SOLVER__IMS_PER_BATCH": 8}, 4, "none is large enough for 6 identities; lower"),
        ({"MODEL__LOSSES__GATHER": True}, 2, None),
        ({"MODEL__LOSSES__NAME": ("CrossEntropyLoss",)}, 2, None),
        ({"SOLVER__IMS_PER_BATCH": 2}, 1, "leaves one .* a multiple of 2 from 4 to 12"),
        ({"DATALOADER__NUM_INSTANCE": 1}, 1, "NUM_INSTANCE is 1, so TripletLoss finds no second"),
        ({"SOLVER__IMS_PER_BATCH": 14}, 1, "needs 7 identities .* has 6; .* from 4 to 12"),
    ],
)
def test_a_batch_has_pairs_to_compare_or_is_refused(keys, processes, message):
    given = {"MODEL__LOSSES__NAME": ("TripletLoss",), "SOLVER__IMS_PER_BATCH": 4, **keys}
    given = {"DATALOADER__NUM_INSTANCE": 2, **given}
    pairs = [part for key, value in given.items() for part in (key.replace("__", "."), value)]
    cfg = load(None, ["DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler", *pairs])
    told = batch_problems(cfg, processes, identities=6)
    assert len(told) == (message is not None)
    assert not told or re.search(message, told[0])
    assert not batch_problems(cfg, processes)  # what a trained model was trained with is its own


FREE = {"DATALOADER.SAMPLER_TRAIN": "TrainingSampler", "MODEL.HEADS.WITH_BNNECK": True}


@pytest.mark.parametrize(
    ("batch", "keys", "processes", "least"),
    [
        (1, {}, 1, 2),
        (2, {}, 1, 0),
        (4, {"SOLVER.ACCUMULATE": 4}, 1, 8),
        (4, {"SOLVER.ACCUMULATE": 2}, 2, 8),
        (2, {"MODEL.HEADS.NORM": "GhostBN"}, 1, 4),
        (2, {"MODEL.HEADS.NORM": "syncBN"}, 2, 0),
        (1, {"MODEL.HEADS.NORM": "FrozenBN"}, 1, 0),
        (1, {"MODEL.HEADS.WITH_BNNECK": False}, 1, 0),
        (2, {"MODEL.HEADS.WITH_BNNECK": False, "MODEL.LOSSES.NAME": "CircleLoss"}, 2, 4),
    ],
)
def test_one_image_at_once_has_nothing_to_be_normed_or_compared_with(batch, keys, processes, least):
    pairs = [part for pair in (FREE | keys).items() for part in pair]
    cfg = load(None, [*pairs, "SOLVER.IMS_PER_BATCH", batch])
    told = batch_problems(cfg, processes, identities=6)
    assert len(told) == (least > 0)
    assert not told or f"set SOLVER.IMS_PER_BATCH to {least} or more" in told[0]
