"""Download, unpack and verify a species: ``python tools/prepare_data.py Animals-HyenaID2022``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # where the package is not installed

from openanimals.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
