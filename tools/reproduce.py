"""Train the tables of the paper: ``python tools/reproduce.py --table main --species hyena``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # where the package is not installed

from reproduce.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
