"""The training loop: batch, model, losses, one step; at the end of an epoch what is due then."""

from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from openanimals.config import CfgNode, without_pretraining
from openanimals.data.images import ImageError
from openanimals.data.loaders import Batch, build_augment, build_train_loader
from openanimals.data.sets import TrainSet
from openanimals.engine.device import amp_dtype, place
from openanimals.engine.logbook import Logbook, NoLogbook
from openanimals.modeling import build_losses, build_model, losses
from openanimals.solver import build_optimizer, build_schedule, clip_gradients
from openanimals.utils import distributed
from openanimals.utils.reproducibility import generator, seed_global_streams

logger = getLogger(__name__)

_REMEDY = (
    "lower SOLVER.BASE_LR, lengthen the warm-up, or try SOLVER.AMP.DTYPE bfloat16. The last "
    "checkpoint is from before it"
)


class NonFiniteLossError(ArithmeticError):
    """A loss, or a weight, became infinite or not a number."""


class Trainer:
    """Trains a model on a training set.

    Args:
        cfg: the configuration.
        train: the images.
        device: where to compute.
        pretrained: honour MODEL.BACKBONE.PRETRAIN; False where other weights replace them at once.

    Raises:
        ValueError: the batch cannot be made of this training set, or a key of the model is wrong.

    Attributes:
        iteration: iterations done; the next to do.
        frozen_iters: iterations that MODEL.FREEZE_LAYERS stay frozen.
        best_map: best mAP of the run so far, -1 before the first evaluation.
        after_epoch: called with the trainer at the end of each epoch, in order.
    """

    def __init__(
        self, cfg: CfgNode, train: TrainSet, device: torch.device, pretrained: bool = True
    ) -> None:
        self.cfg, self.train_set, self.device = cfg, train, device
        self.iteration = 0
        self._loader()  # refuses a batch that cannot be made before anything costly is built
        seed_global_streams(cfg.SEED, "initialise")
        start = cfg if pretrained else without_pretraining(cfg)
        self.terms = build_losses(cfg)
        self.model = build_model(start, self._count_classes())
        self.model.freeze(cfg.MODEL.FREEZE_LAYERS)  # refuses unknown names now, not hours later
        self.model.unfreeze()
        place(self.model, device)
        self._check_norms()
        self.optimizer = build_optimizer(cfg, self.model)
        batch_size = cfg.SOLVER.IMS_PER_BATCH
        self.schedule = build_schedule(cfg, max(1, len(train.images) // batch_size))
        frozen_epochs = cfg.SOLVER.FREEZE_EPOCHS * self.schedule.iters_per_epoch
        self.frozen_iters = frozen_epochs or cfg.SOLVER.FREEZE_ITERS
        self.augment = build_augment(cfg)
        self.amp_dtype = amp_dtype(cfg, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp_dtype == torch.float16)
        self.labels = torch.as_tensor(train.labels)
        self.best_map = -1.0
        self.after_epoch: list[Callable[[Trainer], None]] = []
        self.unreadable: set[str] = set()
        self._history: list[tuple[int, Tensor, Tensor]] = []  # iteration, terms, rows

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.iteration // self.schedule.iters_per_epoch

    def _count_classes(self) -> int:
        classes, identities = self.cfg.MODEL.HEADS.NUM_CLASSES, len(self.train_set.identities)
        if 0 < classes < identities:
            raise ValueError(
                f"MODEL.HEADS.NUM_CLASSES is {classes}, but the training set has {identities} "
                "identities; set it to 0 to have them counted"
            )
        return classes or identities

    def _check_norms(self) -> None:
        shared = any(isinstance(module, nn.SyncBatchNorm) for module in self.model.modules())
        if shared and distributed.world_size() > 1 and self.device.type != "cuda":
            raise ValueError(
                "syncBN shares statistics among CUDA devices only: set MODEL.BACKBONE.NORM and "
                "MODEL.HEADS.NORM to BN, or train in one process"
            )

    def run(self, logbook: Logbook | NoLogbook) -> None:
        """Train from ``self.iteration`` to the end.

        Raises:
            NonFiniteLossError: names the term, iteration, learning rate and images; or the weights.
            ImageError: not one image of an individual can be read.
        """
        self.logbook = logbook
        batches = iter(self._loader())
        network = self._network()
        self.model.train()
        while self.iteration < self.schedule.max_iter:
            if self.iteration == self.frozen_iters > 0:
                network = self._network()  # all layers learn from here on
            self._step(network, next(batches))
            self.iteration += 1
            if self.iteration % self.cfg.LOG_PERIOD == 0:
                self.flush_losses()
            if self.iteration % self.schedule.iters_per_epoch == 0:
                self.flush_losses()  # so that no weights after a non-finite loss are ever saved
                self._check_weights()
                distributed.share_buffers(self.model)  # all evaluate what the first one saves
                for callback in self.after_epoch:
                    callback(self)
                self.logbook.restart_clock(self.iteration)

    def _step(self, network: nn.Module, batch: Batch) -> None:
        """Do one iteration: forward, losses, backward, update."""
        self.check_readable(batch)
        images = batch.images.to(self.device, non_blocking=True)
        targets = self.labels[batch.rows].to(self.device, non_blocking=True)
        draws = generator(self.cfg.SEED, "augment", self.iteration, distributed.rank())
        # Layers such as dropout draw from the global streams, which no checkpoint holds.
        seed_global_streams(self.cfg.SEED, "step", self.iteration, distributed.rank())
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr_at(self.iteration, group["initial_lr"])

        images = self.augment(images, draws)
        with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            output = network(images, targets)
        terms = losses.compute(self.terms, output, targets)
        total = torch.stack(list(terms.values())).sum()

        if total.requires_grad:  # nothing does while all parts are frozen, as MGN's were
            self._update(total)

        values = torch.stack([total, *terms.values()]).detach()
        self._history.append((self.iteration, values, batch.rows))
        self._terms = ["total_loss", *terms]
        self.logbook.step()

    def _update(self, total: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        clip = self.cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.model.parameters(), clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _network(self) -> nn.Module:
        """Freeze or unfreeze layers as is due, and share the gradients among processes."""
        if self.iteration < self.frozen_iters:
            self.model.freeze(self.cfg.MODEL.FREEZE_LAYERS)
        else:
            self.model.unfreeze()
        learning = any(parameter.requires_grad for parameter in self.model.parameters())
        if distributed.world_size() == 1 or not learning:
            return self.model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(self.model, device_ids=devices)

    def _loader(self) -> DataLoader:
        """Return the batches from ``self.iteration`` on."""
        return build_train_loader(
            self.cfg,
            self.train_set,
            start=self.iteration,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )

    def flush_losses(self) -> None:
        """Fetch the losses since the last time from the device, check and log them.

        Raises:
            NonFiniteLossError: one of them is not finite.
        """
        if not self._history:
            return
        values = torch.stack([terms for _, terms, _ in self._history]).cpu().double().numpy()
        for (iteration, _, rows), terms in zip(self._history, values, strict=True):
            if not np.isfinite(terms).all():
                self._raise_non_finite(iteration, terms, rows)
        iteration = self._history[-1][0]
        rate = self.schedule.lr_at(iteration, self.cfg.SOLVER.BASE_LR)
        means = dict(zip(self._terms, values.mean(axis=0).tolist(), strict=True))
        self._history.clear()
        self.logbook.losses(iteration, means, rate)

    def _check_weights(self) -> None:
        """Raise if weights are not finite, or gradients never are: the losses may hide both."""
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            raise NonFiniteLossError(
                f"no gradient has been finite in float16 before iteration {self.iteration}, so "
                f"nothing is learned; {_REMEDY}"
            )
        broken = [
            name
            for name, value in self.model.state_dict().items()
            if value.is_floating_point() and not value.isfinite().all()
        ]
        if broken:
            raise NonFiniteLossError(
                f"{len(broken)} weights are not finite after iteration {self.iteration - 1}, for "
                f"instance {broken[0]}; {_REMEDY}"
            )

    def _raise_non_finite(self, iteration: int, terms: np.ndarray, rows: Tensor) -> None:
        named = ", ".join(f"{n} = {v:g}" for n, v in zip(self._terms, terms, strict=True))
        rate = self.schedule.lr_at(iteration, self.cfg.SOLVER.BASE_LR)
        paths = "\n  ".join(str(self.train_set.images.path(row)) for row in rows.tolist())
        raise NonFiniteLossError(
            f"the loss is not finite at iteration {iteration} ({named}; learning rate {rate:.3g}); "
            f"{_REMEDY}. Images of the batch:\n  {paths}"
        )

    def check_readable(self, batch: Batch) -> None:
        """Count the images of a batch that another stands in for.

        Raises:
            ImageError: not one image of an individual can be read.
        """
        if batch.lost:
            listed = "\n  ".join(batch.lost)
            raise ImageError(f"no image of an individual can be read:\n  {listed}")
        for message in batch.unreadable:
            if message not in self.unreadable:
                self.unreadable.add(message)
                logger.warning(
                    "%s; another image of the same individual is used instead (%d so far)",
                    message,
                    len(self.unreadable),
                )

    def state(self) -> dict[str, Any]:
        """Return all that a run needs to go on from here, in tensors and plain containers."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "best_map": self.best_map,
            "identities": self.train_set.identities,
            "config": self.cfg.dump(),
        }

    def check_identities(self, state: dict[str, Any]) -> None:
        """Raise unless :meth:`state` was taken from training on the same individuals.

        Raises:
            ValueError: counts the differences.
        """
        if state["identities"] != self.train_set.identities:
            ours, theirs = set(self.train_set.identities), set(state["identities"])
            raise ValueError(
                f"the checkpoint was trained on {len(theirs)} identities, the data have "
                f"{len(ours)}; {len(ours ^ theirs)} of them are on one side only. Resume with the "
                "data and split that the run began with"
            )

    def resume(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state` was taken, from the same model and individuals.

        Rates and decays are those of now, in case they were changed for the rest of the run.

        Raises:
            ValueError: the optimiser has other groups of weights.
        """
        groups = self.optimizer.state_dict()["param_groups"]
        recorded = state["optimizer"]["param_groups"]
        if [group["params"] for group in groups] != [group["params"] for group in recorded]:
            raise ValueError(
                "the checkpoint's optimiser has other groups of weights. Resume with the "
                "SOLVER.WEIGHT_DECAY... and SOLVER...._LR_FACTOR keys that the run began with"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # empty where the run had no mixed precision
            self.scaler.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]
        self.best_map = state["best_map"]
