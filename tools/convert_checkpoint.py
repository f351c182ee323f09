"""Turn FastReID's checkpoints into ours or back: ``python tools/convert_checkpoint.py IN OUT``."""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
