"""Judge a finished run again, by other TEST keys, without its model or photographs.

python tools/rescore.py logs/ARBase/demo TEST.PROTOCOL encounter TEST.METRIC euclidean
"""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["rescore", *sys.argv[1:]]))
