"""What processes exchange: with itself alone, and in three processes of their own."""

import sys

import numpy as np
import pytest
import torch

from openanimals.utils import distributed
from openanimals.utils.errors import UserError
from tests.processes import environments, run_together


def test_three_processes_exchange_what_they_should():
    script = [sys.executable, "tests/utils/exchanges.py"]
    for finished in run_together(script, environments(3)):
        assert finished.returncode == 0, finished.stderr


def test_a_process_that_is_alone_exchanges_nothing():
    rows = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(distributed.collect(rows, [slice(0, 3)]), rows)
    assert distributed.from_main(lambda: "own") == "own"
    assert distributed.gather_rows(torch.ones(2)).tolist() == [1, 1]
    assert distributed.gather("own") == ["own"]


@pytest.mark.parametrize(
    ("count", "unit", "processes", "expected"),
    [
        (10, 1, 1, [(0, 10)]),
        (10, 1, 3, [(0, 3), (3, 6), (6, 10)]),
        (10, 4, 2, [(0, 4), (4, 10)]),
        (10, 4, 5, [(0, 0), (0, 4), (4, 4), (4, 8), (8, 10)]),  # more processes than units
        (0, 4, 2, [(0, 0), (0, 0)]),
    ],
)
def test_shares_are_whole_units(monkeypatch, count, unit, processes, expected):
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    assert distributed.shares(count, unit) == [slice(*ends) for ends in expected]


def test_a_process_that_meets_no_other_says_so(monkeypatch):
    for name, value in environments(2)[0].items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(UserError, match=r"process 0 of 2 has not met the others at 127"),
        distributed.process_group(torch.device("cpu"), 1),
    ):
        pass
