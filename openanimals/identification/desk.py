"""What the commands do with a catalogue and its decisions: show, correct, export, captures."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from openanimals.identification.captures.capture_history import capture_history
from openanimals.identification.captures.formats import write_captures
from openanimals.identification.captures.stations import read_stations
from openanimals.identification.catalogue_file import (
    annotation_ids,
    find_annotations,
    rebase,
    write_catalogue,
)
from openanimals.identification.dates import clock_offset
from openanimals.identification.decisions.evidence import Evidence
from openanimals.identification.decisions.individuals import annotate, resolve_table
from openanimals.identification.decisions.reviewed import Reviewed, apply_reviewed, read_reviewed
from openanimals.identification.exchange.camtrap_dp import fill_camtrap_dp
from openanimals.identification.exchange.coco import write_coco
from openanimals.identification.exchange.wildbook import write_wildbook
from openanimals.identification.importing.report import TWO_NAMES, copies, tell
from openanimals.identification.listing import Listing, current, decisions_of, read_new
from openanimals.identification.matches import NEW, Matches
from openanimals.utils.errors import UserError
from openanimals.utils.files import expanded


def tend(
    catalogue: str,
    *,
    by: str = "",
    add: str | None = None,
    apply: str | None = None,
    accept: bool = False,
    new_name: Sequence[str] = (),
    merge: Sequence[str] | None = None,
    rename: Sequence[str] | None = None,
    split: Sequence[str] | None = None,
    undo: int | None = None,
    history: str | None = None,
    export: str | None = None,
    to: str | None = None,
    **how: Any,
) -> str:
    """Decide, then show a catalogue, or export it; see ``openanimals catalogue --help``.

    Returns:
        What was done and found, in words.

    Raises:
        UserError: a name, a photograph or a decision does not exist, nobody is said to decide, or
            an export lacks something.
    """
    listing = Listing.read(catalogue)
    lines: list[str] = []
    if add:
        listing, told = _added(catalogue, listing, add)
        lines.append(told)
    if accept and not apply:
        raise UserError("--accept goes with --apply matches/matches.xlsx")
    if (apply or merge or rename or split or undo is not None) and not by:
        raise UserError("who decides? Add --by with your name, which is kept with the decision")
    with Evidence(decisions_of(catalogue)) as evidence:
        before = resolve_table(listing.table, evidence.decisions())
        for kind, pair in (("merge", merge), ("rename", rename)):
            if pair:
                for name in pair if kind == "merge" else pair[:1]:
                    before.name_of(name)
                evidence.decide(kind, pair[0], pair[1], by=by)
        if split:
            _split(evidence, split, before.identity, by)
        if undo is not None:
            evidence.undo(undo, by=by)
        if apply:
            answers = _reviewed(apply, listing.table, before.names, new_name, accept)
            numbers = apply_reviewed(answers, evidence, by=by)
            lines += [*answers.told, f"{len(numbers)} decisions taken from {apply}"]
        found = resolve_table(listing.table, evidence.decisions())
    if history is not None:
        return "\n".join(map(str, found.history_of(history))) or "no decision yet"
    table = annotate(listing.table, found)
    conflicts = [f"conflict: {conflict}" for conflict in found.conflicts]
    if export:
        if to and expanded(to).absolute() == expanded(catalogue).absolute():
            raise UserError(
                f"--to {to} is the catalogue itself, which decisions are about; "
                "expected another file"
            )
        return "\n".join([*lines, *conflicts, *_export(export, table, listing.root, by, to, **how)])
    counts = Counter(table["identity"].dropna())
    lines.append(
        f"{len(table)} photographs of {len(counts)} individuals, "
        f"{len(table) - counts.total()} of nobody known"
    )
    lines += [f"  {name}: {count}" for name, count in sorted(counts.items())]
    lines += conflicts
    two_names, _ = copies(table, listing.root)
    tell(lines, two_names, TWO_NAMES)
    lines += [
        f"not in the catalogue any more, though decided about: {annotation} {numbers}"
        for annotation, numbers in found.missing.items()
    ]
    return "\n".join(lines)


def _split(
    evidence: Evidence, split: Sequence[str], identity: dict[str, str | None], by: str
) -> None:
    name, *named = split
    annotations = find_annotations(named, identity, "the catalogue")
    if not annotations:
        raise UserError(f"--split {name}: which photographs? Name them after the new name")
    if others := [each for each in annotations if identity[each] != name]:
        raise UserError(
            f"--split {name}: {others[0]} is called {identity[others[0]] or 'nobody'}, so it "
            f"cannot be taken from {name}"
        )
    with evidence.transaction():
        for annotation in annotations:
            evidence.decide("split", annotation, name, by=by)


def _added(catalogue: str, listing: Listing, new: str) -> tuple[Listing, str]:
    """Write new photographs into a catalogue's file, without a name."""
    found = read_new(new, listing.root).table
    place = expanded(catalogue)
    with FileLock(place.with_name(f".{place.name}.lock")):
        listing = Listing.read(catalogue)  # as another process may have left it
        there = set(annotation_ids(listing.table))
        fresh = found[[name not in there for name in annotation_ids(found)]]
        table = pd.concat([listing.table, fresh.assign(identity=None)], ignore_index=True)
        table = table.astype(object).where(table.notna(), None)
        write_catalogue(catalogue, table)
    told = f"{len(fresh)} photographs added, {len(found) - len(fresh)} were there"
    if named := int(fresh["identity"].notna().sum()):
        told += f"; {named} had a name, which is not taken over, as they are to be identified"
    return Listing(table, listing.root), told


