"""Several processes: ``--num-gpus`` starts what torchrun would start."""

from collections.abc import Sequence


def launch(
    arguments: Sequence[str],
    processes: int,
    machines: int = 1,
    machine_rank: int = 0,
    address: str = "",
) -> None:
    """Run the command line again in several processes, one a device, and wait for them.

    Args:
        arguments: what follows ``openanimals`` on the command line of each process.
        processes: on this machine.
        machines: that take part.
        machine_rank: the number of this one.
        address: ``tcp://host:port`` of machine 0; only for several machines.

    Raises:
        ValueError: several machines without an address.
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: a process failed.
    """
    from torch.distributed import run

    options = [f"--nproc-per-node={processes}"]
    if machines > 1:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(
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
    run.main([*options, "--module", "openanimals.cli", *arguments])
