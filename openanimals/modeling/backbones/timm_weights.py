"""Where timm's models and their weights come from: its own list, a hub, a folder or a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from openanimals.modeling.weights import (
    PATIENCE,
    ArchitectureError,
    WeightsError,
    load_pretrained,
    patience,
)
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean

HUB = "hf-hub:"
_HOSTS = (HUB, "local-dir:")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def create(name: str, pretrained: bool, weights: str | Path | None) -> Any:
    """Build a timm model without classifier.

    Args:
        name: as in ``timm.list_models()``, or ``hf-hub:<owner>/<model>``, or
            ``local-dir:<folder>``.
        pretrained: start from trained weights: ``weights`` if given, else the model's own.
        weights: a file, or ``hf-hub:<owner>/<model>`` for the file of that model.

    Raises:
        ValueError: timm is not installed or has no such model.
        WeightsError: the model or its weights cannot be had, or they are of another network.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError(
            f"MODEL.BACKBONE.NAME 'timm/{name}' needs timm: pip install timm"
        ) from error
    hosted = name.startswith(_HOSTS)
    if not hosted and not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise UserError(f"timm {timm.__version__} has no model {name!r}{hint}")
    download = pretrained and not weights
    from_hub = name.startswith(HUB) or (download and _on_hub(name))
    cause: Exception | None = None
    try:
        with _one_attempt() if from_hub else nullcontext() as cause, patience():
            network: Any = timm.create_model(name, pretrained=download, num_classes=0)
    except Exception as error:
        if not (download or hosted):
            raise
        # What a failed download raises depends on where timm keeps this model's weights.
        raise WeightsError(
            f"cannot download timm's pre-trained weights of {name} from {_address(name)} "
            f"({cause or error}). Set MODEL.BACKBONE.PRETRAIN_PATH to a copy of that file, or "
            "MODEL.BACKBONE.PRETRAIN False to start from random weights"
            + (", and MODEL.BACKBONE.NAME to timm/<its architecture>" if hosted else "")
        ) from error
    if pretrained and weights:
        text = str(weights)
        path = _from_hub(text.removeprefix(HUB)) if text.startswith(HUB) else Path(weights)
        _load(network, path)
    return network


def _load(network: nn.Module, path: Path) -> None:
    """Load a file as it is, or else as timm renames it from older releases and other authors."""
    classifiers = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    if isinstance(classifiers, str):
        classifiers = (classifiers,)
    try:
        load_pretrained(network, path, classifiers=classifiers)
    except ArchitectureError as error:
        rename = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        if rename is None:
            raise
        try:
            load_pretrained(
                network, path, classifiers=classifiers, rename=lambda state: rename(state, network)
            )
        except Exception:  # the renaming of weights of another network can fail in any way
            raise error from None


def _from_hub(repository: str) -> Path:
    """Return the file of weights of ``<owner>/<model>``, optionally ``@<revision>``.

    It is downloaded once, and found again without a network.
    """
    from huggingface_hub import hf_hub_download  # timm requires it

    repository, _, revision = repository.partition("@")
    errors: list[Exception] = []
    with _one_attempt() as cause:
        errors += [cause] if cause else []
        for name in _HUB_FILES:
            try:
                return Path(hf_hub_download(repository, name, revision=revision or None))
            except Exception as error:  # no such model, no such file: in words of the hub
                errors.append(error)
    raise WeightsError(
        f"cannot download {' or '.join(_HUB_FILES)} from https://huggingface.co/{repository} "
        f"({errors[0]}). Set MODEL.BACKBONE.PRETRAIN_PATH to a copy of that file"
    ) from errors[0]


@contextmanager
def _one_attempt() -> Iterator[Exception | None]:
    """Have the hub take what is kept here, within the block, unless it answers now.

    It would retry for a minute, file by file.

    Yields:
        Why it cannot be reached; None if it can.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before, cause = constants.HF_HUB_OFFLINE, None
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # in words of the client, which differs by version
        cause = error
    constants.HF_HUB_OFFLINE = before or cause is not None
    try:
        yield cause
    finally:
        constants.HF_HUB_OFFLINE = before


def _on_hub(name: str) -> bool:
    import timm

    return bool(getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None))


def _address(name: str) -> str:
    """Where timm downloads the weights of a model from, for a person to do it by hand."""
    import timm

    if name.startswith(HUB):
        return f"https://huggingface.co/{name.removeprefix(HUB)} (the file model.safetensors)"
    if name.startswith(_HOSTS):
        return f"{name.partition(':')[2]}, which must hold config.json and model.safetensors"
    settings = timm.get_pretrained_cfg(name)
    if settings is None:
        return "nowhere: it has none"
    if settings.hf_hub_id:
        return f"https://huggingface.co/{settings.hf_hub_id} (the file model.safetensors)"
    return str(settings.url or "nowhere: it has none")
