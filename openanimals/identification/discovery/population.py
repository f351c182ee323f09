"""How many individuals there are, with an interval, from a sample of pairs that a person looks at.

An encounter of an individual that has d of the N encounters stands for 1/d of an individual, so
the number of individuals is N times the mean of 1/d. Encounters are drawn by lot, and the others of
each one's animal are looked for, the likeliest first, until hardly any can be left; what is found
helps to find more (after the nested importance sampling of Perez, Sheldon, Van Horn and Maji,
"Human-in-the-loop visual re-ID for population size estimation", ECCV 2024, which draws the others
by lot, too: 1/d is then far too large on average where d is small and few are drawn).

Those not looked at are left in doubt by their probabilities. They may come together, all or none:
an encounter that looks like no other of its animal misses the whole of it. How much they do is
learnt from named animals. This doubt is part of the interval, which for its sake is not narrower
where much of the population was drawn.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from openanimals.identification.discovery.pair_evidence import Expected

LEVEL = 0.95  # of the interval
ENCOUNTERS = 60  # that are drawn
LEAST = 0.005  # probability of the likeliest one at which no more are looked at,
MOST = 20  # as when so many were
CLUMPED = np.linspace(0, 2, 41)  # of these one is learnt
Ask = Callable[[int, int], bool | None]


@dataclass(frozen=True)
class Population:
    """A number of individuals.

    Attributes:
        number: estimated.
        low: of the interval of :data:`LEVEL`.
        high: of it.
        encounters: that were drawn.
        asked: pairs of which it was known whether they show one animal.
        pending: positions of pairs that have to be looked at first, one an encounter. Until there
            are none the number rests on probabilities.
    """

    number: float
    low: float
    high: float
    encounters: int
    asked: int
    pending: Sequence[tuple[int, int]]

    def __str__(self) -> str:
        return (
            f"{self.number:.0f} individuals, 95 % interval {self.low:.0f} to {self.high:.0f} (from "
            f"{self.asked} pairs that were looked at, of {self.encounters} encounters)"
        )


def estimate_population(
    evidence: np.ndarray,
    expected: Expected,
    ask: Ask,
    *,
    clumped: float = 1.0,
    encounters: int = ENCOUNTERS,
    seed: int = 0,
) -> Population:
    """Estimate the number of individuals from decisions about a sample of pairs.

    Args:
        evidence: `[N, N]`, the logarithm of how much likelier two encounters are with one animal
            than with two, NaN where nothing can be compared. All must have been seen from one
            viewpoint, or from both: flanks that never meet would count twice.
        expected: of the encounters, see :func:`.expect`.
        ask: given two positions, says whether they show one animal; None: not known yet.
        clumped: see :func:`learn_clumped`.
        encounters: that are drawn.
        seed: of the draw.
    """
    from scipy.stats import t

    count = len(evidence)
    drawn = np.random.default_rng(seed).permutation(count)[:encounters].tolist()
    parts, doubts = np.ones(len(drawn)), np.zeros(len(drawn))
    asked, pending = 0, list[tuple[int, int]]()
    for place, one in enumerate(drawn):
        found = _others(evidence, expected.against, ask, one)
        parts[place], doubts[place] = _part(found, expected, clumped)
        asked += found.asked
        if found.pending is not None:
            pending.append((one, found.pending))
    number, reach = count * float(parts.mean()), float(count)
    if len(parts) > 1:
        # Where all parts are alike, one more encounter might have been of another kind.
        spread = np.append(parts, 0.5).var(ddof=1)
        variance = spread / len(parts) + doubts.sum() / len(parts) ** 2
        reach = float(t.ppf(0.5 + LEVEL / 2, len(parts) - 1)) * count * float(np.sqrt(variance))
    low, high = max(number - reach, 1.0), min(number + reach, float(count))
    return Population(number, low, high, len(drawn), asked, pending)


@dataclass
class _Found:
    size: int
    rest: np.ndarray
    asked: int
    pending: int | None = None


def _others(evidence: np.ndarray, against: float, ask: Ask, one: int) -> _Found:
    """Look for the other encounters of one's animal.

    Returns:
        How many there are with it; the probabilities of those not looked at; how many were.
    """
    seen = {one}
    there = ~np.isnan(evidence[one])
    total = np.nan_to_num(evidence[one])
    found = _Found(1, np.zeros(0), 0)
    while True:
        # All that was found speaks together; what was to be expected counts once.
        chances = expit(total - against) * there
        chances[[*seen]] = 0
        found.rest = chances
        best = int(chances.argmax())
        if chances[best] < LEAST or found.asked >= MOST:
            return found
        same = ask(one, best)
        if same is None:
            found.pending = best
            return found
        found.asked += 1
        seen.add(best)
        if same:
            found.size += 1
            total = total + np.nan_to_num(evidence[best])
            there |= ~np.isnan(evidence[best])


def _part(found: _Found, expected: Expected, clumped: float) -> tuple[float, float]:
    """Return what an encounter is of an individual, 1/d on average, and the variance of that."""
    left = float(found.rest.sum())
    together = max(left, clumped * (expected.partners + 1 - found.size), 1.0)
    missed = left / together
    all_, more = 1 / found.size, 1 / (found.size + together)
    return (1 - missed) * all_ + missed * more, missed * (1 - missed) * (all_ - more) ** 2


def learn_clumped(evidence: np.ndarray, expected: Expected, individuals: np.ndarray) -> float:
    """Learn how much of what is missed comes together, so that the number of named ones is right.

    Args:
        evidence: `[E, E]`, see :func:`estimate_population`.
        expected: of the encounters.
        individuals: `[E]`, whom each shows.

    Returns:
        A share of the others that are still expected; 0: one by one.
    """
    same = individuals[:, None] == individuals
    found = [
        _others(evidence, expected.against, lambda i, j: bool(same[i, j]), one)
        for one in range(len(individuals))
    ]
    number = len(np.unique(individuals))
    return float(
        min(
            CLUMPED,
            key=lambda share: abs(sum(_part(each, expected, share)[0] for each in found) - number),
        )
    )


def wrong_names_left(named: Iterable[tuple[float, bool]]) -> float:
    """Return how many wrong names are expected among those that were given.

    Args:
        named: of each encounter with a name the probability that it is right, and whether a person
            has confirmed it.
    """
    return sum(1 - probability for probability, confirmed in named if not confirmed)
