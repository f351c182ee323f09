"""From photographs to features on a CPU: wildlife-tools' way, torch, ONNX Runtime and OpenVINO.

The network alone, on images in memory; and from files, reading included. wildlife-tools' way is
its steps: OpenCV reads, Pillow resizes, one worker, torch in float32.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Report, in_turn, options
from benchmarks.photographs import draw
from openanimals import Predictor
from openanimals.engine.backends import distance_to_torch

LITE0 = [
    *("MODEL.HEADS.BRANCHES", [[1]], "MODEL.BACKBONE.LAST_STRIDE", 2),
    *("INPUT.SIZE_TEST", [224, 224], "TEST.IMS_PER_BATCH", 32, "INPUT.EXACT_TEST", False),
]
ARBASE = ["INPUT.SIZE_TEST", [384, 384], "TEST.IMS_PER_BATCH", 8]
NETWORKS = {
    "Lite0 at 224": ("configs/Base-ARBase-lite.yml", LITE0, 960),
    "ARBase at 384": ("configs/Base-ARBase.yml", ARBASE, 16),
}
WEIGHTS = Path("../shared/weights/tf_efficientnet_lite0_in1k.safetensors")
BACKENDS = {  # backend, package, TEST.DTYPE
    "torch": ("torch", "torch", "float32"),
    "onnx": ("onnx", "onnxruntime", "float32"),
    "openvino": ("openvino", "openvino", "float32"),
    "openvino, bfloat16": ("openvino", "openvino", "bfloat16"),  # where the processor has it
}


class Plain(Dataset):
    """Files as wildlife-tools reads them: floats ``[3, H, W]``."""

    def __init__(self, paths: list[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        pixels = cv2.cvtColor(cv2.imread(str(self.paths[row])), cv2.COLOR_BGR2RGB)
        small = Image.fromarray(pixels).resize(self.size[::-1], Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float()


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="default: all")
    parser.set_defaults(rounds=3)  # seven would take half an hour
    asked = parser.parse_args()
    report = Report("backends", "python -m benchmarks.backends")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("XDG_CACHE_HOME", folder)  # where models are exported to
        files = draw(Path(folder), 1)
        for name in asked.network or NETWORKS:
            compare(report, name, files, asked.rounds)
    report.publish(asked.write)


def compare(report: Report, name: str, files: list[Path], rounds: int) -> None:
    """Report images/s of a network by each backend, alone and from files."""
    config, keys, count = NETWORKS[name]
    paths = (files * count)[:count]
    predictors = {
        name: predictor(config, [*keys, "TEST.DTYPE", dtype], backend)
        for name, (backend, package, dtype) in BACKENDS.items()
        if find_spec(package)
    }
    cfg, model = predictors["torch"].cfg, predictors["torch"].model
    size, batch = tuple(cfg.INPUT.SIZE_TEST), cfg.TEST.IMS_PER_BATCH
    images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)

    def alone(network: Callable[[torch.Tensor], Any]) -> None:
        with torch.inference_mode():
            network(images)

    def plain() -> None:
        loader = DataLoader(Plain(paths, size), batch_size=batch, num_workers=1)
        with torch.inference_mode():
            for pixels in loader:
                contiguous(pixels).numpy()

    contiguous = predictor(config, keys, "torch").model.to(memory_format=torch.contiguous_format)
    ways: dict[str, Callable[[], Any]] = {
        "torch, as wildlife-tools has it": partial(alone, contiguous),
        "torch, channels last (ours)": partial(alone, model),
        **{each: partial(alone, predictors[each]._network) for each in [*predictors][1:]},
    }
    first = next(iter(ways))
    times = in_turn(ways, rounds)
    distances = {
        each: f"{distance_to_torch(cfg, model, predictors[each]._network):.1g}"
        for each in [*predictors][1:]
    }
    report.line(f"{name}, the network alone, batches of {batch}:")
    report.table(
        [
            {
                "network": way,
                "images/s": batch / times.median(way),
                "times the first": times.ratio(first, over=way),
                "cosine distance to torch's": distances.get(way, ""),
            }
            for way in ways
        ]
    )
    whole = {
        "wildlife-tools' way": plain,
        **{f"Predictor, {each}": partial(p.embed, paths) for each, p in predictors.items()},
    }
    times = in_turn(whole, rounds)
    report.line(f"{name}, from {len(paths)} JPEG files of 1 megapixel to features:")
    report.table(
        [
            {
                "way": way,
                "images/s": len(paths) / times.median(way),
                "times wildlife-tools": times.ratio("wildlife-tools' way", over=way),
            }
            for way in whole
        ]
    )


def predictor(config: str, keys: list[Any], backend: str) -> Predictor:
    """Return a predictor: of pre-trained weights where they lie beside us, else of random ones."""
    torch.manual_seed(0)
    pretrained = "lite" in config and WEIGHTS.is_file()
    overrides = [*keys, "MODEL.BACKBONE.PRETRAIN", pretrained, "MODEL.WEIGHTS", ""]
    overrides += ["MODEL.BACKBONE.PRETRAIN_PATH", str(WEIGHTS)] if pretrained else []
    return Predictor(config, device="cpu", overrides=overrides, backend=backend)


if __name__ == "__main__":
    main()
