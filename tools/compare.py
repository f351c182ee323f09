"""Test whether two models differ on the same queries: ``python tools/compare.py RUN_A RUN_B``."""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
