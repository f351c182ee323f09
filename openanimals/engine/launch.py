"""Several processes: ``--num-gpus`` starts what torchrun would start."""

from collections.abc import Sequence
from signal import SIGTERM

from openanimals.utils.errors import UserError


class LaunchError(UserError):
    """One of the processes failed; it has said why."""


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
        ValueError: several machines without an address.
        LaunchError: a process failed.
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
            f"--node-rank={machine_rank}",
            f"--master-addr={host}",
            f"--master-port={port}",
        ]
    else:
        options.append("--standalone")
    try:
        run.main([*options, "--module", "openanimals.cli", *arguments])
    except ChildFailedError as error:
        # Noticed along with it may be those that stop because one is gone: it is the one that died
        # by a signal other than torchrun's own to stop or, if none did, the first.
        died = [r for r, f in error.failures.items() if f.exitcode < 0 and -f.exitcode != SIGTERM]
        rank = died[0] if died else error.get_first_failure()[0]
        raise LaunchError(
            f"process {rank} of {processes * machines} failed (exit status "
            f"{error.failures[rank].exitcode}) and the others were stopped; what it had to say "
            "stands above"
        ) from error
    except SignalException as error:
        raise KeyboardInterrupt from error
