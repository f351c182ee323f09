"""Look for what is wrong with photographs: ``python tools/check_data.py folder:my_photos``."""

import sys

from openanimals.cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
