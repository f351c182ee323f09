"""The house rules that a machine can check: layers, light imports, live keys."""

import ast
import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from openanimals.config import CfgNode, get_cfg, load
from openanimals.data.build import load_sets
from openanimals.data.loaders import build_transforms
from openanimals.engine import train as run
from openanimals.engine.matchers import FeatureMatcher, build_matcher
from openanimals.evaluation.build import build_blocks
from openanimals.modeling import LOSS_REGISTRY, build_losses, build_model
from openanimals.solver import build_optimizer, build_schedule
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import overrides

PACKAGE = REPOSITORY / "openanimals"
SOURCES = {str(path.relative_to(REPOSITORY)): path for path in sorted(PACKAGE.rglob("*.py"))}
TOOLS = {str(path.relative_to(REPOSITORY)): path for path in (REPOSITORY / "tools").rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in {**SOURCES, **TOOLS}.items()}

BELOW = {"config", "utils"}
ALLOWED = {
    "config": BELOW,
    "utils": {"utils"},
    "data": BELOW | {"data"},
    "modeling": BELOW | {"modeling"},
    "solver": BELOW | {"solver"},
    "evaluation": BELOW | {"evaluation"},
    "matching": BELOW | {"matching"},
    "cli": BELOW | {"engine", "identification"},
    "engine": BELOW | {"data", "modeling", "solver", "evaluation", "matching", "engine"},
    "identification": BELOW | {"data", "evaluation", "matching", "engine", "identification"},
}
HEAVY = {
    *("torch", "torchvision", "numpy", "pandas", "scipy", "PIL", "yaml", "yacs", "cv2", "tqdm"),
    *("wildlife_datasets", "timm", "safetensors", "matplotlib", "tensorboard", "faiss", "onnx"),
    *("pyarrow", "openpyxl", "jinja2", "sklearn", "openvino", "onnxruntime"),
    *("starlette", "uvicorn"),
}
OPTIONAL = {
    *("wildlife_datasets", "timm", "safetensors", "matplotlib", "cv2", "faiss", "onnx"),
    *("pyarrow", "tensorboard", "torch.utils.tensorboard", "openpyxl", "jinja2", "onnxruntime"),
    *("onnxscript", "openvino", "sklearn", "starlette", "uvicorn"),
}


def imported(nodes) -> set[str]:
    """The modules that import statements among the nodes name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def on_import(tree: ast.AST):
    """The nodes of a file that run when it is imported: those in no function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from on_import(node)


def test_layers():
    wrong = [
        f"{name} imports {module}"
        for name in SOURCES
        if name != "openanimals/__init__.py"  # which gives what users need
        for module in imported(ast.walk(TREES[name]))
        if module.startswith("openanimals.")
        and module.split(".")[1] not in ALLOWED[name.split("/")[1].removesuffix(".py")]
    ]
    assert not wrong


def test_optional_packages_are_imported_where_they_are_used():
    wrong = [
        f"{name} imports {module}"
        for name in SOURCES
        for module in imported(on_import(TREES[name]))
        if any(f"{module}.".startswith(f"{package}.") for package in OPTIONAL)
    ]
    assert not wrong


SLOW = {"torch", "torchvision", "sklearn", "cv2"}
WITHOUT_TORCH = ("listing", "desk")  # openanimals import, catalogue and captures: at once


@pytest.mark.parametrize(
    ("module", "unused"),
    [("", HEAVY), (".cli", HEAVY), *((f".identification.{name}", SLOW) for name in WITHOUT_TORCH)],
)
def test_importing_is_cheap(module, unused):
    program = f"import json, sys, openanimals{module}; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", program], cwd=REPOSITORY))
    assert not {name.split(".")[0] for name in modules} & unused


def may_read_cfg(name: str) -> bool:
    """Whether a file may know the tree of keys: the places where config meets components."""
    packages = ("config", "solver", "engine")
    files = ("__init__.py", "cli.py", "data/loaders.py", "data/sets.py")
    inner = name.removeprefix("openanimals/")
    return inner.split("/")[0] in packages or inner in files or inner.endswith("/build.py")


def test_cfg_is_read_only_where_config_meets_components():
    wrong = []
    for name in SOURCES:
        if not may_read_cfg(name):
            nodes = list(ast.walk(TREES[name]))
            named = [n for n in nodes if "cfg" in (getattr(n, "id", ""), getattr(n, "arg", ""))]
            modules = [m for m in imported(nodes) if m.startswith("openanimals.config")]
            wrong += [name] if named or modules else []
    assert not wrong


