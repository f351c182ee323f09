"""FastReID's names and ours, against the recorded keys of ten models of the release."""

import json

import pytest
import torch

from openanimals.config import load
from openanimals.modeling import build_model
from openanimals.modeling.config_of_weights import count_classes, fitting_values
from openanimals.modeling.conversion import ForeignError, is_foreign, our_names, their_names
from tests.modeling import released

PAIRS = {
    "bot_r50": {
        "backbone.conv1.weight": "stem.conv1.weight",
        "backbone.bn1.num_batches_tracked": "stem.bn1.num_batches_tracked",
        "backbone.layer2.3.bn3.running_var": "stem.layer2.3.bn3.running_var",
        "backbone.layer3.0.downsample.0.weight": "stem.layer3.0.downsample.0.weight",
        "backbone.layer3.5.conv2.weight": "tails.b1.layer3.5.conv2.weight",
        "backbone.layer4.0.conv1.weight": "tails.b1.layer4.0.conv1.weight",
        "heads.bottleneck.0.running_mean": "heads.b1.neck.running_mean",
        "heads.weight": "heads.b1.classifier.weight",
    },
    "sbs_r50": {
        "backbone.NL_2.0.theta.weight": "stem.layer2.2_nl.theta.weight",
        "backbone.NL_2.1.W.1.running_mean": "stem.layer2.3_nl.W.1.running_mean",
        "backbone.NL_3.0.phi.bias": "tails.b1.layer3.3_nl.phi.bias",
        "backbone.NL_3.2.g.weight": "tails.b1.layer3.5_nl.g.weight",
        "heads.pool_layer.p": "heads.b1.pool.p",
    },
    "mgn_r50_ibn": {
        "backbone.0.weight": "stem.conv1.weight",
        "backbone.1.bias": "stem.bn1.bias",
        "backbone.4.2.bn1.IN.weight": "stem.layer1.2.bn1.IN.weight",
        "backbone.5.0.downsample.1.weight": "stem.layer2.0.downsample.1.weight",
        "backbone.6.conv3.weight": "stem.layer3.0.conv3.weight",
        "b1.0.0.bn1.BN.running_var": "tails.b1.layer3.1.bn1.BN.running_var",
        "b2.0.4.conv1.weight": "tails.b2.layer3.5.conv1.weight",
        "b3.1.2.bn3.weight": "tails.b3.layer4.2.bn3.weight",
        "b22_head.bottleneck.0.weight": "heads.b22.reduction.weight",
        "b33_head.bottleneck.1.weight": "heads.b33.neck.weight",
        "b33_head.pool_layer.p": "heads.b33.pool.p",
        "b1_head.weight": "heads.b1.classifier.weight",
    },
    "arbase": {"b31_head.bottleneck.0.weight": "heads.b31.neck.weight"},
    "r18_se": {
        "backbone.layer1.1.se.fc.2.weight": "stem.layer1.1.se.fc.2.weight",
        "backbone.layer3.1.se.fc.0.weight": "tails.b1.layer3.1.se.fc.0.weight",
    },
    "r34_ibn": {"backbone.layer1.2.bn1.BN.weight": "stem.layer1.2.bn1.BN.weight"},
    "r101_ibn_se_nl": {
        "backbone.NL_2.0.g.bias": "stem.layer2.2_nl.g.bias",
        "backbone.NL_3.0.g.bias": "tails.b1.layer3.14_nl.g.bias",
        "backbone.NL_3.8.g.bias": "tails.b1.layer3.22_nl.g.bias",
    },
}
every_model = pytest.mark.parametrize("name", released.NAMES)


def test_compact_copy_of_the_recorded_keys(shared):
    recorded = json.loads((shared / "golden" / "state_dict_keys.json").read_text())
    assert tuple(recorded) == released.NAMES
    for name, entries in recorded.items():
        assert released.shapes(name) == {key: tuple(shape) for key, shape, _ in entries}


@pytest.mark.parametrize("name", PAIRS)
def test_names_by_hand(name):
    found = our_names(released.shapes(name))
    assert {key: found[key] for key in PAIRS[name]} == PAIRS[name]


@every_model
def test_there_and_back(name):
    theirs = released.shapes(name)
    ours = our_names(theirs)
    assert is_foreign(theirs) and not is_foreign(ours.values())
    assert list(ours) == list(theirs) and len(set(ours.values())) == len(theirs)
    assert their_names(ours.values()) == {name: key for key, name in ours.items()}


@every_model
def test_our_model_has_exactly_these_names_and_shapes(name):
    shapes = released.shapes(name)
    ours = our_names(shapes)
    cfg = load(None, released.pairs({**released.CONFIGS[name], **released.SIZES}))
    with torch.device("meta"):
        model = build_model(cfg, num_classes=5)
    built = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert built == {ours[key]: shape for key, shape in shapes.items()}


