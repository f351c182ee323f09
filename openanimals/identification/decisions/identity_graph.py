"""What decisions link and what they forbid, as a graph of photographs and names.

What says "same" are its links: the catalogue and the decision ``name`` link a photograph (an
annotation) to a name, ``same`` two photographs, ``merge`` and ``rename`` two names. What hangs
together is one individual. Where a forbidden pair hangs together, somebody is wrong, and the
shortest chain of links shows where to look.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from openanimals.identification.decisions.evidence import KINDS, Decision

Node = tuple[str, str]  # ("photograph", annotation id), ("name", name)
Pair = tuple[Node, Node, str, int | None]  # a forbidden one: what forbids it, decision's number


@dataclass(frozen=True)
class Conflict:
    """Two that are said to be one individual, and not to be.

    Attributes:
        pair: annotation ids, names, or one of each.
        against: what says that they are not one.
        chain: the fewest statements that make them one.
        decisions: numbers of the decisions among all these; one of them should be undone, or the
            catalogue is wrong.
    """

    pair: tuple[str, str]
    against: str
    chain: tuple[str, ...]
    decisions: tuple[int, ...]

    def __str__(self) -> str:
        return f"{'; '.join(self.chain)}; but {self.against}"


class IdentityGraph:
    """Photographs and names, what links them, and what must not hang together.

    Attributes:
        links: by node its neighbours, and by neighbour the decision that says so, None where the
            catalogue does.
        title: of each name the one that its individual is called by; names that merge and rename
            make one have one title.
        made: names that we made up, and the numbers of their decisions.
        forbidden: pairs of nodes that are not one individual.
        taken: conflicts of names that were given to a second individual.
    """

    def __init__(self, annotations: Sequence[str], names: Mapping[str, str | None]) -> None:
        self.links: dict[Node, dict[Node, Decision | None]] = defaultdict(dict)
        self.title: dict[str, str] = {}  # in the order in which names became known
        self.made: dict[str, int] = {}
        self.strangers: dict[str, int] = {}  # names of kind new, how many were known before
        self.forbidden: list[Pair] = []
        self.taken: list[Conflict] = []
        self.names = names
        for annotation in annotations:
            if (name := names.get(annotation)) is not None:
                self._link(("photograph", annotation), ("name", name), None)

    def add(self, decision: Decision) -> None:
        """Take a decision in; the earlier ones are in already."""
        kind, first, own = decision.kind, decision.first, self.title
        second = decision.second or ""
        photograph: Node = ("photograph", first)
        if kind == "different":
            forbids = f"they are different ({_source(decision)})"
            self.forbidden.append((photograph, ("photograph", second), forbids, decision.number))
        elif kind == "name":
            self._link(photograph, ("name", second), decision)
        elif kind == "rename" and {first, second} <= own.keys() and own[first] != own[second]:
            self.taken.append(
                Conflict(
                    (first, second),
                    f"{second} is another individual already (if they are one, merge them)",
                    (f"{first} was renamed {second} ({_source(decision)})",),
                    (decision.number,),
                )
            )
        elif kind in ("merge", "rename"):
            self._link(("name", first), ("name", second), decision)
            kept, both = own[first] if kind == "merge" else second, {own[first], own[second]}
            own |= {name: kept for name, title in own.items() if title in both}
        elif kind in ("same", "new", "split"):
            self._link_made(photograph, decision)

    def _link_made(self, photograph: Node, decision: Decision) -> None:
        """Take in what makes a new individual, perhaps without another name."""
        if decision.kind == "split":
            for neighbour in self.links.pop(photograph, {}):
                del self.links[neighbour][photograph]
            forbids = f"{decision.first} is not {decision.second} ({_source(decision)})"
            other: Node = ("name", decision.second or "")
            self.forbidden.append((photograph, other, forbids, decision.number))
        ends = [decision.first, *([decision.second or ""] if decision.kind == "same" else [])]
        name = f"new-{decision.number}"
        while name in self.title and all(self.names.get(end) != name for end in ends):
            name += "b"  # another's, made up beside another file of decisions
        self.made[name] = decision.number
        if decision.kind == "new":
            self.strangers[name] = len(self.title)
        if decision.kind == "same":
            self._link(photograph, ("photograph", ends[1]), decision)
        for end in ends:
            self._link(("photograph", end), ("name", name), decision)

    def _link(self, one: Node, other: Node, decision: Decision | None) -> None:
        self.links[one].setdefault(other, decision)
        self.links[other].setdefault(one, decision)
        for kind, name in (one, other):
            if kind == "name":
                self.title.setdefault(name, name)

    def components(self) -> Iterator[list[Node]]:
        """Give the nodes that hang together, each node once."""
        seen: set[Node] = set()
        for start in self.links:
            if start not in seen:
                seen.add(start)
                nodes = [start]
                for node in nodes:  # grows while we go along it
                    nodes += (fresh := [n for n in self.links[node] if n not in seen])
                    seen.update(fresh)
                yield nodes

    def best(self, names: Sequence[str]) -> str:
        """Return what the individual is called that has these names, without any rivals."""
        real = [name for name in names if name not in self.made]
        return self.title[real[0] if real else min(names, key=self.made.__getitem__)]

    def rivals(self, names: Sequence[str]) -> Iterator[list[Pair]]:
        """Give for each two individuals among the names the pairs of names that prove it."""
        real = [name for name in names if name not in self.made]
        new_ones = [name for name in names if name in self.strangers]
        if len(real) + len(new_ones) < 2:  # as nearly always
            return
        order = {name: n for n, name in enumerate(self.title)}
        found: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
        for one, other in combinations(real, 2):
            forbids = f"{one} and {other} are two individuals"
            found[tuple(sorted((self.title[one], self.title[other])))].append(
                (("name", one), ("name", other), forbids, None)
            )
        for new in new_ones:
            for one in real:
                if order[one] < self.strangers[new]:
                    forbids = f"{new} is none of the individuals known before"
                    found[tuple(sorted((self.title[one], self.title[new])))].append(
                        (("name", new), ("name", one), forbids, self.made[new])
                    )
        yield from (pairs for (one, other), pairs in found.items() if one != other)

    def conflict(self, pair: Pair) -> Conflict:
        """Return the conflict of a pair that hangs together, by the fewest links between."""
        start, end, against, number = pair
        before: dict[Node, Node] = {start: start}
        queue = deque([start])
        while end not in before:
            node = queue.popleft()
            for neighbour in self.links[node]:
                if neighbour not in before:
                    before[neighbour] = node
                    queue.append(neighbour)
        steps = []
        while end != start:
            steps.append((before[end], end))
            end = before[end]
        chain = [(one, other, self.links[one][other]) for one, other in reversed(steps)]
        numbers = {decision.number for *_, decision in chain if decision}
        return Conflict(
            (start[1], pair[1][1]),
            against,
            tuple(_statement(*link) for link in chain),
            tuple(sorted(numbers | ({number} if number is not None else set()))),
        )


def nodes_of(decision: Decision) -> list[Node]:
    """Return what a decision is about; nothing for an undo."""
    about = KINDS.get(decision.kind, ())
    texts = (decision.first, decision.second)
    return [(what.split()[0], text) for what, text in zip(about, texts, strict=False) if text]


def _source(decision: Decision | None) -> str:
    return f"decision {decision.number} by {decision.by}" if decision else "the catalogue"


def _statement(one: Node, other: Node, decision: Decision | None) -> str:
    if one[0] == other[0] == "photograph":
        return f"{one[1]} and {other[1]} are the same ({_source(decision)})"
    if one[0] == "name":
        one, other = other, one
    return f"{one[1]} is {other[1]} ({_source(decision)})"
