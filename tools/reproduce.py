"""Train the tables of the paper: ``python tools/reproduce.py --table main --species hyena``."""

import sys

from reproduce.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
