"""One iteration: what it adds up, and that it never waits for the device."""

import copy
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from openanimals.config import ConfigError, load
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_train_loader, build_transforms
from openanimals.engine.trainer import Trainer
from openanimals.modeling import build_losses, build_model
from openanimals.utils.errors import UserError
from openanimals.utils.image_range import check_images
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import tiny_cfg

CPU = torch.device("cpu")
PLAIN = {"SOLVER__OPT": "SGD", "SOLVER__MOMENTUM": 0.0, "SOLVER__BASE_LR": 0.5}
UNCHANGED = {"INPUT__FLIP__ENABLED": False, "INPUT__PADDING__ENABLED": False}
DECAYS = ("SOLVER__WEIGHT_DECAY", "SOLVER__WEIGHT_DECAY_BIAS", "SOLVER__WEIGHT_DECAY_NORM")


def ready(cfg, device=CPU):
    """A trainer before its first iteration, and its batches."""
    trainer = Trainer(cfg, load_sets(cfg).train, device)
    trainer.begin(frozen=False)
    return trainer, iter(trainer.loader())


# Parts of a batch


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_add_up_to_the_mean_of_their_gradients(count, tmp_path, herd_root):
    keys = {**PLAIN, **UNCHANGED, **dict.fromkeys(DECAYS, 0.0), "SOLVER__ACCUMULATE": count}
    keys["SOLVER__IMS_PER_BATCH"] = 18
    cfg = tiny_cfg(tmp_path, herd_root, **keys)
    trainer, batches = ready(cfg)
    model = trainer.model.double()
    naive, batch = copy.deepcopy(model), next(batches)
    images, targets = batch.images, trainer.labels[batch.rows]
    for _ in range(2):  # the second would be wrong if gradients of the first were left
        found = trainer.train_step(batch)

    for _ in range(2):
        weights = [weight for weight in naive.parameters() if weight.requires_grad]
        sums, total = [torch.zeros_like(weight) for weight in weights], 0.0
        for part in range(count):
            rows = slice(18 // count * part, 18 // count * (part + 1))
            output = naive(images[rows], targets[rows])
            loss = sum(build_losses(cfg)(output, targets[rows]).values())
            for one, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                one += gradient / count
            total += loss.item() / count
        with torch.no_grad():
            for weight, gradient in zip(weights, sums, strict=True):
                weight -= 0.5 * gradient
    torch.testing.assert_close(model.state_dict(), naive.state_dict(), rtol=1e-9, atol=1e-11)
    assert found["total_loss"].item() == pytest.approx(total, rel=1e-9)
    assert list(found) == ["total_loss", "loss_cls", "loss_triplet"]


def test_parts_are_made_of_whole_identities(tmp_path, herd_root):
    with pytest.raises(ConfigError, match=r"\(12\) must be .* \(3\) x SOLVER\.ACCUMULATE \(3\)"):
        tiny_cfg(tmp_path, herd_root, SOLVER__ACCUMULATE=3)  # 4 identities with 3 images
    sampler = {"DATALOADER__SAMPLER_TRAIN": "TrainingSampler"}
    tiny_cfg(tmp_path, herd_root, SOLVER__ACCUMULATE=3, **sampler)
    cfg = tiny_cfg(tmp_path, herd_root, SOLVER__ACCUMULATE=4)
    with pytest.raises(UserError, match=r"\(12\) must be .*ACCUMULATE \(4\) x 2 process"):
        build_train_loader(cfg, load_sets(cfg).train, world_size=2)


# Waiting for the device

BUSY = {
    "SOLVER__AMP__ENABLED": True,
    "SOLVER__CLIP_GRADIENTS__ENABLED": True,
    "INPUT__REA__ENABLED": True,
}


class Reads(TorchDispatchMode):
    """Counts what the host would have to wait for: operations whose outcome it has to look at."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        # An index may be a mask, whose size is to be known; one of whole numbers is harmless.
        masked = function is not torch.ops.aten.index.Tensor or any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if tags & set(function.tags) and masked:
            self.counts[function.name()] += 1
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("kind", ["norm", "value"])
def test_no_operation_of_an_iteration_is_read_back(kind, tmp_path, herd_root):
    keys = {**BUSY, "SOLVER__AMP__DTYPE": "bfloat16", "SOLVER__CLIP_GRADIENTS__CLIP_TYPE": kind}
    trainer, batches = ready(tiny_cfg(tmp_path, herd_root, **keys))
    trainer.scaler = torch.amp.GradScaler("cpu")  # as float16 has on CUDA
    # It looks once, and in a training on CUDA never.
    check_images(trainer.model, torch.full((1, 3, 1, 1), 255.0))
    for _ in range(3):
        batch = next(batches)
        with Reads() as reads:
            trainer.train_step(batch)
        assert not reads.counts
    with Reads() as reads:
        flags = torch.tensor([0.0, 1.0]) > 0
        flags.any().item(), bool(flags[0]), flags.nonzero(), torch.equal(flags, flags), flags[flags]
    assert sum(reads.counts.values()) == 5


@pytest.mark.parametrize("method", ["ARBase", "MGN", "SBS", "AGW"])
def test_model_and_losses_need_no_values(method):
    """The meta device has none: what reads one, even by ``tolist``, is an error there."""
    small = {"PRETRAIN": False, "DEPTH": "18x", "FEAT_DIM": 512}
    pairs = [part for key, value in small.items() for part in (f"MODEL.BACKBONE.{key}", value)]
    cfg = load(REPOSITORY / f"configs/Base-{method}.yml", pairs)
    with torch.device("meta"):
        model = build_model(cfg, 4).train()
        images = torch.zeros(8, 3, 96, 96, dtype=torch.uint8)
        targets = torch.zeros(8, dtype=torch.long)
    images = build_transforms(cfg)(images, torch.Generator().manual_seed(0))
    terms = build_losses(cfg)(model(images, targets), targets)
    sum(terms.values()).backward()
    with pytest.raises((RuntimeError, NotImplementedError)):
        targets.tolist()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_no_iteration_waits_for_a_gpu(dtype, tmp_path, herd_root):
    keys = {**BUSY, "MODEL__DEVICE": "cuda", "SOLVER__AMP__DTYPE": dtype}
    trainer, batches = ready(tiny_cfg(tmp_path, herd_root, **keys), torch.device("cuda"))
    trainer.train_step(next(batches))  # allocates the optimiser's state
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer.train_step(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")
