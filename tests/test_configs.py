"""The shipped YAML files: each builds its model, loaders and optimiser, and says how to run it."""

import re
from pathlib import Path

import pytest
import torch

from openanimals.config import load
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_test_loader, build_train_loader, build_transforms
from openanimals.modeling import build_losses, build_model, check_sizes
from openanimals.solver import build_optimizer, build_schedule
from tests.conftest import REPOSITORY
from tests.data import wildlife_fixtures as fixtures
from tests.engine.tiny_run import HERD

CONFIGS = REPOSITORY / "configs"
FILES = sorted(CONFIGS.rglob("*.yml"))
AGW, CPU, HYENA = (CONFIGS / f for f in ("Base-AGW.yml", "sizes/cpu.yml", "species/hyena.yml"))
METHODS = [path for path in FILES if path.parent == CONFIGS and path.stem.count("-") == 1]
BUILT: set[str] = set()  # models and solvers of the files so far
UNTRAINED = ["MODEL.BACKBONE.PRETRAIN", False]


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS).with_suffix(""))


def composed(path: Path) -> list[Path]:
    """The files of a run: a species needs a method, a method a species, and a size both."""
    if path.parent.name == "species":
        return [AGW, path]
    if path.parent.name == "ARBase":
        return [path]
    return [AGW, path, HYENA] if path == CPU else [path, HYENA]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_opens_with_the_command_that_runs_it(path):
    opening = path.read_text().split("\n_BASE_")[0].replace(" \\\n#    ", "")
    commands = re.findall(r"^# python tools/train_net\.py (.*)$", opening, flags=re.M)
    assert any(f"--config-file {path.relative_to(REPOSITORY)}" in c for c in commands)
    for command in commands:
        named = re.findall(r"--config-file (\S+)", command)
        assert load([REPOSITORY / file for file in named])


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_builds_its_model_and_optimiser(path):
    cfg = load(composed(path), UNTRAINED)
    assert cfg.MODEL.DEVICE == "auto"
    if f"{cfg.MODEL}{cfg.SOLVER}{cfg.INPUT}" in BUILT:  # a species has no model of its own
        return
    BUILT.add(f"{cfg.MODEL}{cfg.SOLVER}{cfg.INPUT}")
    with torch.device("meta"):
        model = build_model(cfg, num_classes=10)
    check_sizes(cfg, model)
    assert len(model.heads) == sum(map(sum, cfg.MODEL.HEADS.BRANCHES))
    assert all(head.classifier.weight.shape[0] == 10 for head in model.heads.values())
    assert build_losses(cfg)
    model.freeze(cfg.MODEL.FREEZE_LAYERS)
    model.unfreeze()
    optimizer = build_optimizer(cfg, model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) > 10
    assert build_schedule(cfg, 23).lr_at(0, cfg.SOLVER.BASE_LR) > 0


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """All species of configs/species, tiny, in the layouts of their sources."""
    pytest.importorskip("wildlife_datasets.datasets", exc_type=ImportError)
    root = tmp_path_factory.mktemp("species")
    for species in ("hyena", "leopard", "seaturtle", "whaleshark", "nyala"):
        getattr(fixtures, f"make_{species}")(root, identities=8, images=4, pixels=24)
    for identity in range(8):
        folder = root / f"datasets/HolsteinFaces/{identity}"
        folder.mkdir(parents=True)
        for image in range(4):
            fixtures.coat(identity, image, 24).save(folder / f"{image}.jpg")
    return root


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # in wildlife-datasets
@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_builds_its_loaders(path, data, monkeypatch):
    monkeypatch.chdir(data)  # holstein's folder is relative
    monkeypatch.setenv("REID_DATASETS", str(data))
    cfg = load(composed(path))
    names, size = cfg.DATASETS.NAMES, 2 * cfg.DATALOADER.NUM_INSTANCE
    small = ["SOLVER.IMS_PER_BATCH", size, "DATALOADER.NUM_WORKERS", 0]
    if names == ("Animals-SyntheticHerd",):  # whose full size takes a minute to draw
        small += ["DATASETS.NAMES", (HERD,), "DATASETS.TESTS", ()]
    cfg = load(composed(path), small)
    sets = load_sets(cfg)
    batch = next(iter(build_train_loader(cfg, sets.train)))
    assert batch.images.shape == (size, 3, *cfg.INPUT.SIZE_TRAIN)
    assert build_transforms(cfg)(batch.images, torch.Generator()).shape == batch.images.shape
    for test in sets.tests:
        for images in (test.query, test.gallery):
            batch = next(iter(build_test_loader(cfg, images)))
            assert batch.images.shape[1:] == (3, *cfg.INPUT.SIZE_TEST)


@pytest.mark.parametrize("path", METHODS, ids=name)
def test_a_method_learns_at_the_size_of_a_laptop(path):
    """For real: a step from random weights."""
    torch.manual_seed(0)
    cfg = load([path, CPU], UNTRAINED)
    model = build_model(cfg, num_classes=4)
    optimizer = build_optimizer(cfg, model)
    images = torch.randint(0, 256, (8, 3, *cfg.INPUT.SIZE_TRAIN), dtype=torch.uint8)
    targets = torch.arange(8) // 2
    before = model.heads["b1"].classifier.weight.clone()
    terms = build_losses(cfg)(model(images, targets), targets)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    assert all(term.isfinite() for term in terms.values())
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad != key.endswith("neck.bias")
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), key
    assert not torch.equal(model.heads["b1"].classifier.weight, before)
    with torch.no_grad():
        assert model.eval()(images).isfinite().all()
