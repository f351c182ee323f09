"""Train the tables of the paper: ``python tools/reproduce.py --table main --species hyena``."""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", *sys.argv[1:]]))
