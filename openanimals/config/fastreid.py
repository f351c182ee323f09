"""FastReID's keys and names that are not ours: what is accepted of them, and what to use."""

from typing import Any

_QUEUE = "nothing here learns from a queue of features (MoCo)"
_TRANSFORMER = "only FastReID's transformers read it; timm/<model> builds transformers here"
_DISTILLATION = "models are not distilled or averaged here"

REFUSED: dict[str, tuple[Any, str]] = {
    "MODEL.QUEUE_SIZE": (8192, _QUEUE),
    "MODEL.BACKBONE.SIE_COE": (3.0, _TRANSFORMER),
    "MODEL.BACKBONE.STRIDE_SIZE": ((16, 16), _TRANSFORMER),
    "MODEL.BACKBONE.DROP_PATH_RATIO": (0.1, _TRANSFORMER),
    "MODEL.BACKBONE.DROP_RATIO": (0.0, _TRANSFORMER),
    "MODEL.BACKBONE.ATT_DROP_RATE": (0.0, _TRANSFORMER),
    "KD.MODEL_CONFIG": ([], _DISTILLATION),
    "KD.MODEL_WEIGHTS": ([], _DISTILLATION),
    "KD.EMA.ENABLED": (False, _DISTILLATION),
    "KD.EMA.MOMENTUM": (0.999, _DISTILLATION),
    "DATALOADER.SET_WEIGHT": ([], "no sampler here weighs data sets against each other"),
    "TEST.PRECISE_BN.DATASET": (
        "Market1501",
        "statistics are always estimated from the training set",
    ),
}
"""FastReID's keys that change nothing here: the one value that each accepts, and the reason."""

PROJECTS = {
    "MODEL.LOSSES.BCE": "FastAttr",
    "TEST.THRES": "FastAttr",
    "INPUT.CROP_SIZE": "FastCls",
    "DATASETS.REC_PATH": "FastFace",
    "MODEL.HEADS.PFC": "FastFace",
    "TEST.RECALLS": "FastRetri",
    "TEST.DSR": "PartialReID",
    "DATASETS.RM_LT": "NAIC20",
    "TEST.SAVE_DISTMAT": "NAIC20",
}
"""Keys and sections that FastReID's projects add, and the project of each."""

BACKBONES = {
    "resnest": "timm/resnest50d",
    "resnext": "timm/resnext101_32x4d",
    "regnet": "timm/regnety_032",
    "effnet": "timm/efficientnet_b0",
    "efficientnet": "timm/efficientnet_b0",
    "repvgg": "timm/repvgg_b1",
    "mobilenetv2": "timm/mobilenetv2_100",
    "mobilenetv3": "timm/mobilenetv3_large_100",
    "vit": "timm/vit_base_patch16_224",
    "osnet": "",
    "shufflenet": "",
}
"""What names of FastReID's other backbones contain, and such a model of timm, if it has one."""


def instead_of(name: str) -> str:
    """Return what to write instead of the name of another backbone of FastReID's; else ""."""
    for kind, model in BACKBONES.items():
        if kind in name.casefold():
            found = f"did you mean {model!r}?" if model else f"{kind} is neither here nor in timm;"
            return f" ({found} timm/<model> is any of timm.list_models(), and FEAT_DIM its width)"
    return ""
