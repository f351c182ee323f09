"""The batch norm of several processes, on the CPU: that of one process with the whole batch."""

import sys

from tests.processes import environments, run_together


def test_two_processes_normalise_like_one():
    script = [sys.executable, "tests/modeling/sync_norm.py"]
    for finished in run_together(script, environments(2)):
        assert finished.returncode == 0, finished.stderr
