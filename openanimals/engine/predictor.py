"""A trained model for use from Python: photographs in, features out."""

import os
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from openanimals.config import CfgNode, load, without_pretraining
from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.build import load_catalogue_of
from openanimals.data.catalogue import UNKNOWN, Catalogue
from openanimals.data.image_io import ImageError, resize
from openanimals.engine.backends import pick_backend
from openanimals.engine.checkpoint import FINAL, CheckpointError, RunFolder
from openanimals.engine.device import pick_device, place, room_to_evaluate
from openanimals.engine.evaluate import RESULTS, extract, fingerprint
from openanimals.engine.export import export
from openanimals.engine.loading import config_from_checkpoint, load_weights
from openanimals.evaluation import FeatureSet
from openanimals.modeling import ReIDModel, build_model, fold_norms
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded, read_json

logger = getLogger(__name__)

Source = str | Path | Sequence[str | Path]


class Predictor:
    """A model together with how its photographs are read: their size, decoding, masks, flip test.

    By torch, what it gives equals, bit for bit, what an evaluation of the same photographs
    computes.

    Args:
        source: the folder of a run, a checkpoint or YAML files, as for :func:`load_model`.
        weights: a checkpoint to take the weights from, whatever the source says.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" (CUDA, else MPS, else CPU).
        overrides: ``[KEY, VALUE, ...]`` that change the configuration, such as
            ``["TEST.IMS_PER_BATCH", 16]``.
        backend: what computes the features: "torch"; "onnx" or "openvino" (extras of these names),
            faster on a CPU and equal to torch's but for rounding (TEST.DTYPE bfloat16 has OpenVINO
            round, too, where the processor is made for it); or "auto", see
            :func:`~openanimals.engine.backends.pick_backend`.

    Attributes:
        cfg: the configuration.
        model: in eval mode, on the device.
        device: where it is.
        backend: "torch", "onnx" or "openvino".
        fingerprint: tells this model and its preprocessing from others; features of another one
            are not comparable.

    Raises:
        UserError: the source, the weights, the device or the backend cannot be had, or do not fit.

    Example:
        >>> predictor = openanimals.Predictor("logs/demo")
        >>> features = predictor.embed("folder:my_photos")
        >>> features.save("my_photos")
    """

    def __init__(
        self,
        source: Source,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        overrides: Sequence[Any] = (),
        backend: str = "torch",
    ) -> None:
        keys = [*overrides, "MODEL.DEVICE", str(device)]
        self.cfg, self.model, self.device, path = _load(source, weights, keys)
        self._weights = expanded(path) if path else None
        self.backend, network, self.fingerprint = pick_backend(
            backend, self.cfg, self.model, self.device, fingerprint(self.cfg, self.model)
        )
        folded = fold_norms(self.model) if self.cfg.TEST.FOLD_NORMS else self.model
        self._network = network or folded

    def embed(
        self, photographs: str | os.PathLike[str] | Catalogue | np.ndarray | Sequence[Any]
    ) -> FeatureSet:
        """Return the features of photographs; a long work tells how far it is.

        Args:
            photographs: one of

                - paths of files, or one path;
                - RGB images, uint8 ``[H, W, 3]`` each, of any sizes, upright and cropped already;
                - a :class:`~openanimals.data.catalogue.Catalogue`, whose boxes count, and whose
                  masks do if INPUT.BACKGROUND says so;
                - the name of a data set, such as ``"folder:my_photos"``.

        Returns:
            A table of the photographs with their features ``[N, D]``, in the order given; the
            identity of those that nobody has named is None. Those that cannot be read are left out,
            and a warning names each.

        Raises:
            UserError: it is none of these, its boxes are of another form, or nothing can be read.
        """
        images = photographs
        if isinstance(images, str) and not expanded(images).is_file():
            images = self._catalogue(images)
        if isinstance(images, str | os.PathLike):
            images = [images]
        if not len(images):
            raise UserError("no photographs to embed")
        if not isinstance(images, Catalogue):
            if not isinstance(images[0], str | os.PathLike):
                return self._embed_arrays(images)
            paths = [os.path.abspath(expanded(path)) for path in images]
            table = pd.DataFrame({"path": paths, "identity": UNKNOWN}, dtype=object)
            images = Catalogue("photographs", Path("/"), table, cameras_count=False)
        rows_with_bad_boxes(images)  # single ones are told below; this refuses boxes misread
        with room_to_evaluate(self.cfg):
            features, unreadable = extract(self.cfg, self._network, images, self.device)
        for message in unreadable.values():
            logger.warning("left out: %s", message)
        readable = [row for row in range(len(images)) if row not in unreadable]
        if not readable:
            raise ImageError(f"none of the {len(images)} photographs can be read")
        table = images.select(readable).table.assign(path=[str(images.path(r)) for r in readable])
        # Nobody's photographs must not match one another.
        table["identity"] = table["identity"].replace({UNKNOWN: None})
        return FeatureSet(table, features[readable], self.fingerprint, images.name)

    def export(self, folder: str | os.PathLike[str], licence: str = "") -> list[Path]:
        """Write the model as ONNX and safetensors, with a model card.

        Args:
            folder: gets the files. The results of the card are those of results.json in the folder
                of the run, if the model is its final one.
            licence: of the weights, such as "cc-by-4.0"; empty: not stated.

        Returns:
            The files: model.onnx, model.safetensors, config.yml, README.md.

        Raises:
            UserError: a package of the extra onnx is missing, the network cannot be exported, or
                the folder cannot be written.
        """
        return export(
            self.cfg,
            self.model,
            fingerprint(self.cfg, self.model, "float32"),  # whatever TEST.DTYPE says
            expanded(folder),
            licence=licence,
            results=self._results(),
        )

    def _results(self) -> dict[str, Any]:
        if self._weights is None or self._weights.name != FINAL:
            return {}
        path = self._weights.parent / RESULTS
        return read_json(path) if path.is_file() else {}

    def _catalogue(self, name: str) -> Catalogue:
        path = expanded(name)
        if path.is_dir():
            raise UserError(
                f"{name} is a folder; name its files, or write 'folder:{name}' if it has a "
                "sub-folder for each individual"
            )
        if path.suffix and ":" not in name:
            raise ImageError(f"cannot read image {name}: no such file")
        return load_catalogue_of(self.cfg, name)

    def _embed_arrays(self, arrays: Sequence[Any]) -> FeatureSet:
        height, width = self.cfg.INPUT.SIZE_TEST
        for number, array in enumerate(arrays):
            kind, shape = getattr(array, "dtype", type(array).__name__), np.shape(array)
            if kind != np.uint8 or len(shape) != 3 or shape[2] != 3:
                raise UserError(
                    f"image {number} is {kind} of the shape {list(shape)}; expected paths, or RGB "
                    "images in 0..255, uint8 [H, W, 3]"
                )
        resized = [
            np.asarray(resize(Image.fromarray(np.asarray(array)), (height, width)))
            for array in arrays
        ]
        pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
        with room_to_evaluate(self.cfg):
            features, _ = extract(self.cfg, self._network, pixels, self.device)
        table = pd.DataFrame({"path": [f"image {number}" for number in range(len(arrays))]})
        return FeatureSet(table.assign(identity=None), features, self.fingerprint, "images")


