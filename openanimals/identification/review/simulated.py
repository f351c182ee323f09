"""A reviewer who is simulated: for measuring how much a way of asking costs, and what it misses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

RIGHT = 0.961  # of one person's decisions, as published; 400 of them an hour
OF_INCOMPARABLE = 0.73  # of the wrong ones
INCOMPARABLE = 0.1  # of the pairs that such a person was asked about; taken, not measured


@dataclass
class SimulatedReviewer:
    """Says same, different or incomparable of two encounters, and is wrong at times.

    Of pairs that can be compared 1.2 % of the answers are wrong (same for different, different for
    same), of those that cannot 28 % (same or different, by lot): 3.9 % where every tenth pair
    cannot be compared, and 73 % of that on these. Asked again, it may answer otherwise.

    Attributes:
        individual: who each encounter truly shows.
        viewpoints: from where each was seen; nothing: not known, so it can be compared with all.
        seed: of the errors.
        right: share of right answers, where every tenth pair cannot be compared.
        asked: how many answers were given.
        looked: how many candidates were looked at.
    """

    individual: Mapping[str, str]
    viewpoints: Mapping[str, Collection[str]] = field(default_factory=dict)
    seed: int = 0
    right: float = RIGHT
    asked: int = 0
    looked: int = 0

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)

    def comparable(self, first: str, second: str) -> bool:
        """Tell whether two encounters were seen from a common viewpoint."""
        one, other = (set(self.viewpoints.get(name, ())) for name in (first, second))
        return not one or not other or bool(one & other)

    def __call__(self, first: str, second: str) -> str:
        """Return ``same``, ``different`` or ``incomparable``."""
        self.asked += 1
        self.looked += 1
        can = self.comparable(first, second)
        share, among = (
            (1 - OF_INCOMPARABLE, 1 - INCOMPARABLE) if can else (OF_INCOMPARABLE, INCOMPARABLE)
        )
        wrong = self._draw.random() < (1 - self.right) * share / among
        if not can:
            return ["same", "different"][self._draw.integers(2)] if wrong else "incomparable"
        same = self.individual[first] == self.individual[second]
        return "same" if same != wrong else "different"

    def confirmed(self, first: str, second: str, probability: float) -> str:
        """Answer, and again if the answer is less likely than its opposite, until two agree."""
        said: list[str] = []
        while True:
            said.append(self(first, second))
            likely = {"same": probability, "different": 1 - probability}.get(said[-1], 1.0)
            if likely >= 0.5 or said.count(said[-1]) == 2:
                return said[-1]

    def of_lineup(self, first: str, others: Sequence[str]) -> list[str]:
        """Return what is thought of each of a line-up until one seems the same, as one answer."""
        before, said = self.asked, list[str]()
        for other in others:
            said.append(self(first, other))
            if said[-1] == "same":
                break
        self.asked = before + 1
        return said
