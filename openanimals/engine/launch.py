"""Several processes: ``--num-gpus`` starts what torchrun would start, and torchrun ends them."""

import ctypes
import os
import sys
from collections.abc import Sequence
from signal import SIGKILL, SIGTERM

from openanimals.utils.errors import UserError

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
LAUNCHER = "OPENANIMALS_LAUNCHER"  # variable of the environment with its number, for its processes
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class LaunchError(UserError):
    """One of the processes failed; names it, and the cause if it could tell."""


def launch(
    arguments: Sequence[str],
    processes: int,
    machines: int = 1,
    machine_rank: int = 0,
    address: str = "",
    restarts: int = 0,
) -> None:
    """Run the command line again in several processes, one a device, and wait for them.

    Args:
        arguments: what follows ``openanimals`` on the command line of each process.
        processes: on this machine.
        machines: that take part.
        machine_rank: the number of this one.
        address: ``tcp://host:port`` of machine 0; only for several machines.
        restarts: how often to start the processes again after one has failed. They go on from the
            last checkpoint then.

    Raises:
        LaunchError: a process failed.
        UserError: several machines without an address.
        KeyboardInterrupt: they were told to stop.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    if machines > 1:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not host or not port.isdigit():
            raise UserError(
                f"--dist-url is {address!r}; with --num-machines {machines} it must be the "
                "tcp://host:port of machine 0"
            )
        options += [
            f"--nnodes={machines}",
            "--rdzv-backend=c10d",  # notices a machine that is lost
            f"--rdzv-endpoint={host}:{port}",
            f"--rdzv-conf=is_host={machine_rank == 0}",
            "--rdzv-id=openanimals",
        ]
    else:
        options.append("--standalone")
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        run.main([*options, "--module", "openanimals.cli", *arguments])
    except ChildFailedError as error:
        # Noticed along with it may be those that stop because one is gone: it is the one that died
        # by a signal other than torchrun's own to stop or, if none did, the first.
        died = [r for r, f in error.failures.items() if f.exitcode < 0 and -f.exitcode != SIGTERM]
        rank = died[0] if died else error.get_first_failure()[0]
        failure = error.failures[rank]
        cause = failure.message
        if isinstance(cause, dict):  # as torch's record() leaves it
            cause = cause["message"]
        raise LaunchError(
            f"process {rank} of {processes * machines} failed (exit status {failure.exitcode}) "
            f"and the others were stopped: {cause}"
        ) from error
    except SignalException as error:
        raise KeyboardInterrupt from error


def end_with_launcher() -> None:
    """Have this process, if torchrun has started it, be killed when torchrun ends in any way.

    It would go on writing, beside those that a new start brings.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(int(os.environ.get(LAUNCHER, os.getppid())))


def end_with(parent: int) -> None:
    """Have this process be killed when its parent ends in any way; Linux alone can be asked to."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() != parent:  # it had ended before
            os._exit(1)
