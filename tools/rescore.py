"""Judge a finished run again, by other TEST keys, without its model or photographs.

python tools/rescore.py logs/ARBase/demo TEST.PROTOCOL encounter TEST.METRIC euclidean
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # where the package is not installed

from openanimals.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["rescore", *sys.argv[1:]]))
