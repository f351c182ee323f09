"""What is in doubt, and which question would teach most.

Of an encounter, the individuals of the catalogue and a new animal have probabilities that make one.
The name that it has now is the most probable one. Asked about individual k, the answer "same" makes
k certain, and "different" leaves the best of the others. So the share of right names grows, in
expectation, by

    min(p_k, the largest of the other probabilities, that of a new animal among them)

whichever of the two is named now. This, times the photographs that get another name by it, is what
a question is worth; it is largest in the middle of doubt and nothing where all is clear. The most
probable individual is asked about first. "Different" takes its probability away, and the others
make one again.

A line-up shows the most probable individuals at once, where none is likely. It is worth the sum of
their probabilities and the largest of the rest, less the largest of all, by what looking costs.

Encounters that were said to be the same, or to show one individual, are a group and speak together:
what each adds to the logarithm of the odds is added up. Encounters of one animal are alike in more
than the animal, so n of them count as much as the root of n. So it is for a group and an
individual, for two groups (with all pairs between them), and for a group, an individual, and those
of its encounters that were named before.

Two groups of unknown animals show one animal with probability q: never more than each is new.
Whether they do is worth min(q, 1 - q) times the photographs of the smaller one.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from openanimals.identification.review.answers import Answer

WORTH = 0.005  # photographs: questions that are expected to mend less are not asked unless demanded
LINEUP = 10  # individuals at once, as many as there are keys with numbers
ALONE = 0.1  # who is as likely is asked about alone
LOOK = 1 / 3  # what one more of them costs, in questions about one; taken, not measured
ROWS = 1024  # encounters whose probabilities are looked at together
LEAST = 1e-13  # a probability that is lower says no more
UNLIKE = -1.0  # what a pair adds to the logarithm of the odds that is not among the likely ones
NOBODY, NEWCOMER = -1, -2  # said of a group: nothing yet; a new animal, or a name that is new


class Doubt:
    """The state of one reviewer's work; nothing in it that does not follow from the answers.

    Args:
        probability: `[E, I]`, of each individual.
        new: `[E]`, of a new animal.
        photographs: `[E]`, how many an encounter has.
        pairs: `[P, 2]`, positions of encounters that may show one animal.
        chances: `[P]`, that they do.
        share: of all such pairs, those that are expected to.
        views: bool `[E, V]`, the viewpoints that an encounter can be compared from.
        columns: the position of each individual's name, by any name that it has or had.

    Attributes:
        component: `[E]`, a number for each group of encounters that were said to be the same.
        size: `[E]`, by number of a group its photographs.
        said: `[E]`, by number of a group the individual that it was said to be, or
            :data:`NOBODY`, or :data:`NEWCOMER`.
        put_off: by encounter the number of the decision that skipped it.
    """

    def __init__(
        self,
        probability: np.ndarray,
        new: np.ndarray,
        photographs: np.ndarray,
        pairs: np.ndarray,
        chances: np.ndarray,
        share: float,
        views: np.ndarray,
        columns: Mapping[str, int],
    ) -> None:
        count = len(probability)
        self._probability, self._new, self._columns = probability, new, columns
        # Two columns: many times faster than one array of pairs.
        self._one, self._other = (np.ascontiguousarray(pairs[:, n]) for n in (0, 1))
        self._chances = chances.copy()
        self._against = _log_odds(np.array(1 - share))
        self._says, self._views = _log_odds(chances) + self._against, views.astype(np.float32)
        self.component = np.arange(count)
        self._members: dict[int, list[int]] = {}
        self.size = photographs.astype(np.int64)
        self.said = np.full(count, NOBODY)
        self.put_off: dict[int, int] = {}
        self._not: dict[int, set[int]] = {}  # individuals that a group is not
        self._unclear: dict[int, set[int]] = {}  # that it cannot be compared with
        self._apart: list[tuple[int, int]] = []  # encounters: different, or cannot be compared
        self._named: dict[str | int, int] = {}  # by individual, or new name, an encounter
        self._like_named: set[int] = set()  # encounters that may be like one with a name
        self.asks = np.full(count, -1)  # the individual to ask about
        self._gain = np.zeros((2, count))  # of asking about it, and of a line-up
        self.new = np.zeros(count)
        self._open = np.ones(len(pairs), dtype=bool)
        self._near = _neighbours(pairs, count)
        self._look(range(count))

    def copy(self) -> "Doubt":
        """Return the same state, which further answers to this one do not change."""
        tables = self._probability, self._new, self._columns, self._one, self._other
        shared = *tables, self._says, self._views, self._near
        return copy.deepcopy(self, {id(each): each for each in shared})

    def take(self, answers: Iterable[Answer]) -> None:
        """Take answers in."""
        changed: set[int] = set()
        of_pairs = False  # only then these need to be looked at
        for each in answers:
            if each.encounter is not None:
                self._take(each, each.encounter, changed)
                of_pairs |= isinstance(each.about, int) or each.answer in ("same", "new")
        self._look(changed)
        if of_pairs:
            self._open = self._still_open()

    def _still_open(self) -> np.ndarray:
        """Return which pairs are not answered `[P]`, by whatever follows from the answers."""
        one, other = self.component[self._one], self.component[self._other]
        apart = self.component[np.array(self._apart, dtype=np.int64).reshape(-1, 2)]
        count = len(self.said)
        keys = np.minimum(one, other) * count + np.maximum(one, other)
        closed = np.sort(apart.min(axis=1, initial=count) * count + apart.max(axis=1, initial=0))
        closed = np.append(closed, -1)  # for what belongs after the last
        unnamed = (self.said[one] < 0) & (self.said[other] < 0)
        # Keys are many and the closed are few, so np.isin, which sorts both, takes longer.
        return (one != other) & unnamed & (closed[np.searchsorted(closed[:-1], keys)] != keys)

    def _take(self, each: Answer, encounter: int, changed: set[int]) -> None:
        group = int(self.component[encounter])
        about, answer = each.about, each.answer
        changed.update(self._group(group))
        self.put_off.pop(encounter, None)
        if answer == "skip":
            self.put_off[encounter] = each.numbers[-1]
        elif isinstance(about, int):
            if answer == "same":
                self._join(encounter, about, changed)
            else:
                self._apart.append((encounter, about))
        elif answer == "new" or (about is None and answer == "incomparable"):
            self.said[group] = NEWCOMER
        elif isinstance(about, str) and about in self._columns:
            column = self._columns[about]
            if answer == "same":
                self.said[group] = column
                self._join(encounter, self._named.setdefault(column, encounter), changed)
            else:
                listed = self._not if answer == "different" else self._unclear
                listed.setdefault(group, set()).add(column)
        elif answer == "same" and isinstance(about, str):
            self.said[group] = NEWCOMER
            self._join(encounter, self._named.setdefault(about, encounter), changed)

    def _group(self, number: int) -> list[int]:
        return self._members.get(number, [number])

    def _join(self, one: int, other: int, changed: set[int]) -> None:
        kept, gone = int(self.component[one]), int(self.component[other])
        if len(self._group(kept)) < len(self._group(gone)):
            kept, gone = gone, kept
        if kept != gone:
            moved = self._group(gone)
            self.component[moved] = kept
            self._members[kept] = [*self._group(kept), *moved]
            self.size[kept] += self.size[gone]
            # An individual says more than "new".
            self.said[kept] = max(
                self.said[kept], self.said[gone], key=lambda said: (said != NOBODY, said)
            )
            for listed in (self._not, self._unclear):
                if gone in listed:
                    listed.setdefault(kept, set()).update(listed.pop(gone))
        near = self._near_of(kept)
        odds = near.says / np.sqrt(near.counts) - self._against
        self._chances[near.pairs] = expit(odds)[near.place]
        changed.update(self._group(kept))
        if self.said[kept] >= 0:
            like = {each for group in near.groups.tolist() for each in self._group(group)}
            changed.update(like)
            self._like_named |= like

    def _near_of(self, group: int) -> "_Near":
        """Return what pairs say of a group and each other one that it has pairs with."""
        members = self._group(group)
        pairs = np.concatenate([self._near[each] for each in members])
        one, other = self.component[self._one[pairs]], self.component[self._other[pairs]]
        outside = one != other
        pairs, other = pairs[outside], np.where(one == group, other, one)[outside]
        groups, place = np.unique(other, return_inverse=True)
        theirs = [self._group(each) for each in groups.tolist()]
        of = np.repeat(np.arange(len(groups)), [len(each) for each in theirs])
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *theirs])
        can = (self._views[members] @ self._views[rows].T > 0).sum(axis=0)
        listed = np.bincount(place, minlength=len(groups))
        counts = np.maximum(np.bincount(of, can, len(groups)), listed)  # what is listed, could be
        says = np.bincount(place, self._says[pairs], len(groups)) + UNLIKE * (counts - listed)
        return _Near(pairs, place, groups, says, counts)

    def _look(self, encounters: Iterable[int]) -> None:
        """Find what to ask about some encounters, and what that is worth."""
        rows = np.fromiter(encounters, np.int64)
        said = self.said[self.component[rows]]
        self.asks[rows], self._gain[:, rows] = -1, 0
        self.new[rows] = said == NEWCOMER
        rows = rows[said == NOBODY]
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            chances, new = self.probabilities(some)
            asks, own = self._likeliest(some, chances)
            before = np.maximum(chances.max(axis=1), new)
            for gain, count in zip(self._gain, (1, LINEUP), strict=True):
                np.put_along_axis(chances, asks[:, :count], 0, axis=1)
                rest = np.maximum(chances.max(axis=1), new)
                gain[some] = own[:, :count].sum(axis=1) + rest - before
            looks = np.maximum((own > 0).sum(axis=1), 1)
            self._gain[1, some] *= (own[:, 0] < ALONE) / (1 + LOOK * (looks - 1))
            self.asks[some] = np.where(own[:, 0] > 0, asks[:, 0], -1)
            self.new[some] = new

    def _likeliest(self, rows: np.ndarray, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return whom a line-up shows `[R, K]`, the most probable first, and probabilities."""
        askable = chances.copy()
        for n, row in enumerate(rows.tolist()):
            if unclear := self._unclear.get(int(self.component[row])):
                askable[n, [*unclear]] = 0
        asks = np.argsort(-askable, axis=1, kind="stable")[:, :LINEUP]
        return asks, np.take_along_axis(askable, asks, axis=1)

    def lineup(self, encounter: int) -> list[tuple[int, float]]:
        """Return the individuals of a line-up, the most probable first, and probabilities."""
        rows = np.array([encounter])
        asks, own = self._likeliest(rows, self.probabilities(rows)[0])
        return [(k, p) for k, p in zip(asks[0].tolist(), own[0].tolist(), strict=True) if p > 0]

    def probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return, after what was answered, the probabilities `[R, I]`, and of a new animal `[R]`.

        Args:
            rows: positions of encounters.
        """
        chances, new = self._probability[rows], self._new[rows]
        for n, row in enumerate(rows.tolist()):
            group = int(self.component[row])
            if row in self._like_named or len(self._group(group)) > 1:
                chances[n], new[n] = self._together(group)
            if excluded := self._not.get(group):
                chances[n, [*excluded]] = 0
        total = chances.sum(axis=1) + new
        new, total = np.where(total > 0, (new, total), 1)
        chances /= total[:, None]
        return chances, new / total

    def _together(self, group: int) -> tuple[np.ndarray, float]:
        """Return the probabilities `[I]` of a group, and that it is a new animal."""
        members = self._group(group)
        before = -np.log(self._probability.shape[1])
        chances, new = self._probability[members], self._new[members]
        can = chances > 0  # be compared
        says = _log(chances) - _log(new)[:, None] - before
        says, counts = np.where(can, says, 0).sum(axis=0), can.sum(axis=0)
        near = self._near_of(group)
        known = self.said[near.groups] >= 0
        columns = self.said[near.groups[known]]
        np.add.at(says, columns, near.says[known])
        np.add.at(counts, columns, near.counts[known].astype(counts.dtype))
        odds = says / np.sqrt(np.maximum(counts, 1)) + before
        odds[counts == 0] = -np.inf
        parts = np.exp(np.append(odds, 0.0) - max(odds.max(), 0.0))
        parts /= parts.sum()
        return parts[:-1], float(parts[-1])

    def like(self, encounter: int) -> list[tuple[int, float]]:
        """Return other encounters that may show the same new animal, and probabilities.

        The most alike by itself comes first; with all of one group the probability is the same.
        """
        near = self._near[encounter]
        near = near[np.argsort(-self._says[near], kind="stable")]
        one, other = self._one[near], self._other[near]
        others = np.where(one == encounter, other, one)
        return [*zip(others.tolist(), self._both_new(near).tolist(), strict=True)]

    def _both_new(self, pairs: np.ndarray | slice) -> np.ndarray:
        """Return the probability that two encounters show one animal, and a new one."""
        new = np.minimum(self.new[self._one[pairs]], self.new[self._other[pairs]])
        return np.minimum(self._chances[pairs], new)

    def most_alike(self, pair: int) -> tuple[int, int]:
        """Return the most alike encounters of the two groups of a pair.

        That of the smaller group, which would get another name, comes first.
        """
        near = self._near_of(int(self.component[self._one[pair]]))
        between = near.pairs[near.place == near.place[near.pairs == pair][0]]
        best = between[self._says[between].argmax()]
        ends = int(self._one[best]), int(self._other[best])
        return min(ends, ends[::-1], key=lambda both: self.size[self.component[both[0]]])

    def worth(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what a question about each encounter is worth `[E]`, a line-up, each pair `[P]`.

        Args:
            wanted: `[E]`, about which encounters.
        """
        chances = self._both_new(slice(None))
        size = self.size[self.component]
        smaller = np.minimum(size[self._one], size[self._other])
        asked = self._open & wanted[self._one] & wanted[self._other]
        return (
            *np.where(wanted, self._gain * size, 0),
            np.where(asked, np.minimum(chances, 1 - chances) * smaller, 0),
        )


class _Near(NamedTuple):
    """What pairs say of a group and others.

    Attributes:
        pairs: `[K]`, of encounters of it with those of others.
        place: `[K]`, the position among these.
        groups: `[G]`, the others.
        says: `[G]`, the logarithm of how much likelier each is the same animal than another.
        counts: `[G]`, pairs that can be compared.
    """

    pairs: np.ndarray
    place: np.ndarray
    groups: np.ndarray
    says: np.ndarray
    counts: np.ndarray


def _log(chances: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(chances, LEAST))


def _log_odds(chances: np.ndarray) -> np.ndarray:
    return _log(chances) - _log(1 - chances)


def _neighbours(pairs: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the numbers of each encounter's pairs."""
    ends = pairs.ravel()
    order = np.argsort(ends, kind="stable")
    return np.split(order // 2, np.searchsorted(ends[order], np.arange(1, count)))
