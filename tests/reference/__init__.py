"""Values recorded from the released code of the method; see the READMEs beside them."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def load_json(name: str):
    return json.loads((FOLDER / name).read_text())


def load_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as arrays:
        return dict(arrays)