def _reviewed(
    file: str,
    table: pd.DataFrame,
    names: Iterable[str],
    new_names: Sequence[str],
    accept: bool,
) -> Reviewed:
    """Return what a person wrote into a table of matches, and perhaps what was proposed."""
    written = expanded(file).with_name("matches.json")
    matches = Matches.read(written).matches if written.is_file() else []
    if accept and not matches:
        raise UserError(f"--accept: {written}, which holds what was proposed, is not there")
    of = {name: match.encounter for match in matches for name in match.annotations}
    reviewed = read_reviewed(file, names, of, new_names=new_names)
    answered = {name for *_, some in reviewed.answers for name in some}
    answers = [*reviewed.answers]
    for match in matches if accept else []:
        # Whoever removes a row does not want it to be decided.
        listed = reviewed.listed.issuperset(match.annotations)
        if match.proposed and listed and not answered & {*match.annotations}:
            who = ("new", None) if match.decision == NEW else ("name", match.proposed)
            answers.append((*who, [*match.annotations]))
    asked = {name for *_, some in answers for name in some}
    if strangers := sorted(asked - {*annotation_ids(table)}):
        raise UserError(
            f"{len(strangers)} photographs of {file} are not in the catalogue, such as "
            f"{strangers[0]}; add the new photographs first: openanimals catalogue CSV --add FOLDER"
        )
    return Reviewed(answers, reviewed.told)


def _export(
    kind: str,
    table: pd.DataFrame,
    root: Path,
    by: str,
    to: str | None,
    *,
    submitter: str = "",
    location: str | None = None,
    species: str | None = None,
    package: str | None = None,
    copies: bool = False,
    decimals: int | None = None,
) -> list[str]:
    if not to:
        raise UserError(f"--export {kind}: where to? Add --to")
    wildbook = {"--submitter": submitter, "--location": location, "--species": species}
    of = {**dict.fromkeys([*wildbook, "--copies"], "wildbook"), "--package": "camtrap-dp"}
    given = {**wildbook, "--copies": copies, "--package": package}
    if idle := [name for name, value in given.items() if value and of[name] != kind]:
        raise UserError(f"{idle[0]} is of --export {of[idle[0]]}, and this is --export {kind}")
    if kind == "csv" and decimals is not None:
        raise UserError("--decimals: a catalogue keeps its coordinates; it is of the other exports")
    if kind == "csv":
        write_catalogue(to, rebase(table, root, expanded(to).absolute().parent))
        return [f"written: {to}"]
    if kind == "coco":
        return [f"written: {write_coco(table, root, to, decimals)}"]
    if kind == "wildbook":
        if not submitter.strip():
            raise UserError("--export wildbook needs --submitter, your user name there")
        written = write_wildbook(
            table,
            to,
            submitter=submitter,
            location=location,
            species=species,
            decimals=decimals,
            copies_from=root if copies else None,
        )
        return [
            *(f"renamed: {old} -> {new}" for old, new in written.renamed.items()),
            f"{written.encounters} encounters in {', '.join(map(str, written.spreadsheets))}",
        ]
    if not package or not by:
        raise UserError("--export camtrap-dp needs --package, the datapackage.json, and --by")
    filled = fill_camtrap_dp(package, table, to, by=by, root=root, decimals=decimals)
    return [f"{filled.changed} of {filled.observations} observations filled in: {filled.file}"]


def write_history(
    catalogue: str,
    *,
    stations: str | None = None,
    day_first: bool | None = None,
    clock: Sequence[str] = (),
    format: Sequence[str] = (),
    to: str = "captures",
    decimals: int | None = None,
    **how: Any,
) -> str:
    """Write the capture history of a catalogue; see :func:`capture_history`, which takes ``how``.

    Returns:
        Its summary and the files.
    """
    places = read_stations(stations, day_first) if stations else None
    offsets = dict(map(clock_offset, clock))
    found = capture_history(current(catalogue).table, stations=places, clock=offsets, **how)
    forms = format or ["table"]
    written = [file for form in forms for file in write_captures(found, to, form, decimals)]
    return "\n".join([found.summary(), *(f"written: {file}" for file in written)])
