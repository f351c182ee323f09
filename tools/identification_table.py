"""How often identification is right, wrong or unsure, on a catalogue whose individuals are known.

python tools/identification_table.py catalogue.csv --model configs/ARBase/holstein-lite.yml
python tools/identification_table.py Animals-NyalaData --model configs/ARBase/nyala-lite.yml

Only dated photographs count, since those without a date might be of one burst, and at most three of
each encounter. All three matchers are asked about the same photographs, with catalogues of several
sizes; the individuals that are not in a catalogue are strangers.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from openanimals.data.datasets import load_catalogue
from openanimals.identification.build import build_matchers
from openanimals.identification.catalogue_file import from_catalogue
from openanimals.identification.encounters import encounters
from openanimals.identification.evaluation import MEASURES, evaluate_identification, worded
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing

MOST = 3  # photographs of an encounter


def read_thinned(catalogue: str, root: Path) -> Listing:
    """Return the photographs that count.

    Args:
        catalogue: a CSV file, or the name of a data set.
        root: folder of the data sets.
    """
    if catalogue.endswith(".csv"):
        listing = Listing.read(catalogue)
    else:
        listing = Listing(from_catalogue(load_catalogue(catalogue, root)), Path("/"))
    table = listing.table[listing.table["date"].notna() | listing.table["sequence"].notna()]
    table = table.reset_index(drop=True)
    table["sequence"] = encounters(table)  # is known of those without a name, too
    keys = [table["identity"], table["sequence"], table["viewpoint"].fillna("")]
    some = table.groupby(keys).cumcount() < MOST
    return Listing(table[some].reset_index(drop=True), listing.root)


def main() -> None:
    """Print a row for each matcher and size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("catalogue", help="a CSV file, or the name of a data set")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="of data sets")
    parser.add_argument("--model", required=True)
    parser.add_argument("--individuals", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--matchers", nargs="+", default=["cosine", "local", "fusion"])
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--to", type=Path, help="all figures, as JSON")
    parser.add_argument("--opts", nargs="*", default=[], help="KEY VALUE, of the model")
    options = parser.parse_args()
    listing, found = read_thinned(options.catalogue, options.root), []
    settings = Settings(pooled=not options.one_by_one)
    print(f"{len(listing.table)} photographs, {listing.table['identity'].nunique()} individuals")
    print("| matcher | " + " | ".join(MEASURES) + " |")
    print("|---" * (len(MEASURES) + 1) + "|")
    for name in options.matchers:
        model = None if name == "local" else options.model
        opts = [] if name == "local" else options.opts
        place = Path(options.catalogue).absolute()
        matchers, _ = build_matchers(name, model, place, overrides=opts)
        for size in options.individuals:
            (each,) = evaluate_identification(listing, matchers, settings, individuals=[size])
            found.append({"matcher": name, **each})
            print(
                f"| {name} | " + " | ".join(worded(each[key]) for key in MEASURES) + " |",
                flush=True,
            )
            if options.to:
                options.to.write_text(json.dumps(found, indent=1, default=np.ndarray.tolist))


if __name__ == "__main__":
    main()
