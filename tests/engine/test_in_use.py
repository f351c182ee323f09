"""Two runs never write to one folder; a run that has died leaves it free."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time

import pytest

from openanimals import cli
from openanimals.utils.distributed import InUseError, alone_in
from tests.engine.tiny_run import command
from tests.processes import environments, run, run_together


def hold(folder, held):
    """Hold a folder until killed, with a child, as a loader forks its workers."""
    with alone_in(folder):
        child = os.fork()
        if child:
            held.send(child)
        time.sleep(60)


def test_a_run_that_goes_on_keeps_others_out_of_its_folder(line, refused, tmp_path):
    folder = tmp_path / "run"
    with alone_in(folder):
        half = folder / ".model_last.pth.abc.tmp"  # that it is writing
        half.touch()
        for options in ((), ("--resume",)):
            error = refused(line(*options))
            assert error.startswith(f"another run, which still goes on, writes to {folder}:")
        assert half.exists() and not list(folder.glob("model_*"))
    assert cli.main(line("--resume")) == 0
    assert not half.exists()


def test_an_evaluation_beside_a_run_that_goes_on(line, refused, tmp_path):
    folder, weights = tmp_path / "run", tmp_path / "first/model_final.pth"
    assert cli.main(line(OUTPUT_DIR=tmp_path / "first")) == 0
    evaluation = line("--eval-only", MODEL__WEIGHTS=weights)
    with alone_in(folder):  # and has saved nothing yet
        assert cli.main(evaluation) == 0
        assert (folder / "eval_model_final/results.json").exists()
        assert not (folder / "results.json").exists()
        with alone_in(folder / "eval_model_final"):
            assert f"writes to {folder}/eval_model_final" in refused(evaluation)


def test_a_killed_process_leaves_the_folder_free_whatever_it_has_forked(tmp_path):
    fork, (here, there) = multiprocessing.get_context("fork"), multiprocessing.Pipe()
    holder = fork.Process(target=hold, args=(tmp_path, there))
    holder.start()
    child = here.recv()
    try:
        with pytest.raises(InUseError), alone_in(tmp_path):
            pass
        holder.kill()
        holder.join()
        with alone_in(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_costs_a_warning(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", none)
    with alone_in(tmp_path), alone_in(tmp_path):
        assert "cannot be locked" in caplog.text and "start no other run into it" in caplog.text


@pytest.mark.cli
def test_processes_of_one_run_share_its_folder_and_are_refused_together(tmp_path, herd_root):
    arguments = command(tmp_path, herd_root, SOLVER__MAX_EPOCH=1)
    with alone_in(tmp_path):
        for finished in run_together(arguments, environments(2)):
            assert finished.returncode == 2
            assert "another run, which still goes on, writes to" in finished.stderr
    assert run(arguments).returncode == 0
