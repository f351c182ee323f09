"""The training loop: batch, augmentation, one step; at the end of an epoch what is due then."""

from collections.abc import Callable
from functools import partial
from logging import getLogger
from typing import Any

import torch

from openanimals.config import CfgNode, without_pretraining
from openanimals.data.batches import Batch, Batches
from openanimals.data.build import TrainSet
from openanimals.data.image_cache import ImageCache
from openanimals.data.image_io import ImageError
from openanimals.data.loaders import build_train_loader, build_transforms
from openanimals.engine.device import place
from openanimals.engine.history import History, check_weights
from openanimals.engine.step import Step
from openanimals.engine.writers import Logbook, NoLogbook
from openanimals.modeling import build_losses, build_model, check_sizes
from openanimals.modeling.weights import match_state_dict
from openanimals.solver import build_optimizer, build_schedule
from openanimals.utils import distributed
from openanimals.utils.errors import UserError
from openanimals.utils.reproducibility import generator, seed_global_streams

logger = getLogger(__name__)


class Trainer:
    """Trains a model on a training set.

    Args:
        cfg: the configuration.
        train: the images.
        device: where to compute.
        pretrained: honour MODEL.BACKBONE.PRETRAIN; False where other weights replace them at once.
        cache: has or gets the images ready; None reads each from its file.

    Raises:
        ValueError: the batch cannot be made of this training set, or a key of the model is wrong.

    Attributes:
        iteration: iterations done; the next to do.
        frozen_iters: iterations that MODEL.FREEZE_LAYERS stay frozen.
        best_map: best mAP of the run so far, -1 before the first evaluation.
        after_step: called after each iteration, with nothing.
        after_epoch: called with the trainer at the end of each epoch, in order.
    """

    def __init__(
        self,
        cfg: CfgNode,
        train: TrainSet,
        device: torch.device,
        pretrained: bool = True,
        cache: ImageCache | None = None,
    ) -> None:
        self.cfg, self.train_set, self.device, self.cache = cfg, train, device, cache
        self.iteration = 0
        self._loader()  # refuses a batch that cannot be made before anything costly is built
        start = cfg if pretrained else without_pretraining(cfg)
        seed_global_streams(cfg.SEED, "initialise losses")  # so that none changes the model's start
        self.losses = build_losses(cfg, self._count_classes()).to(device)
        seed_global_streams(cfg.SEED, "initialise")
        self.model = build_model(start, self._count_classes())
        check_sizes(cfg, self.model)
        self.model.freeze(cfg.MODEL.FREEZE_LAYERS)  # refuses unknown names now, not hours later
        self.model.unfreeze()
        place(self.model, device)
        self.optimizer = build_optimizer(cfg, self.model, self.losses)
        self.step = Step(cfg, self.model, self.losses, self.optimizer, device)
        batch_size = cfg.SOLVER.IMS_PER_BATCH
        self.schedule = build_schedule(cfg, max(1, len(train.images) // batch_size))
        frozen_epochs = cfg.SOLVER.FREEZE_EPOCHS * self.schedule.iters_per_epoch
        self.frozen_iters = frozen_epochs or cfg.SOLVER.FREEZE_ITERS
        self.augment = build_transforms(cfg)
        self.labels = torch.as_tensor(train.labels)
        self.history = History(train, partial(self.schedule.lr_at, base_lr=cfg.SOLVER.BASE_LR))
        self.best_map = -1.0
        self.after_step: Callable[[], None] = lambda: None
        self.after_epoch: list[Callable[[Trainer], None]] = []
        self.unreadable: set[str] = set()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.iteration // self.schedule.iters_per_epoch

    def _count_classes(self) -> int:
        classes, identities = self.cfg.MODEL.HEADS.NUM_CLASSES, len(self.train_set.identities)
        if 0 < classes < identities:
            raise UserError(
                f"MODEL.HEADS.NUM_CLASSES is {classes}, but the training set has {identities} "
                "identities; set it to 0 to have them counted"
            )
        return classes or identities

    def run(self, logbook: Logbook | NoLogbook) -> None:
        """Train from ``self.iteration`` to the end.

        Raises:
            NonFiniteLossError: names the term, iteration, learning rate and images; or the weights.
            ImageError: not one image of an individual can be read.
            CompileError: SOLVER.COMPILE cannot be honoured here.
        """
        self.logbook = logbook
        batches = iter(self._loader())
        self.step.begin(frozen=self.iteration < self.frozen_iters)
        self.model.train()
        while self.iteration < self.schedule.max_iter:
            if self.iteration == self.frozen_iters > 0:
                self.step.begin(frozen=False)
            self._iterate(next(batches))
            self.iteration += 1
            self.after_step()
            if self.iteration % self.cfg.LOG_PERIOD == 0:
                self._log_losses()
            if self.iteration % self.schedule.iters_per_epoch == 0:
                self._log_losses()  # so that no weights after a non-finite loss are ever saved
                for module in (self.model, self.losses):
                    check_weights(module, self.step.scaler, self.iteration)
                    distributed.share_buffers(module)  # all evaluate what the first one saves
                with self.step.as_written():
                    for callback in self.after_epoch:
                        callback(self)
                self.logbook.restart_clock(self.iteration)

    def _iterate(self, batch: Batch) -> None:
        """Do one iteration."""
        self.check_readable(batch)
        images = batch.images.to(self.device, non_blocking=True)
        targets = self.labels[batch.rows].to(self.device, non_blocking=True)
        draws = generator(self.cfg.SEED, "augment", self.iteration, distributed.rank())
        # Layers such as dropout draw from the global streams, which no checkpoint holds.
        seed_global_streams(self.cfg.SEED, "step", self.iteration, distributed.rank())
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr_at(self.iteration, group["initial_lr"])
        terms = self.step(self.augment(images, draws), targets)
        self.history.add(self.iteration, terms, batch.rows)
        self.logbook.step()

    def _log_losses(self) -> None:
        means = self.history.take()
        if means:
            last = self.iteration - 1
            self.logbook.losses(last, means, self.schedule.lr_at(last, self.cfg.SOLVER.BASE_LR))

    def _loader(self) -> Batches:
        """Return the batches from ``self.iteration`` on."""
        return build_train_loader(
            self.cfg,
            self.train_set,
            start=self.iteration,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            cache=self.cache,
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
            "losses": self.losses.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
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
            raise UserError(
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
            raise UserError(
                "the checkpoint's optimiser has other groups of weights. Resume with the "
                "SOLVER.WEIGHT_DECAY..., SOLVER...._LR_FACTOR and MODEL.LOSSES keys that the run "
                "began with"
            )
        losses = match_state_dict(self.losses, state.get("losses", {}), source="the checkpoint")
        self.losses.load_state_dict(losses)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # empty where the run had no mixed precision
            self.step.scaler.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]
        self.best_map = state["best_map"]
