"""One iteration of a training: forward, losses, backward, update."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from openanimals.config import CfgNode
from openanimals.engine import compiling, graphs
from openanimals.engine.device import amp_dtype
from openanimals.modeling import Losses, ReIDModel
from openanimals.solver import clip_gradients
from openanimals.utils import distributed
from openanimals.utils.errors import UserError


class Step:
    """Does iterations on batches that are on the device already, and never waits for it.

    Args:
        cfg: the configuration.
        model: on the device.
        losses: on the device.
        optimizer: of the parameters of both.
        device: where to compute.

    Raises:
        ValueError: SOLVER.ACCUMULATE or SOLVER.CUDA_GRAPHS cannot be honoured here.

    Attributes:
        amp_dtype: of mixed precision, None for float32.
        scaler: of the gradients in float16; with other types it does nothing.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: ReIDModel,
        losses: Losses,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self.cfg, self.model, self.losses = cfg, model, losses
        self.optimizer, self.device = optimizer, device
        self.amp_dtype = amp_dtype(cfg, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp_dtype == torch.float16)
        _check_parts(cfg)
        if cfg.SOLVER.CUDA_GRAPHS:
            graphs.check(device)
        self.network: nn.Module | graphs.Replayed = model
        self.criterion: nn.Module = losses

    def begin(self, frozen: bool) -> None:
        """Freeze or unfreeze MODEL.FREEZE_LAYERS, and get ready for iterations like that.

        Which gradients the processes share, and what a graph has recorded, depends on the layers
        that learn.
        """
        if frozen:
            self.model.freeze(self.cfg.MODEL.FREEZE_LAYERS)
        else:
            self.model.unfreeze()
        if self.cfg.SOLVER.COMPILE:
            compiling.compile_blocks(self.model)
        self.network, self.criterion = self._shared(self.model), self._shared(self.losses)
        if self.cfg.SOLVER.CUDA_GRAPHS:
            self.network = graphs.Replayed(self.model)

    def _shared(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the means over the processes."""
        learning = any(parameter.requires_grad for parameter in module.parameters())
        if distributed.world_size() == 1 or not learning:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def _parameters(self) -> Iterator[nn.Parameter]:
        return chain(self.model.parameters(), self.losses.parameters())

    def __call__(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Do one iteration.

        Args:
            images: augmented, ``[B, 3, H, W]`` in 0..255.
            targets: class of each image, ``[B]``.

        Returns:
            The total loss and its terms, scalars on the device.

        Raises:
            CompileError: SOLVER.COMPILE cannot be honoured here.
        """
        # Not later: until here the old gradients would take memory from the forward pass.
        self.optimizer.zero_grad(set_to_none=True)
        count = self.cfg.SOLVER.ACCUMULATE
        parts = list(zip(images.chunk(count), targets.chunk(count), strict=True))
        with compiling.naming_the_key() if self.cfg.SOLVER.COMPILE else nullcontext():
            found = [self._pass(*part, last=part is parts[-1]) for part in parts]
        if any(parameter.grad is not None for parameter in self._parameters()):
            self._update()  # nothing to do while all parts are frozen, as MGN's were
        means = torch.stack([torch.stack([*values.values()]) for values in found]).mean(0)
        return dict(zip(found[0], means.unbind(), strict=True))

    def _pass(self, images: Tensor, targets: Tensor, last: bool) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch, and return its losses."""
        with self._sharing(last):
            # A graph must not hold what autocast has cached of the weights.
            cached = not self.cfg.SOLVER.CUDA_GRAPHS
            enabled = self.amp_dtype is not None
            with torch.autocast(self.device.type, self.amp_dtype, enabled, cache_enabled=cached):
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

    def _update(self) -> None:
        clip = self.cfg.SOLVER.CLIP_GRADIENTS
        if clip.ENABLED:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self._parameters(), clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def as_written(self) -> AbstractContextManager:
        """Return a context in which the model computes as if nothing were compiled.

        So what an epoch's end evaluates is what an evaluation of its checkpoint gives, bit for bit.
        """
        compiled = self.cfg.SOLVER.COMPILE
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _check_parts(cfg: CfgNode) -> None:
    """Refuse parts of a batch that are not made of whole identities."""
    batch, count = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE
    processes = distributed.world_size()
    identity_balanced = cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler"
    unit = cfg.DATALOADER.NUM_INSTANCE if identity_balanced else 1
    if batch % (count * unit * processes):
        raise UserError(
            f"SOLVER.IMS_PER_BATCH ({batch}) must be a multiple of SOLVER.ACCUMULATE ({count}) x "
            f"{unit} images of an identity x {processes} process(es), so that a step has equal "
            "parts of whole identities"
        )
