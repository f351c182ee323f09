"""Mutated tables: separators, quotes, encodings, columns, boxes, dates and names of all sorts.

The oracle: a table is refused in words, or it has as many rows as were written, in their order,
each with its path, box and date as drawn here and its names letter by letter (only names of nobody
may become ``unknown``), and the check looks at all of them. A table in the documented form is not
refused. Of a table whose text was damaged, no name is read that is not in it.
"""

import csv
import io
import itertools
import re

from hypothesis import strategies as st

from openanimals.data.catalogue import UNKNOWN
from openanimals.data.datasets import load_catalogue
from openanimals.data.validate import check_data
from tests.data.pictures import save_noise
from tests.robustness.fuzz import REFUSED, answer, damage, few_and_many, fuzz

PATHS = ("1.png", "b/2.png", "c d/3.png", "é.png", "a,b.png", "semi;colon.png", "7.png", "8.png")
NOBODY = re.compile(r"unknown|unidentified|nan|none|n/a|[?]|", re.IGNORECASE)
NAMES = (
    *("Kesi", "kesi", "Kesi ", "007", "1", "1.0", "1e3", "true", "Ñandú", "Nandu\u0303", "a/b"),
    *("x;y", "a,b", 'the "one"', "'q'", "#1", "=1+1", "no", "nona", "x" * 300, "..", "a\tb"),
    *("\u5c0f", "\U0001f42f"),
)
NAMES_OF_NOBODY = ("unknown", "Unknown", "UNKNOWN", "NaN", "None", "?", "unidentified", "N/A")
NAMES_TO_REFUSE = ("", " ", "a\nb", "a\r\nb", "\x1b[2J", "a\x00b", "\u202eab", "\ufeff")
DATES = {  # how a day is written; the first ones are documented
    "2025-04-01": "2025-04-01",
    "2025-04-01 09:32": "2025-04-01T09:32:00",
    "2025-04-01T09:32:14": "2025-04-01T09:32:14",
    "": None,
    "2025-4-1": "2025-04-01",
    "2025-04-01 9:32": "2025-04-01T09:32:00",
    "01.04.2025": "2025-04-01",
    "25/04/2025": "2025-04-25",
    "04/25/2025": "2025-04-25",
    "2025/04/25": "2025-04-25",
    "20250401": "2025-04-01",
    "April 1, 2025": "2025-04-01",
    "2025-04-31": "",  # no such day
    "2025": "",
    "today": "",
    "45748": "",  # a spreadsheet's number of a day
    "2025-04-01 25:00": "",
    "2025-04-01-02": "",
}
BOXES = {
    "1 2 20 15": (1, 2, 20, 15),
    "[1, 2, 20.5, 15]": (1, 2, 20.5, 15),
    "": None,
    "(1.0;2.0;20.0;15.0)": (1, 2, 20, 15),
    "[ 1.  2. 20. 15.]": (1, 2, 20, 15),
    "1,5 2,5 20,5 15,5": (1.5, 2.5, 20.5, 15.5),
    "np.float64(1.0) 2 20 15": (1, 2, 20, 15),
    "[np.int64(1), np.int64(2), np.int64(20), np.int64(15)]": (1, 2, 20, 15),
    "array([1, 2, 20, 15])": (1, 2, 20, 15),
    "{'x': 1, 'y': 2, 'w': 20, 'h': 15}": (1, 2, 20, 15),
    "1e0 2e0 2e1 15": (1, 2, 20, 15),
    "1 2 20": (),
    "1 2 20 15 3": (),
    "a b c d": (),
    "1 2 20 15px": (),
    "0x1 2 20 15": (),
    "1_0 2 20 15": (),
}


@st.composite
def tables(draw) -> tuple[list[dict], bytes, str]:
    """Rows, the file that they are written to, and what was done to them: plain, odd or damaged."""
    names = draw(st.sampled_from((NAMES, NAMES, NAMES + NAMES_OF_NOBODY, NAMES_TO_REFUSE + NAMES)))
    others = {"sequence": names, "camera": NAMES, "species": NAMES, "site": NAMES}
    columns = draw(st.lists(st.sampled_from(("bbox", "date", *others)), unique=True))
    plain = draw(st.booleans())
    rows = []
    for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, unique=True)):
        row = {"path": path, "identity": draw(st.sampled_from(names))}
        cells = {
            "bbox": [*BOXES][:3] if plain else [*BOXES],
            "date": [*DATES][:4] if plain else [*DATES],
        }
        row |= {name: draw(st.sampled_from((cells | others)[name])) for name in columns}
        rows.append(row)
    header = draw(st.permutations([*rows[0]]))
    written = io.StringIO()
    separator, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(("\n", "\r\n")))
    quoting = draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    form = {"delimiter": separator, "lineterminator": end, "quoting": quoting}
    writer = csv.DictWriter(written, header, **form)
    if draw(st.booleans()):
        writer.writeheader()
    else:
        written.write(separator.join(name.title() for name in header) + end)
    writer.writerows(rows)
    text, what = written.getvalue(), "plain" if plain else "odd"
    if {*NAMES_TO_REFUSE} & {
        row[name] for row in rows for name in ("identity", "sequence") if name in row
    }:
        what = "odd"
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252")))
    if not encoding.startswith("utf-8"):
        what = "odd"
    if draw(st.integers(0, 5)) == 0:
        what = "odd"
        first = draw(st.sampled_from((f"sep={separator}", "", "# my table", separator * 3)))
        text = f"{first}{end}{text}"
    content = text.encode(encoding, "ignore")
    if content.decode(encoding) != text:
        content = text.encode()
    if draw(st.integers(0, 3)) == 0:
        what, content = "damaged", draw(damage(content))
    return rows, content, what


def as_written(name: str, found: str | None) -> bool:
    """Whether a text was read as written, but for space around it; nothing is None."""
    return found == (name.strip() or None)


def is_date(text: str, found: str | None) -> bool:
    return found == DATES[text] and found != ""


def is_box(text: str, found) -> bool:
    return found == BOXES[text] and found != ()


@few_and_many(60, 300)
def test_rows_are_read_as_written(count, tmp_path):
    for number, path in enumerate(PATHS):
        save_noise(tmp_path / path, number, (30, 40))
    numbers = itertools.count()

    def holds(case):
        rows, content, what = case
        file = tmp_path / f"{next(numbers)}.csv"
        file.write_bytes(content)
        catalogue = answer(load_catalogue, f"csv:{file}")
        if catalogue is REFUSED:
            assert what != "plain", "refused, though it is in the documented form"
            return False
        found = catalogue.table.to_dict("records")
        assert re.search(rf"^  images +{len(found)}\b", check_data(catalogue)[0], re.MULTILINE)
        if what == "damaged":
            text = content.decode("utf-8-sig", "replace").replace('""', '"')
            assert len(found) < len(content.splitlines())
            assert all(row["identity"] in text or row["identity"] == UNKNOWN for row in found)
            return True
        assert len(found) == len(rows)
        for given, row in zip(rows, found, strict=True):
            name = given["identity"]
            nobody = row["identity"] == UNKNOWN and NOBODY.fullmatch(name.strip())
            assert as_written(name, row["identity"]) or nobody, row["identity"]
            for column in ("path", "sequence", "camera", "species"):
                assert as_written(given.get(column, ""), row[column]), (column, row[column])
            assert is_date(given.get("date", ""), row["date"]), (given["date"], row["date"])
            assert is_box(given.get("bbox", ""), row["bbox"]), (given["bbox"], row["bbox"])
        return True

    fuzz(count, tables(), holds)
