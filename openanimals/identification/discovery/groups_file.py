"""What discovery found: groups of encounters, as a table, as a file to go on from, and in words."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.discovery.pair_evidence import Expected
from openanimals.identification.table_file import write_csv
from openanimals.utils.errors import FileError, naming
from openanimals.utils.files import atomic_path, expanded, read_json, write_text

FILE, LIKENESS = "groups.json", "likeness.safetensors"  # beside matches.json
SIDES = ("left only", "right only", "linked", "viewpoint unknown")


@dataclass(frozen=True)
class Member:
    """An encounter and its group.

    Attributes:
        encounter: its name.
        annotations: ids of its photographs.
        viewpoints: of each, left, right or "".
        group: a number.
        individual: the known one that the group is, if any.
        known: whether the encounter itself had a name.
        cohesion: mean probability that it and the others of its group show one animal; None where
            there is no other to compare it with.
    """

    encounter: str
    annotations: tuple[str, ...]
    viewpoints: tuple[str, ...]
    group: int
    individual: str | None
    known: bool
    cohesion: float | None


@dataclass(frozen=True)
class Discovery:
    """Groups of encounters.

    Attributes:
        members: all encounters that were looked at, those of known individuals too.
        pairs: positions of two among the :meth:`unknown`, the probability that they show one
            animal, and the annotation ids of the two photographs that are most alike.
        expected: of pairs, before they are looked at.
        clumped: see :func:`.learn_clumped`.
        likeness: `[E, E]` of the :meth:`unknown`, the logarithm of how much likelier two are
            with one animal than with two, NaN where nothing can be compared.
        matcher: its name.
    """

    members: Sequence[Member]
    pairs: Sequence[tuple[int, int, float, str, str]]
    expected: Expected
    clumped: float
    likeness: np.ndarray
    matcher: str

    def unknown(self) -> list[Member]:
        """Return the encounters that had no name."""
        return [member for member in self.members if not member.known]

    def sides(self) -> dict[int, str]:
        """Return by group from where it was seen: one of :data:`SIDES`."""
        seen: dict[int, set[str]] = defaultdict(set)
        for member in self.members:
            seen[member.group] |= {view for view in member.viewpoints if view}
        words = {("left",): SIDES[0], ("right",): SIDES[1], ("left", "right"): SIDES[2]}
        return {number: words.get(tuple(sorted(own)), SIDES[3]) for number, own in seen.items()}

    def counts(self) -> dict[str, Any]:
        """Return the numbers of groups, and within which the number of new animals lies.

        An animal that is seen from the left here and from the right there, never both, is in two
        groups. So at least as many are new as there would be if all that can be were one.
        """
        sides = self.sides()
        known = {member.group for member in self.members if member.individual is not None}
        met = {member.group for member in self.unknown()}
        new = Counter(sides[number] for number in met - known)
        old = Counter(sides[number] for number in known)
        left = max(new["left only"] - old["right only"], 0)
        right = max(new["right only"] - old["left only"], 0)
        most = len(met - known)
        sure = most - new["left only"] - new["right only"]
        return {
            "encounters without a name": len(self.unknown()),
            "known individuals met": len(met & known),
            "new groups": most,
            **{f"new, {side}": new[side] for side in SIDES},
            "new animals at least": sure + max(left, right),
            "new animals at most": most,
        }

    def summary(self) -> str:
        """Return the counts in words."""
        counts = self.counts()
        sides = ", ".join(
            f"{counts[f'new, {side}']} {side}" for side in SIDES if counts[f"new, {side}"]
        )
        least, most = counts["new animals at least"], counts["new animals at most"]
        animals = f"{most}" if least == most else f"{least} to {most}"
        lines = [
            f"encounters without a name: {counts['encounters without a name']}, by {self.matcher}",
            f"known individuals met: {counts['known individuals met']}",
            f"new groups: {most}" + (f" ({sides})" if sides else ""),
            f"new animals: {animals}",
        ]
        if least < most:
            lines.append(
                "  (an animal that is seen from one side here, from the other there, is two groups)"
            )
        return "\n".join(lines)

    def table(self) -> pd.DataFrame:
        """Return one row a photograph that had no name."""
        sides = self.sides()
        rows: list[dict[str, Any]] = [
            {
                "file": annotation,
                "encounter": member.encounter,
                "group": member.group,
                "individual": member.individual or "",
                "viewpoint": viewpoint,
                "seen": sides[member.group],
                "cohesion": member.cohesion,
            }
            for member in self.unknown()
            for annotation, viewpoint in zip(member.annotations, member.viewpoints, strict=True)
        ]
        rows.sort(key=lambda row: row["group"])
        return pd.DataFrame(rows).astype({"group": str, "cohesion": float})

    def write(self, folder: str | os.PathLike[str], model: str) -> list[Path]:
        """Write ``groups.csv``, ``groups.json``, and the likeness of all pairs.

        Args:
            folder: is made where it does not exist.
            model: the fingerprint of what compared the photographs.

        Raises:
            FileError: a file cannot be written.
        """
        from safetensors.numpy import save_file

        folder = expanded(folder)
        with atomic_path(folder / "groups.csv") as temporary:
            write_csv(temporary, self.table())
        content = {
            "encounters": [
                {
                    "encounter": member.encounter,
                    "annotations": member.annotations,
                    "group": member.group,
                    "individual": member.individual,
                }
                for member in self.unknown()
            ],
            "pairs": self.pairs,
            "share expected": self.expected.share,
            "partners expected": self.expected.partners,
            "clumped": self.clumped,
            **self.counts(),
            "model": model,
        }
        write_text(folder / FILE, json.dumps(content))
        with atomic_path(folder / LIKENESS) as temporary:
            save_file({"likeness": self.likeness}, temporary)
        return [folder / "groups.csv", folder / FILE, folder / LIKENESS]


def read_groups(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], np.ndarray]:
    """Read what :meth:`Discovery.write` has written: the JSON, and the likeness of all pairs.

    Raises:
        FileError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = expanded(folder) / FILE
    with naming(file, "cannot be read; let openanimals discover write it"):
        content = read_json(
            file, "encounters", "pairs", "share expected", "partners expected", "clumped"
        )
    try:
        return content, load_file(file.with_name(LIKENESS))["likeness"]
    except (OSError, SafetensorError, KeyError) as error:
        raise FileError(
            f"{file.with_name(LIKENESS)} cannot be read: {error}; let openanimals discover write "
            "it again"
        ) from error
