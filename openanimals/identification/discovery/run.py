"""What the command ``discover`` does with files: group who is unknown, and tell what is left."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from openanimals.identification.build import build_held_out, build_matchers, trained_on
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.decisions.evidence import Decision, Evidence
from openanimals.identification.decisions.individuals import made_up
from openanimals.identification.discovery.discover import different_pairs, discover, learn_pairs
from openanimals.identification.discovery.groups_file import read_groups
from openanimals.identification.discovery.pair_evidence import Expected, PairEvidence
from openanimals.identification.discovery.population import (
    Ask,
    estimate_population,
    wrong_names_left,
)
from openanimals.identification.learning import Settings
from openanimals.identification.listing import (
    Listing,
    current,
    decisions_of,
    left_to_identify,
    read_new,
)
from openanimals.identification.matches import Match, Matches
from openanimals.utils.files import expanded
from openanimals.utils.viewpoints import LATERAL, lateral_viewpoint

logger = getLogger(__name__)

LISTED = 10  # pairs to look at next


def discover_files(
    catalogue: Path,
    new: str | None,
    to: Path,
    settings: Settings,
    *,
    learn_from: str | None = None,
    **matcher: Any,
) -> str:
    """Group the photographs that have no name, and write what was found.

    Args:
        catalogue: its file.
        new: photographs that are not in it yet; None: only those in it.
        to: the folder that is written into; where it has a ``matches.json``, its encounters count.
        settings: of the identification.
        learn_from: another catalogue, with names.
        **matcher: see :func:`build_matchers`.

    Returns:
        What was found, in words.

    Raises:
        UserError: a file cannot be used, nobody is unknown, or there is too little to learn from.
    """
    listing = left_to_identify(catalogue)
    if new is not None:
        fresh = read_new(new, listing.root).table.assign(identity=None)
        fresh = fresh[~np.isin(annotation_ids(fresh), annotation_ids(listing.table))]
        listing = Listing(pd.concat([listing.table, fresh], ignore_index=True), listing.root)
    matchers, fingerprint = build_matchers(catalogue=expanded(catalogue).absolute(), **matcher)
    discovery = discover(
        listing,
        matchers,
        settings,
        model=_learnt(listing, learn_from, settings, matchers, matcher),
        decisions=_decisions(catalogue),
        nobody=made_up(Listing.read(catalogue).table, listing.table),
        called={name: each.encounter for each in _matches(to) for name in each.annotations},
    )
    written = discovery.write(to, fingerprint)
    return "\n".join([discovery.summary(), *(f"written: {file}" for file in written)])


def _learnt(
    listing: Listing,
    learn_from: str | None,
    settings: Settings,
    matchers: Mapping[str, Any],
    how: Mapping[str, Any],
) -> PairEvidence | None:
    """Return what likeness says, where it is not to be learnt from the catalogue's own names."""
    if learn_from is not None:
        return learn_pairs(Listing.read(learn_from), matchers, settings)
    if held_out := build_held_out(**how):
        # Of animals that it was trained on a network is surer than of any others.
        strangers = np.isin(annotation_ids(listing.table), [*held_out.individuals])
        some = Listing(listing.table[strangers].reset_index(drop=True), listing.root)
        return learn_pairs(some, held_out.matchers, settings)
    known = listing.known()
    if len(known.table) and (seen := trained_on(how["model"], as_catalogue(*known))):
        logger.warning(
            "%s was trained on %d of the %d photographs with a name, so it is surer of them than "
            "of others; openanimals train --for-identification holds some out",
            how["model"],
            seen,
            len(known.table),
        )
    return None


def how_many(catalogue: Path, to: Path) -> str:
    """Tell how many individuals there are among the grouped ones, and what may still be wrong.

    Args:
        catalogue: its file; the decisions about it count.
        to: what ``discover`` has written into, and ``identify``.

    Returns:
        The number with its interval, or what has to be looked at first; expected wrong names.

    Raises:
        UserError: there are no groups.
    """
    content, likeness = read_groups(to)
    table = current(catalogue).table
    ids = annotation_ids(table)
    who = dict(zip(ids, table["identity"], strict=True))
    views = dict(zip(ids, map(lateral_viewpoint, table["viewpoint"]), strict=True))
    some, viewpoint = _of_one_viewpoint(content["encounters"], views)
    encounters = [content["encounters"][n] for n in some]
    found = estimate_population(
        likeness[np.ix_(some, some)].astype(np.float64),
        Expected(content["share expected"], content["partners expected"]),
        _decided(
            [each["annotations"] for each in encounters],
            who,
            made_up(Listing.read(catalogue).table, table),
            _decisions(catalogue),
        ),
        clumped=content["clumped"],
    )
    seen = f" that were seen from the {viewpoint}" if viewpoint else ""
    lines = [f"among the encounters without a name{seen}:"]
    if found.pending:
        lines += [
            f"too few decisions yet for a number: {len(found.pending)} of {found.encounters} "
            "encounters are not settled; look at these pairs next (then run this again):",
            *(
                f"  {encounters[i]['encounter']} and {encounters[j]['encounter']}"
                for i, j in found.pending[:LISTED]
            ),
        ]
    elif not found.asked and found.encounters > 1:
        lines.append("  how many cannot be told: hardly any of them can be compared with another")
    else:
        lines.append(f"  {found}")
    named = [
        (match.probability, any(who.get(each) for each in match.annotations))
        for match in _matches(to)
        if match.decision == "known"
    ]
    if named:
        lines.append(
            f"wrong names expected: {wrong_names_left(named):.2g} among the "
            f"{sum(not done for _, done in named)} of {len(named)} that were given and that "
            "nobody has confirmed"
        )
    return "\n".join(lines)


def _of_one_viewpoint(
    encounters: Sequence[Mapping[str, Any]], views: Mapping[str, str | None]
) -> tuple[list[int], str]:
    """Return which encounters are seen from the commoner of left and right, and from which.

    Where neither is known of any, all are, and "".
    """
    seen = [{views.get(name) for name in each["annotations"]} for each in encounters]
    by_view = {view: [n for n, own in enumerate(seen) if view in own] for view in LATERAL}
    viewpoint = max(by_view, key=lambda view: len(by_view[view]))
    if not by_view[viewpoint]:
        return [*range(len(encounters))], ""
    return by_view[viewpoint], viewpoint


def _decided(
    photographs: Sequence[Sequence[str]],
    who: Mapping[str, str | None],
    nobody: frozenset[str],
    decisions: Sequence[Decision],
) -> Ask:
    """Return what says of two encounters whether people decided that they show one animal.

    Args:
        photographs: of each encounter, by annotation id.
        who: the name of each.
        nobody: names that were made up, two of which may be one animal's.
        decisions: about the catalogue.
    """
    named = [next((who[name] for name in own if who.get(name)), None) for own in photographs]
    place = {name: n for n, own in enumerate(photographs) for name in own}
    differ = {frozenset(pair) for pair in different_pairs(decisions, place)}

    def ask(one: int, other: int) -> bool | None:
        both = {named[one], named[other]}
        if None not in both and (len(both) == 1 or not both <= nobody):
            return len(both) == 1
        return False if frozenset((one, other)) in differ else None

    return ask


def _decisions(catalogue: Path) -> list[Decision]:
    file = decisions_of(catalogue)
    if not file.is_file():
        return []
    with Evidence(file) as evidence:
        return evidence.decisions()


def _matches(folder: Path) -> list[Match]:
    file = expanded(folder) / "matches.json"
    return Matches.read(file).matches if file.is_file() else []
