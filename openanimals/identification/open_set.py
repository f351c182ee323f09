"""Who is it, or is it new: probabilities that sum to one, and when a name is given.

An encounter shows one of the N individuals of a catalogue, or a new one. Before anything is seen
the catalogue's share is ``known``, and each individual's share of that 1/N. What is seen multiplies
the odds of individual k by ``exp(w . x_k + c)``: a multinomial logit with "new" as the alternative
that nothing speaks for or against. x_k is, by each matcher, the score s_k of encounter and
individual, and how far it stands out, ``(s_k - m) / d`` with the mean and the deviation of the
encounter's scores with all other individuals. So a match must be the better the larger the
catalogue is; and what cannot be compared (the other flank) stays as likely as it was. The weights
are learnt from encounters of the catalogue itself: once with the individual's other encounters in
it (the name is right), once without that individual (it is new), in catalogues of several sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openanimals.identification.pooling import standing_out
from openanimals.utils.errors import UserError

FEWEST = 10  # encounters whose individual has another one: fewer teach nothing
FOLDS = 5
SIZES = (1.0, 0.5, 0.25)  # shares of the individuals, in catalogues to learn from
SMALLEST = 4  # individuals of such a catalogue
PENALTY = 1e-3  # on the weights of evidence in units of its spread; keeps separable data finite


class OpenSetError(UserError):
    """There is too little to learn from who is new."""


@dataclass(frozen=True)
class Asked:
    """Encounters, and how alike each is to each individual of a catalogue.

    Attributes:
        scores: `[E, I, M]` by M matchers, large where alike; NaN where nothing can be compared.
        truth: `[E]`, the position of the individual that it is; I: a new one.
        own: `[E]`, a number for whom each shows, also of new ones.
    """

    scores: np.ndarray
    truth: np.ndarray
    own: np.ndarray

    def select(self, rows: np.ndarray) -> "Asked":
        """Return some encounters."""
        return Asked(self.scores[rows], self.truth[rows], self.own[rows])

    def among(self, columns: np.ndarray) -> "Asked":
        """Return those encounters for which a catalogue of fewer individuals is a fair question.

        The individual of a known one must be in it; that of a new one is in none.
        """
        place = np.full(self.scores.shape[1] + 1, -1)
        place[columns], place[-1] = np.arange(len(columns)), len(columns)
        rows = np.flatnonzero(place[self.truth] >= 0)
        return Asked(self.scores[rows][:, columns], place[self.truth[rows]], self.own[rows])


@dataclass(frozen=True)
class OpenSet:
    """How much each measure of evidence counts.

    Attributes:
        weights: `[2 M]`, of the scores and of how far they stand out, none below 0.
        constant: added for each individual.
    """

    weights: tuple[float, ...]
    constant: float

    def __call__(self, scores: np.ndarray, known: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each individual `[E, I]`, and of a new one `[E]`.

        Args:
            scores: see :class:`Asked`.
            known: the share of known individuals among those asked about, between 0 and 1.
        """
        weights = np.array([*self.weights, self.constant])
        evidence = _evidence(scores)
        there = ~np.isnan(evidence).any(axis=2)
        logs = _log_probabilities(weights, np.nan_to_num(evidence), there, known)
        probabilities = np.exp(logs)
        return probabilities[:, :-1], probabilities[:, -1]

    @classmethod
    def fit(cls, asked: Sequence[Asked], known: float = 0.5, fewest: int = FEWEST) -> "OpenSet":
        """Learn by maximum likelihood.

        Args:
            asked: sets of encounters, all of known individuals or all of new ones, which together
                count as ``known`` says.
            known: the share of known individuals among those that will be asked about.
            fewest: encounters that each set must have.

        Raises:
            OpenSetError: there are fewer in one of the sets.
        """
        from scipy.optimize import minimize

        if min(len(each.truth) for each in asked) < fewest:
            raise OpenSetError(
                f"{min(len(each.truth) for each in asked)} encounters of individuals that were met "
                f"again are too few to tell how sure a name is; expected at least {fewest}"
            )
        sets = [(_evidence(each.scores), each.truth) for each in _of_several_sizes(asked)]
        measures = sets[0][0].shape[2]
        values = np.concatenate([evidence.reshape(-1, measures) for evidence, _ in sets])
        centre, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-12
        there = [~np.isnan(evidence).any(axis=2) for evidence, _ in sets]
        sets = [(np.nan_to_num((evidence - centre) / spread), truth) for evidence, truth in sets]
        stranger = [bool((truth == evidence.shape[1]).all()) for evidence, truth in sets]
        shares = np.where(stranger, 1 - known, known)
        shares /= shares.sum()

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            total, slope = PENALTY * (weights[:-1] ** 2).sum(), 2 * PENALTY * weights
            slope[-1] = 0
            for (evidence, truth), can, share in zip(sets, there, shares, strict=True):
                logs = _log_probabilities(weights, evidence, can, known)
                rows = np.arange(len(logs))
                total -= share * logs[rows, truth].mean()
                # The slope of a multinomial logit: what is expected minus what is true.
                off = np.exp(logs)
                off[rows, truth] -= 1
                off = off[:, :-1] * (share / len(logs))
                off *= can
                slope[:-1] += np.tensordot(off, evidence)
                slope[-1] += off.sum()
            return total, slope

        start = np.append(np.ones(measures), -1.0)
        bounds = [(0, None)] * measures + [(None, None)]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
        weights = found[:-1] / spread
        return cls(tuple(weights.tolist()), float(found[-1] - weights @ centre))


