"""Download, unpack and verify a species: ``python tools/prepare_data.py Animals-HyenaID2022``."""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
