"""The package as others get it: a wheel, an empty folder, a Python without the environment."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from openanimals import cli
from openanimals.config import shipped
from tests.conftest import REPOSITORY
from tests.engine.tiny_run import overrides

pytestmark = pytest.mark.cli


def run(command, cwd: Path, **environment) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds what the wheel does, and nothing else."""
    source, built, unpacked = map(tmp_path_factory.mktemp, ("source", "built", "unpacked"))
    for name in ("openanimals", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(built)]
    finished = run([sys.executable, "-m", "pip", "wheel", *options, "."], source)
    assert finished.returncode == 0, finished.stderr
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(unpacked)
    return unpacked


def files(folder: Path, *suffixes: str) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in suffixes}


def test_the_wheel_holds_the_code_and_the_configs(installed):
    package = installed / "openanimals"
    code = files(REPOSITORY / "openanimals", ".py", ".typed")
    assert files(package, ".py", ".typed") - code == set() == code - files(package, ".py", ".typed")
    assert files(package / "configs", ".yml") == files(REPOSITORY / "configs", ".yml")
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"openanimals"}


def test_what_is_installed_trains_from_an_empty_folder(installed, tmp_path):
    config = ["--config-file", "configs/ARBase/demo.yml"]
    keys = map(str, overrides(Path("run"), Path("data"), SOLVER__MAX_EPOCH=1))
    command = [sys.executable, "-m", "openanimals.cli", "train", *config, *keys]
    path = os.pathsep.join([str(installed), str(REPOSITORY)])  # for tests.tiny
    finished = run([*command, "IMPORTS", "tests.tiny"], tmp_path, PYTHONPATH=path)
    assert finished.returncode == 0, finished.stderr
    taken = installed / "openanimals/configs/ARBase/demo.yml"
    assert f"configs/ARBase/demo.yml is not here; the shipped one is taken: {taken}" in (
        finished.stdout
    )
    assert (tmp_path / "run/results.json").is_file()


def test_configs_lists_what_is_shipped_and_what_each_is(capsys):
    assert cli.main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(files(REPOSITORY / "configs", ".yml"))
    assert all(shipped().values())


@pytest.mark.parametrize("tool", ["train_net", "check_data", "prepare_data", "convert_checkpoint"])
def test_a_python_without_the_environment_says_how_to_activate_it(tool, tmp_path):
    script = [str(REPOSITORY / f"tools/{tool}.py"), "folder:x", "y.pth"]
    arguments = ["--config-file", "configs/ARBase/demo.yml"] if tool == "train_net" else script[1:]
    arguments = arguments[: 1 if tool in ("prepare_data", "check_data") else None]
    bare = [sys.executable, "-S", "-E"]  # -S: without any installed package
    finished = run([*bare, script[0], *arguments], tmp_path)
    assert finished.returncode == 2 and "Traceback" not in finished.stderr
    assert "activate the environment of OpenAnimals (source .venv/bin/activate)" in finished.stderr