def load_model(
    source: Source, weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> ReIDModel:
    """Return a model that is ready to compute features.

    Args:
        source: one of

            - a YAML file, or a list of them merged in order. Without weights, its MODEL.WEIGHTS
              count, and without those the pre-trained backbone, if MODEL.BACKBONE.PRETRAIN says
              so;
            - a checkpoint, of this package, of FastReID or of the release. If it carries no
              configuration, the architecture is told from the weights, and a warning lists what
              they do not tell;
            - the folder of a run: its ``model_final.pth``; if there is none, for instance since
              the run was interrupted, the checkpoint that was written last; if there is only
              ``model_best.pth``, that one.
        weights: a checkpoint to take the weights from, whatever the source says.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto".

    Returns:
        The model in eval mode: RGB images ``[B, 3, H, W]`` in 0..255, uint8 or float, in;
        features ``[B, D]`` out. H and W should be the configuration's INPUT.SIZE_TEST.

    Raises:
        UserError: the source, the weights or the device cannot be had, or do not fit.

    Example:
        >>> model = openanimals.load_model("logs/demo")
        >>> features = model(images)
    """
    return _load(source, weights, ["MODEL.DEVICE", str(device)])[1]


def _load(
    source: Source, weights: str | Path | None, overrides: Sequence[Any]
) -> tuple[CfgNode, ReIDModel, torch.device, str | Path | None]:
    cfg, path = _find(source, overrides)
    path = weights or path or cfg.MODEL.WEIGHTS
    device = pick_device(cfg.MODEL.DEVICE)
    if path:
        cfg = without_pretraining(cfg)
    elif not cfg.MODEL.BACKBONE.PRETRAIN:
        logger.warning("the weights are random: %s names none, and no pre-training", source)
    model = build_model(cfg, num_classes=0)
    if path:
        load_weights(cfg, model, path)
    place(model, device)
    return cfg, model.eval(), device, path


def _find(source: Source, overrides: Sequence[Any]) -> tuple[CfgNode, Path | None]:
    """Return the configuration of a source, and its checkpoint if it is one."""
    if not source:
        raise UserError(
            f"nothing to load: the source is {source!r}; name a YAML file, a "
            "checkpoint or the folder of a run"
        )
    if not isinstance(source, str | Path):
        return load(source, overrides), None
    path = expanded(source)
    if path.is_dir():
        found = RunFolder(path).finished()
        if found is None:
            raise CheckpointError(f"{path} is not the folder of a run: it has no model_*.pth")
        path = found
    elif path.suffix in (".yml", ".yaml"):
        return load(path, overrides), None
    return config_from_checkpoint(path, overrides), path