def _of_several_sizes(asked: Sequence[Asked]) -> list[Asked]:
    """Return the sets, and the same with parts of the individuals, drawn by lot."""
    individuals = asked[0].scores.shape[1]
    found = []
    for share in SIZES:
        size = round(share * individuals)
        if share < 1 and size < SMALLEST:
            continue
        columns = np.sort(np.random.default_rng(0).permutation(individuals)[:size])
        parts = [each.among(columns) for each in asked]
        if min(len(part.truth) for part in parts):
            found += parts
    return found


def _evidence(scores: np.ndarray) -> np.ndarray:
    """Return the scores, and how far each stands out from those with all others `[E, I, 2 M]`."""
    return np.concatenate([scores, standing_out(scores)], axis=2)


def _log_probabilities(
    weights: np.ndarray, evidence: np.ndarray, there: np.ndarray, known: float
) -> np.ndarray:
    """Return logarithms `[E, I + 1]`; the last one is of a new individual.

    Args:
        weights: `[F + 1]`, the constant last.
        evidence: `[E, I, F]`, finite.
        there: `[E, I]`, whether it counts.
        known: see :class:`OpenSet`.
    """
    individuals = evidence.shape[1]
    logs = np.empty((len(evidence), individuals + 1))
    logs[:, :-1] = (evidence @ weights[:-1] + weights[-1]) * there
    logs[:, :-1] += np.log(known / max(individuals, 1))
    logs[:, -1] = np.log(1 - known)
    logs -= logs.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return logs


def left_out(asked: Sequence[Asked], known: float = 0.5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return probabilities of each set by weights that were learnt without that individual."""
    owners = np.unique(asked[0].own)
    if len(owners) < 2:
        raise OpenSetError("all encounters to learn from are of one individual")
    owners = np.unique(np.concatenate([each.own for each in asked]))
    fold = np.random.default_rng(0).permutation(len(owners)) % min(FOLDS, len(owners))
    of = [fold[np.searchsorted(owners, each.own)] for each in asked]
    shape = asked[0].scores.shape[1]
    found = [(np.zeros((len(each.own), shape)), np.zeros(len(each.own))) for each in asked]
    for number in range(fold.max() + 1):
        learnt = OpenSet.fit(
            [each.select(own != number) for each, own in zip(asked, of, strict=True)], known, 1
        )
        for (named, new), each, own in zip(found, asked, of, strict=True):
            rows = own == number
            named[rows], new[rows] = learnt(each.scores[rows], known)
    return found


@dataclass(frozen=True)
class Threshold:
    """From which probability on something is decided.

    Attributes:
        probability: at least this; above 1: never.
        wrong: the share of all encounters that is decided wrongly, measured on those left out.
        right: the share of those that should be decided so and are.
    """

    probability: float
    wrong: float
    right: float


def threshold(
    sure: np.ndarray, right: np.ndarray, weights: np.ndarray, due: np.ndarray, rate: float
) -> Threshold:
    """Return the lowest probability at which not more than a rate of encounters is decided wrongly.

    Both what was counted and what the probabilities themselves expect must be within the rate.

    Args:
        sure: `[E]`, the probability of the best answer of each; 0 where it is not to be decided.
        right: `[E]`, whether that is true.
        weights: `[E]`, how much each counts.
        due: `[E]`, whether there is a true answer of this kind.
        rate: of all encounters, such as 0.01.
    """
    order = np.argsort(-sure, kind="stable")
    sure, right, due = sure[order], right[order], due[order]
    weights = weights[order] / weights.sum()
    counted, expected = np.cumsum(weights * ~right), np.cumsum(weights * (1 - sure))
    good = np.maximum(counted, expected) <= rate
    # A tie is decided alike, so only its last one may be where it ends.
    good &= np.append(sure[1:] < sure[:-1], True) & (sure > 0)
    if not good.any():
        return Threshold(2.0, 0.0, 0.0)
    last = int(np.flatnonzero(good)[-1])
    reached = float((weights * right)[: last + 1].sum() / max((weights * due).sum(), 1e-12))
    return Threshold(float(sure[last]), float(counted[last]), reached)
