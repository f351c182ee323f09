"""Who is who: individuals as a pure function of a catalogue's names and of decisions."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pandas as pd

from openanimals.identification.catalogue_file import annotation_ids
from openanimals.identification.decisions.evidence import Decision
from openanimals.identification.decisions.identity_graph import (
    Conflict,
    IdentityGraph,
    Node,
    nodes_of,
)
from openanimals.utils.errors import UserError
from openanimals.utils.registry import did_you_mean


@dataclass(frozen=True)
class Individuals:
    """What follows from a catalogue and decisions.

    Attributes:
        identity: the name of each annotation, made up like ``new-12`` (12 is a decision's number)
            for an individual that has none; None where nothing says who it is, or where names
            are in conflict and not exactly one of these is said of the annotation itself.
        conflicts: all that there are.
        missing: annotations that decisions are about but that the catalogue lacks, perhaps deleted,
            and the numbers of these decisions (which still count).
        names: every name that an individual has or had, and the one that it has.
        decisions: that all this follows from, undone ones too.
    """

    identity: dict[str, str | None]
    conflicts: list[Conflict]
    missing: dict[str, list[int]]
    names: dict[str, str]
    decisions: tuple[Decision, ...] = field(repr=False)

    def members(self, individual: str) -> list[str]:
        """Return the annotations of an individual, by any name that it has or had.

        Raises:
            UserError: there is no such individual.
        """
        name = self.name_of(individual)
        return [annotation for annotation, own in self.identity.items() if own == name]

    def name_of(self, individual: str) -> str:
        """Return what an individual is called, by any name that it has or had.

        Raises:
            UserError: there is no such individual.
        """
        if individual not in self.names:
            hint = did_you_mean(individual, self.names)
            raise UserError(f"there is no individual {individual!r}{hint}")
        return self.names[individual]

    def history_of(self, individual: str) -> list[Decision]:
        """Return the decisions about an individual or its annotations, undone ones too.

        Raises:
            UserError: there is no such individual.
        """
        about = {("photograph", annotation) for annotation in self.members(individual)}
        name = self.names[individual]
        about |= {("name", other) for other, shown in self.names.items() if shown == name}
        found: dict[str, Decision] = {}
        for decision in self.decisions:  # an undo comes after what it undoes
            undoes = decision.kind == "undo" and decision.first in found
            if undoes or not about.isdisjoint(nodes_of(decision)):
                found[str(decision.number)] = decision
        return [*found.values()]


def resolve(
    annotations: Sequence[str],
    names: Mapping[str, str | None],
    decisions: Iterable[Decision],
    never_together: Iterable[tuple[str, str]] = (),
) -> Individuals:
    """Find the individuals.

    Every decision that is not undone counts, whoever decided, but a ``split`` ends what was said of
    its annotation before: the catalogue's name, and earlier same, name and new. Two names are two
    individuals unless a merge or rename says otherwise.

    Args:
        annotations: ids of all annotations of the catalogue.
        names: the catalogue's identity by annotation id, None where it has none.
        decisions: as :meth:`Evidence.decisions` gives them.
        never_together: pairs of annotations that cannot be one animal.
    """
    decisions = tuple(decisions)
    hold = [d for d in decisions if d.undone_by is None and d.kind != "undo"]
    graph = IdentityGraph(annotations, names)
    for decision in hold:
        graph.add(decision)
    for one, other in never_together:
        forbids = "they are two animals in one photograph"
        graph.forbidden.append((("photograph", one), ("photograph", other), forbids, None))

    identity: dict[str, str | None] = dict.fromkeys(annotations)
    number: dict[Node, int] = {}
    shown, conflicts = dict(graph.title), list(graph.taken)
    for component, nodes in enumerate(graph.components()):
        number |= dict.fromkeys(nodes, component)
        own = [name for kind, name in nodes if kind == "name"]
        rivals = [
            min(map(graph.conflict, pairs), key=lambda conflict: len(conflict.chain))
            for pairs in graph.rivals(own)
        ]
        if not rivals:
            shown |= dict.fromkeys(own, graph.best(own))
        claimed = {graph.title[name] for conflict in rivals for name in conflict.pair}
        conflicts += rivals
        for node in nodes:
            if node[0] == "photograph" and node[1] in identity:
                said = {shown[name] for kind, name in graph.links[node] if kind == "name"}
                said = said & claimed if rivals else {graph.best(own)}
                identity[node[1]] = said.pop() if len(said) == 1 else None
    conflicts += [
        graph.conflict(pair)
        for pair in graph.forbidden
        if pair[0] in number and number[pair[0]] == number.get(pair[1])
    ]
    missing: dict[str, list[int]] = defaultdict(list)
    for decision in hold:
        for kind, name in nodes_of(decision):
            if kind == "photograph" and name not in identity:
                missing[name].append(decision.number)
    return Individuals(identity, conflicts, dict(missing), shown, decisions)


def resolve_table(table: pd.DataFrame, decisions: Iterable[Decision]) -> Individuals:
    """Find the individuals of a catalogue; two animals in one photograph are two."""
    ids = annotation_ids(table)
    animals = defaultdict(list)
    for path, annotation in zip(table["path"], ids, strict=True):
        animals[path].append(annotation)
    pairs = [pair for own in animals.values() for pair in combinations(own, 2)]
    names = [None if pd.isna(name) else name for name in table["identity"]]
    return resolve(ids, dict(zip(ids, names, strict=True)), decisions, pairs)


def annotate(table: pd.DataFrame, individuals: Individuals) -> pd.DataFrame:
    """Return a catalogue with the identities that follow from decisions about it."""
    identities = pd.Series([*individuals.identity.values()], table.index, dtype=object)
    return table.assign(identity=identities)


def made_up(table: pd.DataFrame, found: pd.DataFrame) -> frozenset[str]:
    """Return names such as ``new-12`` that decisions gave and nobody chose.

    Two of them may be one animal: that something is new says only that it is none of those known.

    Args:
        table: the catalogue.
        found: the same after all decisions, as :func:`annotate` returns it.
    """
    names = {str(name) for name in found["identity"].dropna()}
    names -= {str(name) for name in table["identity"].dropna()}
    return frozenset(name for name in names if re.fullmatch(r"new-\d+b*", name))
