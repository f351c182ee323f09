"""A table of small photographs of any individuals, right or wrong, as a ``csv:`` source."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def animals(part: str, count: int, each: int = 4) -> list[dict]:
    """Rows of so many individuals; of those to be found again the first image is the query."""
    rows = []
    for number in range(count):
        for image in range(each):
            name = f"{'train' if part == 'train' else 'test'}{number}"
            own = part if part == "train" or image else "query"
            rows.append({"path": f"{name}_{image}.png", "identity": name, "split": own})
    return rows


def herd() -> list[dict]:
    """Six individuals to learn from, two to find again; four photographs of each."""
    return animals("train", 6) + animals("gallery", 2)


def source(folder: Path, rows: list[dict]) -> str:
    """Write the table and those of its photographs that are not there; return its name."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if not (folder / row["path"]).exists():
            pixels = draws.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / row["path"])
    pd.DataFrame(rows).to_csv(folder / "animals.csv", index=False)
    return f"csv:{folder / 'animals.csv'}"


def truncate(path: Path) -> Path:
    """Cut a file to half its length."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path
