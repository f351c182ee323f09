"""A command line that ends with the process that started it, however that one ends.

Standard input is the leash: a pipe whose other end only the starting process holds. When that is
killed the system closes the pipe, and this process ends itself and its workers.

Started as a file and not by ``python -m``, which would take the package from the working directory
where one lies there: another checkout than the one that starts the cells and signs for them.
"""

import os
import runpy
import signal
import sys
import threading
from pathlib import Path


def _end_with_the_starter() -> None:
    os.read(sys.stdin.fileno(), 1)  # waits until the other end is closed; nothing is ever written
    os.killpg(0, signal.SIGKILL)  # the group is our own: started with a session of its own


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[3])  # it was the folder of this file
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    runpy.run_module("openanimals.cli", run_name="__main__", alter_sys=True)
