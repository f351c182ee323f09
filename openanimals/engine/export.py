"""A model as files for other programs: ONNX with its input contract, safetensors with a card."""

import copy
import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openanimals.config import CfgNode, get_cfg
from openanimals.engine.loading import classifiers_of
from openanimals.modeling import ReIDModel
from openanimals.modeling.weights import fits_any
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, write_text

logger = logging.getLogger(__name__)

ONNX, WEIGHTS, CONFIG, CARD = "model.onnx", "model.safetensors", "config.yml", "README.md"
CONTRACT = "openanimals"  # the key of the metadata that holds it
NOT_STATED = "not stated"


def export(
    cfg: CfgNode,
    model: ReIDModel,
    made_by: str,
    folder: Path,
    *,
    licence: str = "",
    results: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write a model as ONNX, and as safetensors with its configuration and a model card.

    Args:
        cfg: the configuration.
        model: in eval mode; a copy of it on the CPU is written.
        made_by: its fingerprint.
        folder: gets the files; those of an earlier export are replaced.
        licence: of the weights, such as "cc-by-4.0": that of the photographs they were trained on
            counts, which nothing here knows. Empty: the files say that it is not stated.
        results: what results.json of the run holds, for the card.

    Returns:
        The files.

    Raises:
        UserError: onnx or onnxscript is missing, or the network cannot be exported.
        FileError: the folder cannot be written.
    """
    contract = write_onnx(cfg, model, made_by, folder / ONNX, licence=licence, any_size=True)
    _write_weights(cfg, model, folder / WEIGHTS, contract)
    described, default = cfg.clone(), get_cfg()
    described.defrost()
    described.OUTPUT_DIR, described.MODEL.WEIGHTS = default.OUTPUT_DIR, default.MODEL.WEIGHTS
    described.DATASETS.ROOT = default.DATASETS.ROOT  # which are of this machine
    described.MODEL.BACKBONE.PRETRAIN, described.MODEL.BACKBONE.PRETRAIN_PATH = False, ""
    write_text(folder / CONFIG, described.dump())
    write_text(folder / CARD, model_card(cfg, contract, results or {}))
    return [folder / name for name in (ONNX, WEIGHTS, CONFIG, CARD)]


def write_onnx(
    cfg: CfgNode,
    model: ReIDModel,
    made_by: str,
    path: Path,
    *,
    licence: str = "",
    any_size: bool = False,
) -> dict[str, Any]:
    """Write a model as ONNX: uint8 images in, float32 features out, the normalisation inside.

    With ``any_size``, which takes longer to write, it takes images of any size, where the network
    can. Else, and always with TensorFlow's padding, which depends on the size, it takes those of
    INPUT.SIZE_TEST. Batches may be of any size. Other arguments are those of :func:`export`.

    Returns:
        The input contract that its metadata holds, see :func:`read_contract`.

    Raises:
        UserError: onnx or onnxscript is missing, or the network cannot be exported.
    """
    onnx, _ = needs("onnx"), needs("onnxscript")
    copied = copy.deepcopy(model).cpu().requires_grad_(False).eval()
    fixed = not any_size or any(type(m).__name__.endswith("Same") for m in model.modules())
    try:
        written = _program(copied, cfg.INPUT.SIZE_TEST, fixed)
    except UserError as error:
        if fixed:
            raise
        logger.info("%s; it is written for images of INPUT.SIZE_TEST alone", error)
        written, fixed = _program(copied, cfg.INPUT.SIZE_TEST, True), True
    proto = written.model_proto
    dimension = proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    contract = _contract(cfg, made_by, dimension, fixed, licence)
    onnx.helper.set_model_props(
        proto, {CONTRACT: json.dumps(contract), "licence": contract["licence"]}
    )
    proto.producer_name, proto.producer_version = "openanimals", version("openanimals")
    with atomic_path(path) as temporary:
        try:
            onnx.save(proto, temporary)
        except ValueError as error:  # protobuf's limit
            raise UserError(f"{path}: a network of over 2 GiB is not one ONNX file") from error
    return contract


def read_contract(path: str | Path) -> dict[str, Any]:
    """Return what an ONNX file of ours says of its input and output.

    Returns:
        ``format`` 1, ``fingerprint``, ``input`` and ``output`` (what they are, in words), ``size``
        (height, width), ``any_size``, ``resize``, ``background``, ``flip`` (whether features of an
        image and its mirror image are to be averaged), ``dimension``, ``distance``, ``licence``,
        ``data`` (what it was trained on) and ``version`` (of this package).

    Raises:
        UserError: onnx is missing, or it is no such file.
    """
    onnx = needs("onnx")
    try:
        properties = onnx.load(path, load_external_data=False).metadata_props
        return json.loads({each.key: each.value for each in properties}[CONTRACT])
    except Exception as error:  # protobuf's own kinds
        raise UserError(f"{path} is not an ONNX file of openanimals export: {error!r}") from error


def _contract(
    cfg: CfgNode, made_by: str, dimension: int, fixed: bool, licence: str
) -> dict[str, Any]:
    height, width = cfg.INPUT.SIZE_TEST
    return {
        "format": 1,
        "fingerprint": made_by,
        "input": "images: uint8 [B, 3, H, W], RGB in 0..255, upright, cropped to the animal; not "
        "normalised, the network does it",
        "output": "features: float32 [B, dimension], not normalised",
        "size": [height, width],
        "any_size": not fixed,
        "resize": f"Pillow's bicubic filter to {height} x {width} (height x width)",
        "background": cfg.INPUT.BACKGROUND,
        "flip": cfg.TEST.FLIP.ENABLED,
        "dimension": dimension,
        "distance": cfg.TEST.METRIC,
        "licence": licence or NOT_STATED,
        "data": [*cfg.DATASETS.NAMES],
        "version": version("openanimals"),
    }


def needs(module: str) -> Any:
    """Return a module, or raise an error that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module} is not installed or cannot be loaded ({error}): pip install {module}"
        ) from error