# Words that were ours alone; what a module, class or function is called now is the field's.
UNUSUAL = {
    *("photographs", "draws", "pixels", "ready_images", "augment"),
    *("rectangles", "step", "occasional", "batches", "trainbatches", "flank", "side"),
    *("orientation", "logbook", "history", "test", "testing", "scoring", "tiles", "ranks", "rows"),
    *("store", "archive", "reduction", "expansion", "compare", "pictures", "cell", "groups"),
    *("sheets", "request", "records", "leash", "lifeline"),
}
SEEN_IN_OTHERS = {"tools/compare.py", "openanimals/cli.py: _compare"}  # the name of a command


def test_things_are_called_by_the_words_of_the_field():
    found = set()
    for name, tree in TREES.items():
        found |= {name} if name.split("/")[-1].removesuffix(".py") in UNUSUAL else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found |= {f"{name}: {node.name}"} if node.name.lower() in UNUSUAL else set()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= {f"{name}: {node.name}"} if node.name.strip("_") in UNUSUAL else set()
    assert found <= SEEN_IN_OTHERS


def test_files_are_short():
    lengths = {name: len((REPOSITORY / name).read_text().splitlines()) for name in TREES}
    assert not {name: length for name, length in lengths.items() if length > 350}


def test_continuous_integration_can_import_wildlife_datasets():
    """Elsewhere the tests of species are skipped without it, for instance for want of libGL."""
    if not os.environ.get("CI"):
        pytest.skip("only continuous integration (CI=true) must have wildlife-datasets")
    importlib.import_module("wildlife_datasets.datasets")


# Keys


class Recorder:
    """Notes which keys of frozen trees are read as attributes."""

    def __init__(self, monkeypatch):
        self.read: set[str] = set()
        self.paths: dict[int, tuple[str, CfgNode]] = {}
        plain = CfgNode.__getattr__

        def noted(node, name):
            value = plain(node, name)
            if id(node) in self.paths:
                self.read.add(f"{self.paths[id(node)][0]}{name}")
            return value

        monkeypatch.setattr(CfgNode, "__getattr__", noted, raising=False)

    def watch(self, cfg: CfgNode, prefix: str = "") -> CfgNode:
        """Note reads of a tree from now on; the reference keeps its identity its own."""
        self.paths[id(cfg)] = (prefix, cfg)
        for name, value in cfg.items():
            if isinstance(value, CfgNode):
                self.watch(value, f"{prefix}{name}.")
        return cfg


def test_every_key_is_read(tmp_path, herd_root, monkeypatch):
    recorder = Recorder(monkeypatch)
    base = REPOSITORY / "configs" / "Base-ARBase.yml"
    tiny = overrides(tmp_path, herd_root, SOLVER__MAX_EPOCH=1, SOLVER__FREEZE_ITERS=1)
    tiny += ["SOLVER.CLIP_GRADIENTS.ENABLED", True]
    precise = ["TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 1]
    run.train(recorder.watch(load(base, [*tiny, *precise])))
    again = load(base, [*tiny, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth")])
    run.evaluate_only(recorder.watch(again))
    cfg = recorder.watch(load(base, [*tiny, "TEST.MATCHER", "fusion", "MATCHING.POINTS", 50]))
    network = FeatureMatcher(cfg, build_model(cfg, 0), torch.device("cpu"))
    build_matcher(cfg, network, load_sets(cfg), None)

    # What only some recipes read, each built once.
    switches = [key for key, _ in get_cfg().keys_and_values() if key.endswith("ENABLED")]
    switched_on = [part for key in switches for part in (key, True)]
    cfg = recorder.watch(load(base, [*tiny, *switched_on, "SOLVER.OPT", "SGD"]))
    build_transforms(cfg)
    build_optimizer(cfg, torch.nn.Linear(2, 2))
    build_schedule(cfg, 10)
    build_blocks(cfg, torch.eye(2), torch.eye(2), torch.device("cpu"))
    run.Trainer(cfg, load_sets(cfg).train, torch.device("cpu")).loader()
    names = [name for name in LOSS_REGISTRY]
    build_losses(recorder.watch(load(base, ["MODEL.LOSSES.NAME", names])))
    pretrained = ["MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", "none.pth"]
    with pytest.raises(ValueError, match=r"none\.pth"):
        build_model(recorder.watch(load(base, pretrained)), 2)

    keys = {key for key, _ in cfg.keys_and_values()}
    assert keys - recorder.read == {
        "IMPORTS",  # are imported when the tree is checked
        "MODEL.META_ARCHITECTURE",  # becomes HEADS.BRANCHES then
    }


# Documents


def test_the_list_of_keys_is_up_to_date():
    spec = importlib.util.spec_from_file_location(
        "config_reference", REPOSITORY / "tools" / "config_reference.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.DOCUMENT.read_text() == tool.document(), "run: python tools/config_reference.py"
    listed = {key: meaning for key, _, meaning in tool.list_keys()}
    assert listed.keys() == {key for key, _ in get_cfg().keys_and_values()}
    assert all(listed.values()), "every key has a comment"
