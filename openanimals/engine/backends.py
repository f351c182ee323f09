"""What computes the features of a model: torch, or faster on a CPU, ONNX Runtime or OpenVINO."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from openanimals.config import CfgNode
from openanimals.engine.export import needs, write_onnx
from openanimals.modeling import ReIDModel, naming_the_size
from openanimals.utils.errors import UserError
from openanimals.utils.machine import user_cache
from openanimals.utils.registry import check_name

logger = getLogger(__name__)

SAME = {"float32": 1e-5, "bfloat16": 5e-3}
"""Cosine distance to torch's features in float32 up to which those of another backend are the same,
by TEST.DTYPE."""


Run = Callable[[np.ndarray], np.ndarray]  # uint8 images [B, 3, H, W] to features [B, D]


class Backend(nn.Module):
    """A network that another program computes, to be called like the model that it stands for."""

    def __init__(self, run: Run, model: ReIDModel) -> None:
        super().__init__()
        self.run, self.pixel_mean = run, model.pixel_mean

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``[B, D]`` of uint8 images ``[B, 3, H, W]``."""
        return torch.from_numpy(self.run(images.contiguous().numpy()))


def onnx_runtime(path: Path, size: Sequence[int] | None = None, dtype: str = "float32") -> Run:
    """Return what runs an ONNX file by ONNX Runtime, on the CPU, on as many threads as torch.

    Raises:
        UserError: it is not to compute in float32.
    """
    runtime = needs("onnxruntime")
    if dtype != "float32":
        raise UserError(f"ONNX Runtime computes in float32; TEST.DTYPE is {dtype!r}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


@cache
def openvino_core() -> Any:
    """Return the one ``openvino.Core`` of this process.

    Each puts a stack for signals in place and the one before back when it goes. Of two that go in
    the order in which they came, the second puts back what the first has freed, and the process
    dies at its next signal: Ctrl-C, or the end of a child process.
    """
    return needs("openvino").Core()


def openvino(path: Path, size: Sequence[int] | None = None, dtype: str = "float32") -> Run:
    """Return what runs an ONNX file by OpenVINO, on the CPU, on torch's threads.

    Args:
        path: the file.
        size: (height, width) of all images, which it can prepare for; None: any size.
        dtype: what it computes in, "float32" or "bfloat16".

    Raises:
        UserError: the processor does not compute in this type.
    """
    core = openvino_core()
    kind = {"float32": "FP32", "bfloat16": "BF16"}.get(dtype)
    if kind not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UserError(f"OpenVINO has no {dtype} on this processor; set TEST.DTYPE to float32")
    network = core.read_model(path)
    if size is not None:
        network.reshape([-1, 3, *size])
    options = {
        "INFERENCE_PRECISION_HINT": "f32" if dtype == "float32" else "bf16",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all threads
    }
    compiled = core.compile_model(network, "CPU", options)
    return lambda images: np.array(compiled(images)[0])  # a copy: its memory is used again


RUNNERS = {"onnx": ("onnxruntime", onnx_runtime), "openvino": ("openvino", openvino)}
BACKENDS = ("auto", "torch", *RUNNERS)


def probe(size: Sequence[int], count: int = 2) -> Tensor:
    """Return a batch by which backends are compared: uint8 ``[count, 3, H, W]``, always the same.

    It has coarse and fine structure, in colour and over the whole range, as photographs have.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = functional.interpolate(coarse, tuple(size), mode="bicubic")
    fine = 0.1 * torch.randn(smooth.shape, generator=generator)
    return ((smooth + fine) * 255).clamp(0, 255).to(torch.uint8)


def distance_to_torch(cfg: CfgNode, model: ReIDModel, network: nn.Module) -> float:
    """Return the largest cosine distance of a backend's features to torch's, on the probe batch."""
    images = probe(cfg.INPUT.SIZE_TEST)
    with torch.inference_mode(), naming_the_size(cfg, model):
        ours, theirs = model(images).double(), network(images).double()
    return float((1 - functional.cosine_similarity(ours, theirs)).abs().max())


def pick_backend(
    name: str, cfg: CfgNode, model: ReIDModel, device: torch.device, made_by: str
) -> tuple[str, nn.Module | None, str]:
    """Return what is to compute the features of a model.

    The model is exported once, into the user's cache folder, and read from there afterwards.

    Args:
        name: "torch"; "onnx" or "openvino"; or "auto": OpenVINO, if the model is on the CPU,
            OpenVINO is installed and has TEST.DTYPE here, and its features agree with torch's, else
            torch. What "auto" took, and why, is told.
        cfg: the configuration.
        model: in eval mode.
        device: where it is.
        made_by: its fingerprint.

    Returns:
        The name of the backend; the network, None for torch; and the fingerprint of its features:
        the model's if they agree with torch's in float32 (a cosine distance of at most 1e-5, or
        5e-3 in bfloat16), else another, so that the two do not mix.

    Raises:
        UserError: there is no such backend, a package of one that was named is missing, the model
            is not on the CPU or cannot be exported, or the backend does not compute in TEST.DTYPE.
    """
    check_name("backend", name, BACKENDS)
    if name == "torch":
        return name, None, made_by
    if name == "auto":
        network, reason = _openvino_if_the_same(cfg, model, device, made_by)
        taken = "torch" if network is None else "openvino"
        logger.info("backend: %s (%s)", taken, reason)
        return taken, network, made_by
    if device.type != "cpu":
        raise UserError(f"the backend {name!r} computes on the CPU; set the device to cpu")
    network = _built(name, cfg, model, made_by)
    distance, same = distance_to_torch(cfg, model, network), SAME[cfg.TEST.DTYPE]
    if distance <= same:
        return name, network, made_by
    logger.warning(
        "backend: the features of %s are %.1g from torch's (cosine distance, on a probe), beyond "
        "%g: they have a fingerprint of their own, and do not mix with those of torch",
        *(name, distance, same),
    )
    return name, network, f"{made_by}-{name}"


def _openvino_if_the_same(
    cfg: CfgNode, model: ReIDModel, device: torch.device, made_by: str
) -> tuple[Backend | None, str]:
    """Return OpenVINO's network, or None if it is not to be used; and why."""
    if device.type != "cpu":
        return None, f"the model is on {device.type}"
    if find_spec("openvino") is None:
        return None, "OpenVINO is faster, and not installed: pip install openvino onnx onnxscript"
    try:
        network = _built("openvino", cfg, model, made_by)
        distance = distance_to_torch(cfg, model, network)
    except UserError as error:
        return None, str(error)
    if distance <= SAME[cfg.TEST.DTYPE]:  # not if it is NaN
        return network, f"features within {distance:.1g} of torch's"
    return None, f"OpenVINO's features are {distance:.1g} from torch's"


def _built(name: str, cfg: CfgNode, model: ReIDModel, made_by: str) -> Backend:
    package, runner = RUNNERS[name]
    needs(package)  # before the time that an export takes
    path = user_cache() / "onnx" / f"{made_by}-{version('openanimals')}.onnx"
    if not path.is_file():
        logger.info("backend: %s is written, once for this model; it takes a minute or so", path)
        with naming_the_size(cfg, model):
            write_onnx(cfg, model, made_by, path)
    try:
        return Backend(runner(path, cfg.INPUT.SIZE_TEST, cfg.TEST.DTYPE), model)
    except UserError:
        raise
    except Exception as error:  # of each program's own kinds
        path.unlink(missing_ok=True)  # perhaps it is damaged; the next time it is written again
        raise UserError(f"{name} cannot run this model ({error!s:.300})") from error
