"""From a config to a model and its losses: the only file of this package that reads ``cfg``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openanimals.config.checks import train_size
from openanimals.config.fastreid import instead_of
from openanimals.modeling import folding, losses
from openanimals.modeling.backbones import BACKBONE_REGISTRY, Backbone
from openanimals.modeling.backbones.resnet import resnet
from openanimals.modeling.backbones.timm import timm_backbone
from openanimals.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead
from openanimals.modeling.layers.margins import CLASSIFIER_REGISTRY
from openanimals.modeling.losses import LOSS_REGISTRY, Losses, LossTerm
from openanimals.modeling.meta_device import on_meta
from openanimals.modeling.model import ReIDModel
from openanimals.modeling.unseen import warn_of_unseen
from openanimals.modeling.weights import RESNET_WEIGHTS, fetch
from openanimals.utils.errors import UserError, naming_memory


def build_model(cfg: Any, num_classes: int) -> ReIDModel:
    """Build the model of a config, pre-trained weights included, on the default device.

    Random weights come from torch's global generator; seed it before.

    Args:
        cfg: read below ``MODEL``, the sizes of images below ``INPUT``, and ``TEST.FOLD_NORMS``.
        num_classes: identities to classify; 0 for a model that is only evaluated.

    Raises:
        ValueError: a key is wrong, the pre-trained weights cannot be had, there are no norms to
            fold, or no memory for it. Whether the model can take images of the sizes,
            :func:`check_sizes` tells.
    """
    heads = cfg.MODEL.HEADS
    with naming_memory(
        "the model",
        f"lower MODEL.HEADS.EMBEDDING_DIM ({heads.EMBEDDING_DIM}) or MODEL.HEADS.NUM_CLASSES "
        f"({num_classes}), or take a smaller MODEL.BACKBONE",
    ):
        return _build_model(cfg, num_classes)


def _build_model(cfg: Any, num_classes: int) -> ReIDModel:
    name = cfg.MODEL.BACKBONE.NAME
    if problems := unknown_names(cfg):
        raise UserError("; ".join(problems))
    if name.startswith("timm/"):
        backbone = _timm(cfg, name.removeprefix("timm/"))
    else:
        backbone = BACKBONE_REGISTRY.get(name)(cfg)
    if backbone.channels != cfg.MODEL.BACKBONE.FEAT_DIM:
        raise UserError(
            f"MODEL.BACKBONE.FEAT_DIM is {cfg.MODEL.BACKBONE.FEAT_DIM}, but {name} has "
            f"{backbone.channels} channels; set MODEL.BACKBONE.FEAT_DIM to {backbone.channels}"
        )
    head = REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME)
    model = ReIDModel(
        backbone,
        cfg.MODEL.HEADS.BRANCHES,
        lambda in_channels: head(cfg, in_channels, num_classes),
        stripes=cfg.MODEL.HEADS.STRIPES,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )
    if cfg.TEST.FOLD_NORMS:
        folding.check(model)  # now, not hours later
    if name != "build_resnet_backbone":  # which sees all pixels, and ends with an activation
        sizes = [("INPUT.SIZE_TEST", cfg.INPUT.SIZE_TEST)]
        sizes += [train_size(cfg)] if num_classes else []
        warn_of_unseen(model, name, dict(sizes))
    return model


def unknown_names(cfg: Any) -> list[str]:
    """Return a sentence for each backbone, head and classifier that does not exist."""
    name, heads = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.HEADS
    problems = [] if name.startswith("timm/") else BACKBONE_REGISTRY.unknown([name])
    if problems and instead_of(name):
        problems = [f"unknown backbone {name!r}{instead_of(name)}"]
    problems += REID_HEADS_REGISTRY.unknown([heads.NAME])
    return problems + CLASSIFIER_REGISTRY.unknown([heads.CLS_LAYER])


def check_sizes(cfg: Any, model: ReIDModel) -> None:
    """Raise if a model cannot take images of the sizes that it will get, so that none fails later.

    Raises:
        ValueError: names the key, and says what the layer says.
    """
    train_key, train = train_size(cfg)
    keys = {tuple(cfg.INPUT.SIZE_TEST): "INPUT.SIZE_TEST", tuple(train): train_key}
    for size, key in keys.items():
        _check_size(key, size, model)


@contextmanager
def naming_the_size(cfg: Any, model: ReIDModel) -> Iterator[None]:
    """Have a failure within the block name INPUT.SIZE_TEST if the model cannot take such images.

    Raises:
        ValueError: as :func:`check_sizes`.
    """
    try:
        yield
    except (ValueError, AssertionError, RuntimeError):
        _check_size("INPUT.SIZE_TEST", cfg.INPUT.SIZE_TEST, model)
        raise


def _check_size(key: str, size: Sequence[int], model: ReIDModel) -> None:
    training = model.training
    model.eval()
    try:
        try:
            with on_meta(model):
                model(torch.empty(1, 3, *size, device="meta"))
        except Exception:  # of the size, or a layer that needs values: then a black image tells
            with torch.no_grad():
                model(torch.zeros(1, 3, *size, device=model.pixel_mean.device))
    except (ValueError, AssertionError, RuntimeError) as error:  # as layers see fit
        raise UserError(f"{key} is {list(size)}: {error}") from error
    finally:
        model.train(training)


def build_losses(cfg: Any, num_classes: int = 0) -> Losses:
    """Return the losses that ``MODEL.LOSSES.NAME`` lists, on the default device.

    Args:
        cfg: read below ``MODEL``.
        num_classes: identities of the training; a loss reads them as ``MODEL.HEADS.NUM_CLASSES``.
            0 leaves that key as it is.

    Raises:
        ValueError: an unknown name.
    """
    if num_classes:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.HEADS.NUM_CLASSES = num_classes
        cfg.freeze()
    keys = cfg.MODEL.LOSSES
    terms = [LOSS_REGISTRY.get(name)(cfg) for name in keys.NAME]
    return Losses([replace(t, gather=keys.GATHER and t.on == "features") for t in terms])


def class_weights(cfg: Any) -> tuple[str, ...]:
    """Return patterns of a model's weights that stand for identities, such as classifiers.

    They are what a head has only, or in another shape, where there are identities to tell apart;
    so an evaluation needs none of them, and a training those of its own identities.
    """
    head = REID_HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME)
    with torch.device("meta"):
        some, none = (head(cfg, cfg.MODEL.BACKBONE.FEAT_DIM, n).state_dict() for n in (2, 0))
    return tuple(
        f"heads.*.{key}" for key in some if key not in none or none[key].shape != some[key].shape
    )


@BACKBONE_REGISTRY.register("build_resnet_backbone")
def _resnet(cfg: Any) -> Backbone:
    keys = cfg.MODEL.BACKBONE
    weights = None
    if keys.PRETRAIN and keys.PRETRAIN_PATH:
        weights = Path(keys.PRETRAIN_PATH)
    elif keys.PRETRAIN and keys.NORM == "GN":
        raise UserError(
            "MODEL.BACKBONE.NORM is GN, and the weights that could be downloaded were trained with "
            "batch norm: set MODEL.BACKBONE.PRETRAIN_PATH to a file trained with GN, or "
            "MODEL.BACKBONE.PRETRAIN False to start from random weights"
        )
    elif keys.PRETRAIN and (keys.DEPTH, keys.WITH_IBN) in RESNET_WEIGHTS:
        weights = fetch(RESNET_WEIGHTS[keys.DEPTH, keys.WITH_IBN])
    return resnet(
        keys.DEPTH,
        last_stride=keys.LAST_STRIDE,
        norm=keys.NORM,
        ibn=keys.WITH_IBN,
        se=keys.WITH_SE,
        non_local=keys.WITH_NL,
        weights=weights,
    )


_RESNET_ONLY = {"NORM": "BN", "WITH_IBN": False, "WITH_SE": False, "WITH_NL": False}


def _timm(cfg: Any, name: str) -> Backbone:
    keys = cfg.MODEL.BACKBONE
    for key, default in _RESNET_ONLY.items():
        if keys[key] != default:
            raise UserError(
                f"MODEL.BACKBONE.{key} {keys[key]} is for build_resnet_backbone; set it to "
                f"{default} with timm/{name}"
            )
    return timm_backbone(
        name,
        last_stride=keys.LAST_STRIDE,
        image_size=train_size(cfg)[1],
        pooled=cfg.MODEL.HEADS.POOL_LAYER == "Identity",  # no pool of ours, so timm's own
        pretrained=keys.PRETRAIN,
        weights=keys.PRETRAIN_PATH,
    )


@REID_HEADS_REGISTRY.register("EmbeddingHead")
def _embedding_head(cfg: Any, in_channels: int, num_classes: int) -> nn.Module:
    keys = cfg.MODEL.HEADS
    return EmbeddingHead(
        in_channels,
        num_classes,
        embedding_dim=keys.EMBEDDING_DIM,
        pool=keys.POOL_LAYER,
        bnneck=keys.WITH_BNNECK,
        norm=keys.NORM,
        neck_feat=keys.NECK_FEAT,
        classifier=keys.CLS_LAYER,
        scale=keys.SCALE,
        margin=keys.MARGIN,
    )


@LOSS_REGISTRY.register("CrossEntropyLoss")
def _cross_entropy(cfg: Any) -> LossTerm:
    keys = cfg.MODEL.LOSSES.CE
    function = partial(losses.cross_entropy, eps=keys.EPSILON, alpha=keys.ALPHA)
    return LossTerm("loss_cls", "logits", function, keys.SCALE)


@LOSS_REGISTRY.register("FocalLoss")
def _focal(cfg: Any) -> LossTerm:
    keys = cfg.MODEL.LOSSES.FL
    function = partial(losses.focal, alpha=keys.ALPHA, gamma=keys.GAMMA)
    return LossTerm("loss_focal", "logits", function, keys.SCALE)


@LOSS_REGISTRY.register("TripletLoss")
def _triplet(cfg: Any) -> LossTerm:
    keys = cfg.MODEL.LOSSES.TRI
    function = partial(
        losses.triplet,
        margin=keys.MARGIN,
        norm_feat=keys.NORM_FEAT,
        hard_mining=keys.HARD_MINING,
    )
    return LossTerm("loss_triplet", "features", function, keys.SCALE)


@LOSS_REGISTRY.register("CircleLoss")
def _circle(cfg: Any) -> LossTerm:
    keys = cfg.MODEL.LOSSES.CIRCLE
    function = partial(losses.circle, margin=keys.MARGIN, gamma=keys.GAMMA)
    return LossTerm("loss_circle", "features", function, keys.SCALE)


@LOSS_REGISTRY.register("Cosface")
def _cosface(cfg: Any) -> LossTerm:
    keys = cfg.MODEL.LOSSES.COSFACE
    function = partial(losses.cosface, margin=keys.MARGIN, gamma=keys.GAMMA)
    return LossTerm("loss_cosface", "features", function, keys.SCALE)
