"""--profile N: a trace of N iterations, and a training that goes on."""

import gzip
import json

import pytest
import torch

from openanimals import cli
from openanimals.engine import checkpoint
from tests.engine.tiny_run import BASE, overrides


@pytest.fixture
def command_line(tmp_path, herd_root):
    """Runs a tiny training of 9 iterations by its command line, and returns the exit status."""

    def run(*options, name="run", **keys):
        pairs = map(str, overrides(tmp_path / name, herd_root, **keys))
        return cli.main(["train", "--config-file", str(BASE), *options, *pairs])

    return run


def test_a_trace_has_the_iterations_asked_for_and_the_training_goes_on(
    command_line, tmp_path, capsys
):
    assert command_line("--profile", "1", SOLVER__MAX_EPOCH=2) == 0
    trace = json.loads(gzip.decompress((tmp_path / "run/trace.json.gz").read_bytes()))
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert sum(name.startswith("ProfilerStep#") for name in names) == 1
    assert "aten::convolution_backward" in names
    log = (tmp_path / "run/log.txt").read_text()
    assert f"trace of 1 iterations in {tmp_path}/run/trace.json.gz" in log
    heads = [line.split() for line in log.splitlines()]
    assert ["operation", "calls", "ms", "%"] in heads

    assert command_line(name="plain", SOLVER__MAX_EPOCH=2) == 0
    ours, plain = (
        checkpoint.read(tmp_path / name / "model_final.pth")["model"] for name in ("run", "plain")
    )
    assert all(torch.equal(ours[key], plain[key]) for key in plain)
    assert not (tmp_path / "plain/trace.json.gz").exists()
    assert command_line("--resume", "--profile", "1", name="plain", SOLVER__MAX_EPOCH=2) == 2
    assert "--profile 1 needs 5 iterations, 4 of them to warm up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "3", "--eval-only"], "--profile traces iterations of a training"),
        (["--profile", "6"], "needs 10 iterations, 4 of them to warm up, but the training has 9"),
        (["--profile", "-1"], "--profile -1: expected the number of iterations"),
    ],
)
def test_what_cannot_be_traced_is_refused(options, message, command_line, tmp_path, capsys):
    assert command_line(*options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("run/model_*"))
