"""The training loop, and its step: batch, transforms, forward, losses, backward, update."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from logging import getLogger
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from openanimals.config import CfgNode, without_pretraining
from openanimals.data.build import TrainSet
from openanimals.data.cache import ImageCache
from openanimals.data.image_io import ImageError
from openanimals.data.loaders import (
    Batch,
    Loader,
    build_train_loader,
    build_transforms,
    naming_lost_workers,
)
from openanimals.engine import compiling
from openanimals.engine.device import amp_dtype, place
from openanimals.engine.loss_meter import LossMeter, check_weights
from openanimals.engine.training_state import check_optimizer
from openanimals.engine.writers import Writers
from openanimals.modeling import build_losses, build_model, check_sizes
from openanimals.modeling.weights import match_state_dict
from openanimals.solver import build_optimizer, build_schedule, clip_gradients
from openanimals.utils import distributed
from openanimals.utils.errors import UserError
from openanimals.utils.registry import Registry
from openanimals.utils.reproducibility import generator, seed_global_streams

logger = getLogger(__name__)


class Trainer:
    """Trains a model on a training set.

    To train in another way, override :meth:`train_step` in a subclass and register it in
    :data:`TRAINER_REGISTRY`; the loop, the schedule, callbacks and checkpoints stay as they are.

    Args:
        cfg: the configuration.
        train: the images.
        device: where to compute.
        pretrained: honour MODEL.BACKBONE.PRETRAIN; False where other weights replace them at once.
        cache: has or gets the images ready; None reads each from its file.

    Raises:
        UserError: the batch cannot be made of this training set, or a key of the model is wrong.

    Attributes:
        model: what is trained; :attr:`network` is what a step calls, in several processes a wrapper
            that shares gradients.
        losses: its losses, whose parameters are trained as well; a step calls :attr:`criterion`.
        iteration: iterations done; the next to do.
        frozen_iters: iterations that MODEL.FREEZE_LAYERS stay frozen.
        amp_dtype: of mixed precision, None for float32.
        scaler: of the gradients in float16; with other types it does nothing.
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
        self.loader()  # refuses a batch that cannot be made before anything costly is built
        start = cfg if pretrained else without_pretraining(cfg)
        seed_global_streams(cfg.SEED, "initialise losses")  # so that none changes the model's start
        self.losses = build_losses(cfg, self._count_classes()).to(device)
        seed_global_streams(cfg.SEED, "initialise")
        self.model = build_model(start, self._count_classes())
        check_sizes(cfg, self.model)
        self.model.freeze(cfg.MODEL.FREEZE_LAYERS)  # refuses unknown names now, not hours later
        self.model.unfreeze()
        place(self.model, device)
        self.network: nn.Module = self.model
        self.criterion: nn.Module = self.losses
        self.optimizer = build_optimizer(cfg, self.model, self.losses)
        self.amp_dtype = amp_dtype(cfg, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp_dtype == torch.float16)
        batch_size = cfg.SOLVER.IMS_PER_BATCH
        self.schedule = build_schedule(cfg, max(1, len(train.images) // batch_size))
        frozen_epochs = cfg.SOLVER.FREEZE_EPOCHS * self.schedule.iters_per_epoch
        self.frozen_iters = frozen_epochs or cfg.SOLVER.FREEZE_ITERS
        self.transforms = build_transforms(cfg)
        self.labels = torch.as_tensor(train.labels)
        self.meter = LossMeter(lambda row: str(train.images.path(row)), self.lr_at)
        self.best_map = -1.0
        self.after_step: Callable[[], None] = lambda: None
        self.after_epoch: list[Callable[[Trainer], None]] = []
        self.unreadable: set[str] = set()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.iteration // self.schedule.iters_per_epoch

    def lr_at(self, iteration: int) -> float:
        """Return the base learning rate of an iteration."""
        return self.schedule.lr_at(iteration, self.cfg.SOLVER.BASE_LR)

    @naming_lost_workers()
    def run(self, writers: Writers) -> None:
        """Train from :attr:`iteration` to the end.

        Raises:
            NonFiniteLossError: names the term, iteration, learning rate and images; or the weights.
            ImageError: not one image of an individual can be read.
            CompileError: SOLVER.COMPILE cannot be honoured here.
            LoaderError: a process that reads images was killed.
        """
        self.writers = writers
        batches = iter(self.loader())
        self.begin(frozen=self.iteration < self.frozen_iters)
        while self.iteration < self.schedule.max_iter:
            if self.iteration == self.frozen_iters > 0:
                self.begin(frozen=False)
            batch = next(batches)
            self.check_readable(batch)
            self.set_rates()
            # Layers such as dropout draw from the global streams, which no checkpoint holds.
            seed_global_streams(self.cfg.SEED, "step", self.iteration, distributed.rank())
            self.meter.add(self.iteration, self.train_step(batch), batch.rows)
            self.iteration += 1
            self.after_step()
            writers.advance()
            if self.iteration % self.cfg.LOG_PERIOD == 0:
                self._log_losses()
            if self.iteration % self.schedule.iters_per_epoch == 0:
                self._end_epoch()

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Do one update of the weights; a subclass may do another one. Never waits for the device.

        Args:
            batch: uint8 images ``[B, 3, H, W]`` in the memory of the host or the device.

        Returns:
            The total loss and its terms, scalars on the device.
        """
        images, targets = self.to_device(batch)
        # Not later: until here the old gradients would take memory from the forward pass.
        self.optimizer.zero_grad(set_to_none=True)
        count = self.cfg.SOLVER.ACCUMULATE
        parts = list(zip(images.chunk(count), targets.chunk(count), strict=True))
        with compiling.naming_the_key() if self.cfg.SOLVER.COMPILE else nullcontext():
            found = [self._backward(*part, last=part is parts[-1]) for part in parts]
        self.update()
        means = torch.stack([torch.stack([*values.values()]) for values in found]).mean(0)
        return dict(zip(found[0], means.unbind(), strict=True))

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a batch on the device: transformed images ``[B, 3, H, W]``, labels ``[B]``."""
        images = batch.images.to(self.device, non_blocking=True)
        targets = self.labels[batch.rows].to(self.device, non_blocking=True)
        draws = generator(self.cfg.SEED, "augment", self.iteration, distributed.rank())
        return self.transforms(images, draws), targets

    def _backward(self, images: Tensor, targets: Tensor, last: bool) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch, and return its losses."""
        with self._sharing(last):
            with torch.autocast(self.device.type, self.amp_dtype, self.amp_dtype is not None):
                output = self.network(images, targets)
            values = self.criterion(output, targets)
            total = torch.stack([*values.values()]).sum()
            if total.requires_grad:
                self.scaler.scale(total / self.cfg.SOLVER.ACCUMULATE).backward()
        return {name: value.detach() for name, value in [("total_loss", total), *values.items()]}

    def _sharing(self, last: bool) -> AbstractContextManager:
        """Return a context in which processes share their gradients only if it is the last part."""
        alone = ExitStack()
        for module in (self.network, self.criterion):
            if not last and isinstance(module, DistributedDataParallel):
                alone.enter_context(module.no_sync())
        return alone

    def update(self) -> None:
        """Update the weights by their gradients, clipped if SOLVER.CLIP_GRADIENTS says so."""
        parameters = [*self.model.parameters(), *self.losses.parameters()]
        if not any(parameter.grad is not None for parameter in parameters):
            return  # nothing to do while all parts are frozen, as MGN's were
        clip = self.cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(parameters, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def begin(self, frozen: bool) -> None:
        """Freeze or unfreeze MODEL.FREEZE_LAYERS, and get ready for iterations like that.

        Which gradients the processes share depends on the layers that learn.
        """
        self.model.train()
        if frozen:
            self.model.freeze(self.cfg.MODEL.FREEZE_LAYERS)
        else:
            self.model.unfreeze()
        if self.cfg.SOLVER.COMPILE:
            compiling.compile_blocks(self.model)
        self.network, self.criterion = self._shared(self.model), self._shared(self.losses)

    def _shared(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the means over the processes."""
        learning = any(parameter.requires_grad for parameter in module.parameters())
        if distributed.world_size() == 1 or not learning:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def set_rates(self) -> None:
        """Set the learning rates of the iteration that comes next."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr_at(self.iteration, group["initial_lr"])

    def loader(self) -> Loader:
        """Return the batches of this process from :attr:`iteration` on; they have no end."""
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
            listed = "\n  ".join(batch.lost.values())
            raise ImageError(f"no image of an individual can be read:\n  {listed}")
        for message in batch.unreadable.values():
            if message not in self.unreadable:
                self.unreadable.add(message)
                logger.warning(
                    "%s; another image of the same individual is used instead (%d so far)",
                    message,
                    len(self.unreadable),
                )

    def as_written(self) -> AbstractContextManager:
        """Return a context in which the model computes as if nothing were compiled.

        So what an epoch's end evaluates is what an evaluation of its checkpoint gives, bit for bit.
        """
        compiled = self.cfg.SOLVER.COMPILE
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

    def _log_losses(self) -> None:
        means = self.meter.take()
        if means:
            self.writers.losses(self.iteration - 1, means, self.lr_at(self.iteration - 1))

    def _end_epoch(self) -> None:
        self._log_losses()  # so that no weights after a non-finite loss are ever saved
        for module in (self.model, self.losses):
            check_weights(module, self.scaler, self.iteration)
            distributed.share_buffers(module)  # all evaluate what the first one saves
        with self.as_written():
            for callback in self.after_epoch:
                callback(self)
        self.writers.restart_clock(self.iteration)

    def _count_classes(self) -> int:
        classes, identities = self.cfg.MODEL.HEADS.NUM_CLASSES, len(self.train_set.identities)
        if 0 < classes < identities:
            raise UserError(
                f"MODEL.HEADS.NUM_CLASSES is {classes}, but the training set has {identities} "
                "identities; set it to 0 to have them counted"
            )
        return classes or identities

    def state(self) -> dict[str, Any]:
        """Return all that a run needs to go on from here, in tensors and plain containers."""
        return {
            "model": self.model.state_dict(),
            "losses": self.losses.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "best_map": self.best_map,
            "identities": self.train_set.identities,
            "config": self.cfg.dump(),
        }

    def check_identities(self, state: dict[str, Any]) -> None:
        """Raise unless :meth:`state` was taken from training on the same individuals."""
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
            UserError: the optimiser's state is of other weights or damaged, or the losses are
                others.
        """
        check_optimizer(self.optimizer, state["optimizer"], state["iteration"])
        losses = match_state_dict(self.losses, state["losses"], source="the checkpoint")
        self.losses.load_state_dict(losses)
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # empty where the run had no mixed precision
            self.scaler.load_state_dict(self.scaler.state_dict() | state["scaler"])
        self.iteration = state["iteration"]
        self.best_map = state["best_map"]


TRAINER_REGISTRY: Registry[type[Trainer]] = Registry("trainer")
"""Subclasses of :class:`Trainer` by the name in the key ``TRAINER``."""

TRAINER_REGISTRY.register("Trainer")(Trainer)
