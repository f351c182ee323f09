"""What is odd in photographs that were imported: copies, names, clocks."""

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

import pandas as pd

from openanimals.data.files import find_copies
from openanimals.data.names import near_equal

NUMBER = re.compile(r"(\D*)(\d{3,7})")  # what a camera counts: IMG_0412, DSCN6064
SHOWN = 5  # examples in a line of the report
TWO_NAMES = "in the catalogue under two names"
FIRST_YEAR = 2000  # of digital photographs in the field; earlier is a clock that was never set
APART = 20  # numbers, at most, of two photographs whose order is compared: cards are changed, too
SLACK = timedelta(minutes=1)  # that clocks and files may differ by


def tell(report: list[str], items: Sequence[str], what: str, detail: str | None = None) -> None:
    """Add a line to a report that counts items and gives examples; none where there are no items.

    Args:
        report: the lines so far.
        items: things of one kind.
        what: names the kind.
        detail: instead of the first five as examples.
    """
    if items:
        items = [item.encode("utf-8", "backslashreplace").decode() for item in items]
        rest = ", ..." if len(items) > SHOWN else ""
        report.append(f"{what}: {len(items)} ({detail or ', '.join(items[:SHOWN]) + rest})")


def oddities(table: pd.DataFrame, root: Path) -> list[str]:
    """Return a line for each kind of thing in a catalogue that someone should look at.

    Args:
        table: a catalogue's.
        root: folder that its paths are relative to.
    """
    report: list[str] = []
    columns = (table[name].tolist() for name in ("path", "identity", "date", "viewpoint"))
    paths, names, dates, viewpoints = columns
    two_names, others = copies(table, root)
    tell(report, two_names, TWO_NAMES)
    tell(report, others, "the same photograph more than once")
    tell(report, near_equal(name for name in names if name), "names nearly equal")
    tell(report, near_equal(name for name in table["camera"] if name), "cameras nearly equal")
    undated = [path for path, date in zip(paths, dates, strict=True) if date is None]
    tell(report, [*dict.fromkeys(undated)], "without a date")
    if any(viewpoints):
        pairs = zip(paths, viewpoints, strict=True)
        tell(report, [path for path, viewpoint in pairs if not viewpoint], "without a viewpoint")
    latest = (datetime.now() + timedelta(days=1)).isoformat()  # wherever on earth
    dated = [*dict.fromkeys(pair for pair in zip(paths, dates, strict=True) if pair[1])]
    early = [f"{path} ({date})" for path, date in dated if date < str(FIRST_YEAR)]
    tell(report, early, f"a date before {FIRST_YEAR}")
    late = [f"{path} ({date})" for path, date in dated if date > latest]
    tell(report, late, "a date in the future")
    tell(report, _jumps(table), "times that run backwards while the camera's numbers go on")
    return report


def copies(table: pd.DataFrame, root: Path) -> tuple[list[str], list[str]]:
    """Return which photographs have the same bytes: those under two names, and the others."""
    paths, names = table["path"].tolist(), table["identity"].tolist()
    two_names, others = [], []
    for rows in find_copies([str(root / path) for path in paths], table["bbox"].tolist()):
        found = sorted({names[row] for row in rows if names[row]})
        text = " = ".join(paths[row] for row in rows)
        if len(found) > 1:
            two_names.append(f"{text} ({', '.join(found)})")
        else:
            others.append(text)
    return two_names, others


def _jumps(table: pd.DataFrame) -> list[str]:
    """Return where the time of a camera runs backwards although its numbers go on.

    One camera's are those of one station, one folder and the same letters before the number. Where
    no station is known, a folder of one individual says nothing: it holds years and many cameras.
    """
    series: dict[tuple, dict] = defaultdict(dict)
    columns = (table[name] for name in ("path", "date", "camera", "identity"))
    for path, date, camera, identity in zip(*columns, strict=True):
        place = PurePosixPath(path)
        known, match = camera or identity not in place.parts, NUMBER.fullmatch(place.stem)
        if known and match and date and "T" in date:
            number = int(match[2])
            series[camera, place.parent, match[1]][number] = (datetime.fromisoformat(date), path)
    jumps = []
    for by_number in series.values():
        numbers = sorted(by_number)
        order = [(number, *by_number[number]) for number in numbers]
        # A counter that came to its end goes on with 1, after what is then the largest gap: the
        # order with fewer jumps is the right one.
        gaps = [after - before for before, after in itertools.pairwise(numbers)]
        turn = gaps.index(max(gaps)) + 1 if gaps else 0
        plain, turned = _backwards(order), _backwards(order[turn:] + order[:turn])
        jumps += turned if len(turned) < len(plain) else plain
    return jumps


def _backwards(order: Sequence[tuple[int, datetime, str]]) -> list[str]:
    return [
        f"{path} ({time.isoformat(' ')}) after {before_path} ({before.isoformat(' ')})"
        for (first, before, before_path), (second, time, path) in itertools.pairwise(order)
        if time < before - SLACK and second - first <= APART
    ]
