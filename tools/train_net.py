"""Train or evaluate: FastReID's command line.

python tools/train_net.py --config-file configs/ARBase/hyena.yml [--resume] [--eval-only]
    [--num-gpus N] [KEY VALUE ...]
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # where the package is not installed

from openanimals.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
