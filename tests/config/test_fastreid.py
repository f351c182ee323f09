"""FastReID's and the authors' files: ours have their values, and theirs load unchanged."""

import json

import pytest

from openanimals.config import get_cfg, load
from openanimals.config.fastreid import REFUSED
from tests.config.conftest import mistakes
from tests.conftest import REPOSITORY
from tests.reference import load_json

RECORDED = load_json("merged_configs.json")
OURS = {"MODEL.DEVICE", "OUTPUT_DIR", "DATASETS.NAMES", "DATASETS.TESTS"}  # differ on purpose


def recorded(name: str) -> dict:
    """The recorded keys and values of a recipe, but for what differs on purpose."""
    values = {**RECORDED["defaults"], **RECORDED[name]}
    return {key: value for key, value in values.items() if key not in OURS}


def comparable(value):
    """Equal numbers and sequences become equal; the release computes 0.224 * 255."""
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    return round(value, 12) if isinstance(value, float) else value


ACCEPTED = {key: default for key, (default, _) in REFUSED.items()}
RECIPES = {
    "bot": "Base-bagtricks",
    "agw": "Base-AGW",
    "sbs": "Base-SBS",
    "mgn": "Base-MGN",
    "arbase": "ARBase/hyena",
    "without_multi_branch": "ablations/without-multi-branch-as-released",
}


@pytest.mark.parametrize("name", ["defaults", *RECIPES])
def test_keys_have_the_values_of_the_release(name):
    recipe = REPOSITORY / f"configs/{RECIPES[name]}.yml" if name in RECIPES else None
    values = {**ACCEPTED, **dict((load(recipe) if recipe else get_cfg()).keys_and_values())}
    expected = recorded(name)
    if name == "mgn":  # the release's prefixes match its heads as well; our names are whole
        expected["MODEL.FREEZE_LAYERS"] = [*expected["MODEL.FREEZE_LAYERS"], "heads"]
    assert {key: comparable(values[key]) for key in expected} == {
        key: comparable(value) for key, value in expected.items()
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_file_of_the_release_loads_unchanged(write, name):
    text = json.dumps(nested(recorded(name)))  # JSON is YAML
    values = {**ACCEPTED, **dict(load(write("release.yml", text)).keys_and_values())}
    for key, value in recorded(name).items():
        assert comparable(values[key]) == comparable(value), key


def nested(values: dict) -> dict:
    """Dotted keys as sections in sections."""
    tree: dict = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return tree


@pytest.mark.parametrize("key", REFUSED)
def test_fastreids_unused_keys_are_accepted_at_their_default_alone(key):
    default, reason = REFUSED[key]
    assert load(None, [key, default]) == load() == load(None, [key, repr(default)])
    other = not default if isinstance(default, bool) else "something else"
    (problem,) = mistakes(overrides=[key, other])
    assert f"{key} is FastReID's and has no effect here ({reason})" in problem
    assert repr(default) in problem


def test_a_chain_of_files_in_the_style_of_fastreid(write):
    """Tuples as text, ints where floats are meant, sections of unused keys at their defaults."""
    write(
        "Base-one.yml",
        """
MODEL:
  META_ARCHITECTURE: Baseline
  QUEUE_SIZE: 8192
  BACKBONE:
    NAME: build_resnet_backbone
    NORM: BN
    WITH_NL: False
    STRIDE_SIZE: (16, 16)
    PRETRAIN: True
  HEADS: {NAME: EmbeddingHead, NORM: BN, WITH_BNNECK: True, SCALE: 1, MARGIN: 0}
  LOSSES:
    NAME: ("CrossEntropyLoss", "TripletLoss",)
    CE: {EPSILON: 0.1, SCALE: 1.}
    TRI: {MARGIN: 0, HARD_MINING: True, SCALE: 1}
    CIRCLE: {GAMMA: 64}
    FL: {GAMMA: 2}
KD: {MODEL_CONFIG: [], EMA: {ENABLED: False, MOMENTUM: 0.999}}
INPUT:
  SIZE_TRAIN: [ 256, 128 ]
  CROP: {SCALE: [0.16, 1]}
DATASETS:
  NAMES: ("Market1501",)
  TESTS: ("Market1501", "DukeMTMC",)
DATALOADER: {SAMPLER_TRAIN: NaiveIdentitySampler, SET_WEIGHT: []}
SOLVER: {BASE_LR: 1, WEIGHT_DECAY: 5e-4, STEPS: "[40, 90]", CLIP_GRADIENTS: {NORM_TYPE: 2}}
TEST:
  PRECISE_BN: {ENABLED: False, DATASET: Market1501, NUM_ITER: 300}
OUTPUT_DIR: logs/one
""",
    )
    write("Base-two.yml", "_BASE_: Base-one.yml\nMODEL: {BACKBONE: {WITH_NL: True}}\n")
    last = write(
        "Market1501/two.yml",
        "_BASE_: ../Base-two.yml\nDATASETS:\n  TESTS: ('Market1501',)\nOUTPUT_DIR: logs/two\n",
    )
    cfg = load(last)
    expected = {
        "MODEL.BACKBONE.WITH_NL": True,
        "MODEL.HEADS.SCALE": 1.0,
        "MODEL.HEADS.MARGIN": 0.0,
        "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"),
        "MODEL.LOSSES.TRI.MARGIN": 0.0,
        "MODEL.LOSSES.CIRCLE.GAMMA": 64.0,
        "MODEL.LOSSES.FL.GAMMA": 2.0,
        "INPUT.SIZE_TRAIN": [256, 128],
        "INPUT.CROP.SCALE": [0.16, 1],
        "DATASETS.NAMES": ("Market1501",),
        "DATASETS.TESTS": ("Market1501",),
        "SOLVER.BASE_LR": 1.0,
        "SOLVER.WEIGHT_DECAY": 5e-4,
        "SOLVER.STEPS": [40, 90],
        "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
        "OUTPUT_DIR": "logs/two",
    }
    values = dict(cfg.keys_and_values())
    assert {key: values[key] for key in expected} == expected
    assert all(type(values[key]) is type(value) for key, value in expected.items())


def test_a_refused_key_in_a_base_is_told_with_its_file_and_reason(write):
    write("base.yml", "TEST: {PRECISE_BN: {ENABLED: True, DATASET: DukeMTMC}}\n")
    (problem,) = mistakes(write("one.yml", "_BASE_: base.yml\n"))
    assert "base.yml: TEST.PRECISE_BN.DATASET is FastReID's" in problem
    assert "statistics are always estimated from the training set" in problem
    assert "only its default 'Market1501' is accepted, not 'DukeMTMC'" in problem
