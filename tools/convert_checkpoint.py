"""Turn FastReID's checkpoints into ours or back: ``python tools/convert_checkpoint.py IN OUT``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # where the package is not installed

from openanimals.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
