"""Labels and features of every kind give what lists and float64 arrays give, or are refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from openanimals.evaluation import FeatureSet, evaluate
from openanimals.evaluation.results_io import load_scores, save_scores
from openanimals.utils.errors import UserError

FEATURES = np.random.default_rng(0).normal(size=(30, 4))
IDENTITIES, CAMERAS = np.repeat(np.arange(6), 5), np.arange(30) % 3
ENCOUNTERS = np.arange(30) // 2
SIDES = slice(0, None, 2), slice(None)  # every other image asks

LABELS = {
    "list": list,
    "tensor": torch.tensor,
    "tensors": lambda values: [torch.tensor(value) for value in values],
    "arrays": lambda values: [np.array(value) for value in values],
    "floats that require grad": lambda values: torch.tensor(values).float().requires_grad_(),
    "series": lambda values: pd.Series(values, index=values[::-1]),
    "categories": pd.Categorical,
    "nullable": lambda values: pd.array(values, dtype="Int64"),
    "bytes": lambda values: values.astype("S"),
    "days": lambda values: np.datetime64("2020-01-01") + values,
    "tuples": lambda values: [(torch.tensor(value), "a") for value in values],
}
NO_LABELS = {
    "one text": lambda values: "a" * len(values),
    "a set": lambda values: set(values.tolist()),
    "a column": lambda values: torch.tensor(values)[:, None],
    "lists": lambda values: [[value] for value in values],
    "tensors of one": lambda values: [torch.tensor([value]) for value in values],
    "objects": lambda values: [object() for _ in values],
}
NUMBERS = {
    "lists": np.ndarray.tolist,
    "requires grad": lambda values: torch.tensor(values, requires_grad=True),
    "tensors": lambda values: [torch.tensor(row, requires_grad=True) for row in values],
    "frame": pd.DataFrame,
    "big-endian": lambda values: values.astype(">f8"),
    "longdouble": lambda values: values.astype(np.longdouble),
    "sparse": lambda values: torch.tensor(values).to_sparse(),
}
NO_NUMBERS = {
    "complex": lambda values: values + 1j,
    "text": lambda values: values.astype(str),
    "ragged": lambda values: [[1.0], [1.0, 2.0]],
    "meta": lambda values: torch.tensor(values, device="meta"),
    "masked": lambda values: np.ma.array(values, mask=values > 2),
}


def judged(labels=list, numbers=np.asarray):
    features, identities, cameras, encounters = (
        [kind(values[side]) for side in SIDES]
        for kind, values in (
            (numbers, FEATURES),
            (labels, IDENTITIES),
            (labels, CAMERAS),
            (labels, ENCOUNTERS),
        )
    )
    return evaluate(*features, *identities, *cameras, encounters=encounters).as_dict()


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind):
    assert judged(LABELS[kind]) == judged()
    table = {"identity": LABELS[kind](IDENTITIES), "path": [f"{i}.jpg" for i in range(30)]}
    if kind != "floats that require grad":  # of which pandas makes no table
        images = FeatureSet(pd.DataFrame(table), FEATURES)
        plain = FeatureSet(pd.DataFrame({"identity": IDENTITIES}), FEATURES)
        mAPs = [evaluate(herd.select(SIDES[0]), herd).mAP for herd in (images, plain)]
        assert mAPs[0] == mAPs[1] < 100


@pytest.mark.parametrize("kind", NO_LABELS)
def test_what_is_no_label_is_refused(kind):
    with pytest.raises(
        UserError, match=r"query identities (are|is|have|.*expected)|one of the query"
    ):
        judged(NO_LABELS[kind])


def test_sides_that_never_could_be_equal_are_refused():
    own, features = IDENTITIES[SIDES[0]], (FEATURES[SIDES[0]], FEATURES)
    with pytest.raises(UserError, match="query cameras are text, those of the gallery numbers"):
        evaluate(*features, own, IDENTITIES, CAMERAS[SIDES[0]].astype(str), CAMERAS)
    with pytest.raises(UserError, match="the encounters are .* expected the queries'"):
        evaluate(*features, own, IDENTITIES, encounters=ENCOUNTERS)


@pytest.mark.parametrize("kind", NUMBERS)
def test_features(kind, tmp_path):
    assert judged(numbers=NUMBERS[kind]) == judged()
    herd = FeatureSet(pd.DataFrame({"identity": IDENTITIES, "path": "a"}), NUMBERS[kind](FEATURES))
    again = FeatureSet.load(herd.save(tmp_path / "herd"))
    np.testing.assert_array_equal(again.features, FEATURES.astype(np.float32))


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused(kind):
    with pytest.raises(UserError, match="(query|gallery) features"):
        judged(numbers=NO_NUMBERS[kind])


def test_scores_with_tables_of_tensors(tmp_path):
    images = pd.DataFrame(
        {"identity": LABELS["tensors"](IDENTITIES), "path": list(map(str, range(30)))}
    )
    scores = torch.tensor(1 - FEATURES @ FEATURES.T).bfloat16().requires_grad_()
    _, saved, query, _ = load_scores(save_scores(tmp_path, "herd", scores, images, images))
    assert query["identity"].tolist() == IDENTITIES.tolist()
    np.testing.assert_array_equal(saved, scores.detach().float().numpy())
