"""Train or evaluate: FastReID's command line.

python tools/train_net.py --config-file configs/ARBase/hyena.yml [--resume] [--eval-only]
    [--num-gpus N] [KEY VALUE ...]
"""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
