"""A page to look at: who each encounter may show, the photographs side by side.

The page is one file without anything from elsewhere, so it opens from a stick, and offline. All
pictures in it are encoded anew, so they carry no position and nothing else of the camera's.
"""

import base64
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openanimals.identification.matches import DECISIONS, LISTED, Match, Matches
from openanimals.matching.one_to_one import Spots
from openanimals.utils.errors import UserError
from openanimals.utils.files import atomic_path, expanded

LONGEST, QUALITY = 640, 80  # of the pictures: pixels of the longer side, and JPEG's
MOST = 200  # encounters on a page
SHOWN = 6  # photographs of an encounter; the rest are counted
MARKED = 12  # matched spots of a pair, the heaviest: more cannot be told apart
KEPT = 64  # encoded pictures in memory: the next encounter may well show the same individual
SIGNS = {"unsure": "?", "new": "+", "known": "✓", "cannot tell": "–"}  # colour is not all

OpenPhotograph = Callable[[str], Image.Image]
MatchedSpots = Callable[[str, str], Spots | None]


@dataclass(frozen=True)
class _Picture:
    """One photograph on the page; ``marks`` are circles (x, y, radius) by candidate."""

    name: str
    source: str = ""
    size: tuple[int, int] = (4, 3)
    problem: str = ""
    marks: dict[int, list[list[float]]] = field(default_factory=dict)


def write_page(
    matches: Matches,
    folder: str | os.PathLike[str],
    open_photograph: OpenPhotograph,
    spots: MatchedSpots | None = None,
    *,
    describe: Callable[[str], str] | None = None,
) -> list[Path]:
    """Write ``matches.html``, and ``matches-2.html`` and so on where there are many encounters.

    Pages are written a picture at a time, so memory does not grow with them.

    Args:
        matches: what was found; who is unsure comes first.
        folder: is made where it does not exist. Pages of an earlier run in it are removed.
        open_photograph: returns the photograph of an annotation id, upright and cropped to the
            animal with some margin. Where it raises UserError or OSError, the page says so.
        spots: returns what matches in two photographs (first that of the encounter), such as
            :func:`openanimals.matching.one_to_one.matched_spots`, in pixels of the pictures that
            ``open_photograph`` returns; None where there is nothing to show.
        describe: returns a line about a photograph of the catalogue: date, place, viewpoint.

    Returns:
        The files, the first page first.

    Raises:
        FileError: a page cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # Every text is escaped, whatever names say.
    house = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    house.filters |= {"percent": percent, "mark_of": SIGNS.get}
    ordered = sorted(matches.matches, key=lambda match: DECISIONS.index(match.decision))
    starts = range(0, max(1, len(ordered)), MOST)
    names = ["matches.html", *(f"matches-{n}.html" for n in range(2, len(starts) + 1))]
    files = [expanded(folder) / name for name in names]
    draw = lru_cache(KEPT)(lambda annotation: _draw(annotation, open_photograph))
    for number, (start, file) in enumerate(zip(starts, files, strict=True), 1):
        some = ordered[start : start + MOST]
        pieces = house.get_template("matches.html").generate(
            matches=matches,
            counts={name: sum(m.decision == name for m in some) for name in DECISIONS},
            encounters=_encounters(some, start, draw, spots),
            describe=describe or (lambda annotation: ""),
            with_spots=spots is not None,
            pages=names,
            page=number,
            total=len(ordered),
        )
        with (
            atomic_path(file) as temporary,
            open(temporary, "w", encoding="utf-8", errors="backslashreplace") as handle,
        ):
            handle.writelines(pieces)
    for earlier in expanded(folder).glob("matches-*.html"):
        if earlier.name not in names and earlier.stem.removeprefix("matches-").isdecimal():
            earlier.unlink()
    return files


def percent(probability: float) -> str:
    """Return a probability in words; never all or nothing: ``97 %``, ``over 99 %``."""
    shown = min(max(round(100 * probability), 1), 99)
    limit = "over " if probability >= 0.995 else "under " if probability < 0.005 else ""
    return f"{limit}{shown}\u00a0%"  # with a space at which no line ends


def heading(match: Match) -> str:
    """Return what is proposed for an encounter, in words: ``Kesi, 97 %``."""
    if match.decision == "cannot tell":
        return "Cannot tell"
    if match.decision != "unsure":
        name = "New animal" if match.decision == "new" else match.proposed
        return f"{name}, {percent(match.probability)}"
    chances = [(each.probability, each.name) for each in match.candidates]
    # Not by name: of equals the one that comes first.
    chances = sorted([*chances, (match.new, "a new animal")], key=lambda pair: -pair[0])
    return "Perhaps " + ", or ".join(f"{name}, {percent(chance)}" for chance, name in chances[:2])


def _encounters(
    some: Sequence[Match],
    start: int,
    draw: Callable[[str], _Picture],
    spots: MatchedSpots | None,
) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of each encounter, one at a time."""
    for number, match in enumerate(some, start + 1):
        candidates = match.candidates[:LISTED]
        # Those that a candidate looks most like, then the others.
        order = [*dict.fromkeys([*(each.query for each in candidates), *match.annotations])]
        asked = {name: draw(name) for name in order[:SHOWN]}
        marks: dict[str, dict[int, list[list[float]]]] = {name: {} for name in asked}
        found = []
        for n, candidate in enumerate(candidates, 1):
            picture = draw(candidate.photograph)
            pair = spots(candidate.query, candidate.photograph) if spots else None
            if pair is not None and candidate.query in asked:
                ours, theirs = (each.round(1).tolist() for each in pair.circles(MARKED))
                marks[candidate.query][n] = ours
                picture = replace(picture, marks={n: theirs})
            found.append((candidate, picture))
        yield {
            "number": number,
            "match": match,
            "heading": heading(match),
            "photographs": [replace(asked[name], marks=marks[name]) for name in asked],
            "viewpoints": dict(zip(match.annotations, match.viewpoints, strict=True)),
            "candidates": found,
            "more": len(order) - len(asked),
        }


def _draw(annotation: str, open_photograph: OpenPhotograph) -> _Picture:
    """Return a photograph for the page; where it cannot be opened, why."""
    try:
        image = open_photograph(annotation)
        size = image.size
        # Pixels alone: what else a file holds (EXIF, XMP, comments) may say where it was taken.
        image = Image.fromarray(np.asarray(image.convert("RGB")))
        image.thumbnail((LONGEST, LONGEST))
    except (OSError, UserError) as error:
        return _Picture(annotation, problem=str(error))
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=QUALITY)
    text = base64.b64encode(memory.getvalue()).decode()
    return _Picture(annotation, f"data:image/jpeg;base64,{text}", size)
