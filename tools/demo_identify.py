"""Who is this? The demo's network names photographs of a herd that it has never seen.

python tools/demo_identify.py logs/demo

A catalogue of 20 animals, and encounters that nobody has named yet, a third of them of animals that
are not in the catalogue. What is decided is set beside the truth.
"""

import sys
from collections import Counter
from pathlib import Path

from openanimals.data.datasets import load_catalogue
from openanimals.identification.catalogue_file import (
    annotation_ids,
    from_catalogue,
    write_catalogue,
)
from openanimals.identification.evaluation import divide
from openanimals.identification.learning import Settings
from openanimals.identification.matches import Matches
from openanimals.identification.run import identify_files

HERD = "Animals-SyntheticHerd:identities=30,images=12,seed=7"
KNOWN = 20  # animals of the catalogue


def main(run: str) -> None:
    """Identify, and tell how it fared."""
    folder = Path(run) / "identification"
    settings = Settings(wrong_names=0.02, known=2 / 3)
    table = from_catalogue(load_catalogue(HERD, Path("datasets")))
    known, asked = divide(table, KNOWN, settings)
    truth = dict(zip(annotation_ids(table), table["identity"], strict=True))
    there = set(table["identity"][known])
    table["identity"] = table["identity"].where(known, None)
    table = table[known | asked].reset_index(drop=True)
    write_catalogue(folder / "catalogue.csv", table)
    how = {"matcher": "cosine", "model": run, "backend": "torch"}
    print(identify_files(folder / "catalogue.csv", None, folder, settings, **how))
    decided: Counter = Counter()
    for match in Matches.read(folder / "matches.json").matches:
        own = truth[match.annotations[0]]
        who = "of the catalogue" if own in there else "new"
        right = match.proposed == (own if own in there else "new")
        decided[who, match.decision, "right" if right else "wrong" if match.proposed else ""] += 1
    print("\ndecisions beside the truth")
    for (who, decision, right), count in sorted(decided.items()):
        print(f"  {count:3} encounters of animals that are {who}: {decision} {right}".rstrip())


if __name__ == "__main__":
    main(*sys.argv[1:] or ["logs/demo"])
