"""Trains runs by ``train_net.py --resume``, and notes what became of each in its run.json."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from importlib.metadata import version
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from openanimals.config import load
from openanimals.engine.check import describe_schedule
from openanimals.engine.device import describe_environment, pick_device
from openanimals.engine.launch import end_with
from openanimals.utils.errors import UserError
from openanimals.utils.files import read_json, write_json, write_text
from reproduce.grid import TABLES, Grid, Run

logger = getLogger("openanimals.reproduce")
REPOSITORY = Path(__file__).parents[2]
TRAIN = REPOSITORY / "tools/train_net.py"  # not -m, which prefers a package where the user stands
PACKAGES = ("torchvision", "numpy", "pandas", "pillow")
POLL = 0.1  # seconds between looks at the processes

DATA = {"DATASETS.NAMES", "DATASETS.TESTS", "SOLVER.WARMUP_ITERS", "SOLVER.FREEZE_ITERS"}
"""Keys that are those of a species, or depend on how many images it has."""

ELSEWHERE = {
    *("OUTPUT_DIR", "DATASETS.ROOT", "DATALOADER.NUM_WORKERS"),
    *("INPUT.CACHE", "INPUT.CACHE_DIR", "INPUT.CACHE_LIMIT"),
}
"""Keys that say where a run is and not what it is: a grid may move to another machine."""


def read(folder: Path) -> dict[str, Any]:
    """Return what is noted of a run; its status is finished, failed, running or unfinished.

    One that is running may have been killed.
    """
    try:
        facts = read_json(folder / "run.json", "status")
    except FileNotFoundError:
        return {"status": "unfinished"}
    if facts["status"] == "finished" and not (folder / "results.json").exists():
        facts["status"] = "unfinished"
    return facts


def note(folder: Path, **facts: Any) -> None:
    """Add to what is noted of a run."""
    write_json(folder / "run.json", read(folder) | facts)


def check_settings(grid: Grid, images: Mapping[str, int]) -> None:
    """Refuse a folder with runs that were trained with other settings.

    Args:
        grid: with the settings that are asked for.
        images: that training has, by species; of other species the data are not compared.

    Raises:
        UserError: names a run and the keys that differ.
    """
    for file in sorted(grid.folder.glob("*/*/seed*/config.yaml")):
        row, species, seed = file.parts[-4:-1]
        begun = (file.parent / "results.json").exists() or any(file.parent.glob("model_*.pth"))
        if not begun or row not in TABLES[grid.table]["rows"]:
            continue
        asked = grid.run(row, species, int(seed.removeprefix("seed")), images.get(species, 0))
        before = dict(load(file).keys_and_values())
        now = dict(asked.config.keys_and_values())
        ignored = ELSEWHERE if species in images else ELSEWHERE | DATA
        changes = [
            f"{key} ({before.get(key)} -> {now.get(key)})"
            for key in before | now
            if key not in ignored and before.get(key) != now.get(key)
        ]
        if changes:
            raise UserError(
                f"{file.parent} was trained with other settings: {', '.join(changes)}. The runs of "
                "a table share theirs: choose another --output"
            )


def train(
    runs: Sequence[Run],
    images: Mapping[str, int],
    gpus: int,
    command: str,
    ended: Callable[[], None],
) -> None:
    """Train the runs that have not finished; no training outlives this process.

    Args:
        runs: in order.
        images: that training has, by species.
        gpus: each trains one run at a time; 0: one run at a time, wherever MODEL.DEVICE says.
        command: the command line of the tool.
        ended: called whenever a run has ended.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    places = [{"CUDA_VISIBLE_DEVICES": name} for name in visible.split(",")[:gpus]] or [{}]
    waiting = [run for run in runs if read(run.folder)["status"] != "finished"]
    running: dict[int, tuple[Run, subprocess.Popen, float]] = {}
    _tell_progress(runs, waiting, 0, len(places))
    try:
        while waiting or running:
            for place, environment in enumerate(places):
                if waiting and place not in running:
                    run = waiting.pop(0)
                    note(run.folder, **_facts(run, images[run.species], place), command=command)
                    running[place] = run, _start(run, environment), time.monotonic()
                    logger.info("%s: starts, in %s", run, run.folder)
            time.sleep(POLL)
            for place, (run, process, began) in list(running.items()):
                if process.poll() is not None:
                    del running[place]
                    _end(run, process.returncode, time.monotonic() - began)
                    ended()
                    left = [*waiting, *(run for run, *_ in running.values())]
                    _tell_progress(runs, left, len(running), len(places))
    finally:
        for _, process, _ in running.values():
            process.kill()
            process.wait()


def _start(run: Run, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start a run that the system kills when this process ends, however that ends."""
    config = run.folder / "config.yaml"
    write_text(config, run.config.dump())  # as planned: a file in configs/ may have been changed
    how = "--resume" if run.trains else "--eval-only"
    with open(run.folder / "console.txt", "wb") as console:
        return subprocess.Popen(
            [sys.executable, str(TRAIN), how, "--config-file", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            preexec_fn=partial(end_with, os.getpid()),
        )


def _end(run: Run, code: int, seconds: float) -> None:
    """Note how a training has ended."""
    error = ""
    if code < 0:
        error = f"killed by {signal.Signals(-code).name}"
    elif code:
        text = (run.folder / "console.txt").read_text(encoding="utf-8", errors="replace")
        _, found, message = f"\n{text}".rpartition("\nerror: ")
        last_line = text.strip().rpartition("\n")[2]
        error = " ".join((message if found else last_line).split()) or f"exit status {code}"
    status = "failed" if error else "finished"
    total = read(run.folder)["seconds"] + seconds
    note(run.folder, status=status, error=error, seconds=round(total, 1))
    outcome = f"failed: {error}" if error else "finished"
    logger.info("%s: %s, %s", run, outcome, timedelta(seconds=round(total)))


def _facts(run: Run, images: int, place: int) -> dict[str, Any]:
    """Return what is noted of a run that starts or goes on."""
    before = read(run.folder)
    seconds = before.get("seconds", 0.0)
    if before["status"] == "running":  # it was killed, after it wrote its last file
        last = max(file.stat().st_mtime for file in run.folder.iterdir())
        seconds += max(0.0, last - datetime.fromisoformat(before["started"]).timestamp())
    name = run.config.MODEL.DEVICE
    on_gpu = torch.cuda.is_available() and name in ("auto", "cuda")
    device = torch.device("cuda", place) if on_gpu else pick_device(name)
    return {
        "status": "running",
        "error": "",
        "seconds": seconds,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": " ".join(dict.fromkeys([*before.get("commit", "").split(), commit()])),
        "versions": ", ".join(f"{package} {version(package)}" for package in PACKAGES),
        "device": describe_environment(run.config, device),
        "schedule": describe_schedule(run.config, images) if run.trains else "nothing is trained",
    }


def commit() -> str:
    """Return the commit of this code, with "+" if it was changed since, or "unknown"."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "openanimals", "configs", "tools")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _tell_progress(runs: Sequence[Run], left: Sequence[Run], running: int, places: int) -> None:
    """Log how many runs have finished, failed, run and wait, and the time they will take."""
    ended = [read(run.folder) for run in runs if run not in left]
    seconds = [facts["seconds"] for facts in ended if facts["status"] == "finished"]
    text = f"{len(seconds)} runs finished, {len(ended) - len(seconds)} failed, {running} running"
    text += f", {len(left) - running} to come"
    if seconds and left:
        usual = sum(seconds) / len(seconds)
        text += f", about {timedelta(seconds=round(usual * len(left) / places))} left"
    logger.info("%s", text)