def _program(model: nn.Module, size: Sequence[int], fixed: bool) -> Any:
    images = torch.zeros(2, 3, *size, dtype=torch.uint8)
    names = {0: "batch"} if fixed else {0: "batch", 2: "height", 3: "width"}
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in noisy]
    for each in noisy:
        each.setLevel(logging.ERROR)
    try:
        # The older exporter writes a file of our models that is not valid.
        return torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=(names,),
            input_names=["images"],
            output_names=["features"],
        )
    except Exception as error:  # of many kinds, by layer and version
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"this network cannot be exported to ONNX ({first:.200})") from error
    finally:
        for each, level in zip(noisy, levels, strict=True):
            each.setLevel(level)


def _write_weights(cfg: CfgNode, model: nn.Module, path: Path, contract: Mapping[str, Any]) -> None:
    """Write all weights but the classifiers, which are of the training's individuals alone."""
    from safetensors.torch import save_file

    classifiers = classifiers_of(cfg)
    weights = {
        name: values.detach().cpu().contiguous().clone()
        for name, values in model.state_dict().items()
        if not fits_any(name, classifiers)
    }
    with atomic_path(path) as temporary:
        save_file(weights, temporary, {"format": "pt", CONTRACT: json.dumps(contract)})


def model_card(
    cfg: CfgNode, contract: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return a model card in the Hugging Face form: what it is, how to use it, how good it was.

    Results are, by test set, what :meth:`~openanimals.evaluation.Result.as_dict` gives.
    """
    import yaml

    known = contract["licence"] != NOT_STATED
    header = {
        "license": contract["licence"] if known else "other",
        "library_name": "openanimals",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["animal-re-identification", "wildlife", "onnx"],
        "datasets": contract["data"],
    }
    height, width = contract["size"]
    average = (
        "Average the features of an image and of its mirror image." if contract["flip"] else ""
    )
    black = "What is not the animal is black." if contract["background"] == "mask" else ""
    use = f"It normalises pixels itself. {black} {average}".split()
    sizes = "any size" if contract["any_size"] else "this size alone"
    measures = ("Rank-1", "Rank-5", "mAP")
    rows = [["test set", *measures], ["---"] * 4]
    rows += [[name, *(f"{row[key]:.1f}" for key in measures)] for name, row in results.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    lines = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {cfg.MODEL.BACKBONE.NAME} that tells individual animals apart",
        f"Trained on {', '.join(contract['data']) or 'data that its configuration does not name'}, "
        f"written by [OpenAnimals](https://pypi.org/project/openanimals) {contract['version']}. "
        f"Fingerprint `{contract['fingerprint']}`: features of two fingerprints do not mix.",
        *([f"**{cfg.MODEL.CAVEAT}.**"] if cfg.MODEL.CAVEAT else []),
        "## Use",
        f"```python\nimport openanimals\n\npredictor = openanimals.Predictor({CONFIG!r}, weights="
        f"{WEIGHTS!r})\nfeatures = predictor.embed(['photograph.jpg'])\n```",
        f"Or without it: `{ONNX}` takes uint8 RGB in 0..255, `[B, 3, H, W]`, upright, cropped to "
        f"the animal and resized to {height} x {width} (height x width; the file takes {sizes}) by "
        f"Pillow's bicubic filter, and gives {contract['dimension']} numbers for each, to be "
        f"compared by the {contract['distance']} distance. {' '.join(use)}",
        "## Results",
        table if results else "None are known for these weights.",
        "## Licence",
        f"{contract['licence'] if known else 'Not stated'}. The licences of the photographs and of "
        "the weights that the training began with count, too.",
    ]
    return "\n\n".join(lines) + "\n"