@every_model
def test_weights_tell_their_configuration(name):
    state = released.state(name)
    ours = {ours: state[theirs] for theirs, ours in our_names(state).items()}
    told = fitting_values(ours)
    expected = {**released.CONFIGS[name], "MODEL.BACKBONE.NORM": "BN", "MODEL.HEADS.NORM": "BN"}
    expected["MODEL.BACKBONE.NAME"] = "build_resnet_backbone"
    assert {key: fit[0] for key, fit in told.items()} == expected
    assert told["MODEL.BACKBONE.NORM"] == ("BN", "syncBN", "GhostBN")
    assert count_classes(ours) == 5


@pytest.mark.parametrize("norm", ["GN", "FrozenBN"])
def test_weights_tell_other_norms_and_heads(norm):
    keys = {
        **released.CONFIGS["r18_se"],
        **released.SIZES,
        "MODEL.BACKBONE.NORM": norm,
        "MODEL.HEADS.NORM": norm,
        "MODEL.HEADS.BRANCHES": [[2], [1, 3]],
        "MODEL.HEADS.EMBEDDING_DIM": 64,
    }
    with torch.device("meta"):
        model = build_model(load(None, released.pairs(keys)), num_classes=0)
    told = {key: fit[0] for key, fit in fitting_values(model.state_dict()).items()}
    assert {key: told[key] for key in keys if key in told} == {
        key: value for key, value in keys.items() if key in told
    }
    assert told.keys() >= {*released.COMMON, "MODEL.BACKBONE.NORM", "MODEL.HEADS.NORM"}
    assert count_classes(model.state_dict()) == 0


def test_without_bnneck_only_the_reduction_is_left():
    keys = ["backbone.conv1.weight", "heads.bottleneck.0.weight", "heads.weight"]
    assert our_names(keys)["heads.bottleneck.0.weight"] == "heads.b1.reduction.weight"
    ours = our_names(["backbone.conv1.weight", "heads.weight"])
    assert "MODEL.HEADS.WITH_BNNECK" not in fitting_values({})
    state = {name: torch.zeros(2, 2) for name in ours.values()}
    assert fitting_values(state)["MODEL.HEADS.WITH_BNNECK"] == (False,)


def test_older_names_of_fastreid():
    ours = our_names(
        [
            *("pixel_mean", "pixel_std", "backbone.conv1.weight", "heads.classifier.weight"),
            *("heads.bottleneck.0.weight", "heads.bottleneck.0.bias"),
            "heads.bnneck.num_batches_tracked",
        ]
    )
    assert ours == {
        "backbone.conv1.weight": "stem.conv1.weight",
        "heads.classifier.weight": "heads.b1.classifier.weight",
        "heads.bottleneck.0.weight": "heads.b1.neck.weight",
        "heads.bottleneck.0.bias": "heads.b1.neck.bias",
        "heads.bnneck.num_batches_tracked": "heads.b1.neck.num_batches_tracked",
    }


def test_other_networks_of_fastreid_are_refused():
    keys = ["backbone.cls_token", "backbone.conv1.0.weight", "backbone.0.weight", "heads.weight"]
    with pytest.raises(ForeignError) as error:
        our_names([*keys, "backbone.conv1.weight"])
    assert str(error.value).startswith("3 of 5 keys not understood: backbone.cls_token, backbone.c")
    with pytest.raises(ForeignError, match=r"1 of 2 .*: b1_head\.fc\.weight"):
        our_names(["b1.0.0.conv1.weight", "b1_head.fc.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL.HEADS.BRANCHES": [[1], [1, 2]]}, "have the heads b1, b2, b21, b22"),
        ({"MODEL.HEADS.BRANCHES": [[1, 2]]}, "have the heads b1, b11, b12"),
        ({"MODEL.HEADS.BRANCHES": [[1], [1, 2], [1, 3]]}, "with one branch only"),
        ({}, "ResNet-50 and -101"),
        ({"MODEL.BACKBONE.NAME": "tiny", "MODEL.BACKBONE.FEAT_DIM": 8}, r"12 of 18 keys not unde"),
    ],
)
def test_what_fastreid_cannot_have_is_refused(changes, message):
    keys = {**released.COMMON, **released.SIZES, "MODEL.BACKBONE.DEPTH": "18x"}
    keys |= {"MODEL.BACKBONE.FEAT_DIM": 512, "MODEL.BACKBONE.WITH_NL": True, **changes}
    if "MODEL.BACKBONE.NAME" in changes:
        keys["MODEL.BACKBONE.WITH_NL"] = False
    with torch.device("meta"):
        model = build_model(load(None, released.pairs(keys)), num_classes=5)
    with pytest.raises(ForeignError, match=message):
        their_names(model.state_dict())
