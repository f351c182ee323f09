"""How long a start takes: the help, a configuration, and the demo's first training step.

Each time is of a fresh process, from its start on. The files that it reads are in memory: a first
round warms them, and draws the demo's herd if need be.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Report, options, times_in_turn

ROOT = Path(__file__).parent.parent
DEMO = "configs/ARBase/demo.yml"
CLASSES = 80  # individuals that the demo trains on
PACKAGES = ("torch", "torchvision", "pandas", "openanimals.engine.train")  # in the order of import
PATIENCE = 600  # seconds until a start counts as stuck


def main() -> None:
    """Time the starts in turn and report them."""
    parser = options(__doc__)
    parser.set_defaults(rounds=3)
    asked = parser.parse_args()
    report = Report("startup", "python -m benchmarks.startup")
    times = times_in_turn(
        {
            "`openanimals --help`": _help,
            f"loading `{DEMO}`": _configuration,
            "`import torch, torchvision`": _imports,
            "the same and one step of the demo's model": _imports_and_step,
            "`openanimals train` until the first step": _first_step,
        },
        asked.rounds,
    )
    *_, step, command = times
    report.table([{"a fresh process": name, "s": times.median(name)} for name in times])
    report.line(
        f"From the command to the first step it takes {times.ratio(command, step):.2f} times as "
        "long as a process that only imports torch and torchvision, makes the same model and does "
        "one step."
    )
    report.line("Where the imports take their time, each after those above it:")
    report.table([{"import": name, "s": seconds} for name, seconds in _import_times().items()])
    report.publish(asked.write)


def _help() -> float:
    return _until_end("-m", "openanimals.cli", "--help")


def _configuration() -> float:
    return _until_end("-c", f"from openanimals.config import load; load({DEMO!r})")


def _until_end(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _imports() -> float:
    return _until_told("import torch, torchvision; print(flush=True)")


def _imports_and_step() -> float:
    return _until_told(
        "import torch, torchvision\n"
        "from benchmarks.startup import one_step\n"
        "one_step()\n"
        "print(flush=True)"
    )


def _until_told(program: str) -> float:
    """Return the seconds until a program prints its first line."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        told = process.stdout.readline()
        seconds = time.perf_counter() - start
    if not told:
        raise RuntimeError(f"{program!r} failed; what it said stands above")
    return seconds


def one_step() -> None:
    """Make the demo's model and do one training step, from memory and with nothing around it."""
    import torch

    from openanimals.config import load
    from openanimals.modeling import build_losses, build_model
    from openanimals.solver import build_optimizer

    cfg = load(ROOT / DEMO)
    model = build_model(cfg, CLASSES).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(cfg, model)
    count = cfg.SOLVER.IMS_PER_BATCH
    images = torch.randint(0, 256, (count, 3, *cfg.INPUT.SIZE_TRAIN), dtype=torch.uint8)
    targets = torch.arange(count) // cfg.DATALOADER.NUM_INSTANCE
    terms = build_losses(cfg)(model(images, targets), targets)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()


def _first_step() -> float:
    """Return the seconds until a training of the demo has written the losses of its first step."""
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/said", "w+") as said:
        losses = Path(folder, "run", "metrics.json")
        keys = ["LOG_PERIOD", "1", "OUTPUT_DIR", str(losses.parent)]
        command = [sys.executable, "-m", "openanimals.cli", "train", "--config-file", DEMO, *keys]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            while not (losses.exists() and losses.stat().st_size):
                if process.poll() is not None or time.perf_counter() - start > PATIENCE:
                    said.seek(0)
                    raise RuntimeError(f"{' '.join(command)} did no step:\n{said.read()}")
                time.sleep(0.005)
            return time.perf_counter() - start
        finally:
            process.kill()  # a loader's workers end when they miss it
            process.wait()


def _import_times() -> dict[str, float]:
    """Return the seconds that each of the packages adds to those before it."""
    program = (
        "import importlib, json, sys, time\n"
        "seconds = {}\n"
        "for name in sys.argv[1:]:\n"
        "    start = time.perf_counter()\n"
        "    importlib.import_module(name)\n"
        "    seconds[name] = time.perf_counter() - start\n"
        "print(json.dumps(seconds))"
    )
    told = subprocess.check_output([sys.executable, "-c", program, *PACKAGES], cwd=ROOT)
    return json.loads(told)


if __name__ == "__main__":
    main()
