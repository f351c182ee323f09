"""What the likeness of two encounters says: do they show one animal?

Measures of two encounters are, by each matcher, their score and how far it stands out from their
scores with all others; both directions are averaged, and both are on a scale on which large values
count less and less (inverse hyperbolic sine), as twice the spots do not make a match twice as sure.
A logistic regression on pairs of encounters of named animals gives from these the logarithm of how
much likelier they are with one animal than with two. How many such pairs are to be expected is
another matter: among more encounters of more animals a smaller share. This is estimated anew from
the encounters in question (expectation-maximisation: Saerens, Latinne and Decaestecker, 2002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from openanimals.identification.pooling import standing_out
from openanimals.utils.errors import UserError

FEWEST = 20  # pairs of one animal, and of two, to learn from
ROUNDS = 1000  # of expectation and maximisation, at most
SETTLED = 1e-6  # a change of the share at which these end
RARE = 1e-3  # other encounters of one animal, on average: not less is ever expected
PENALTY = 1e-5  # on weights of measures in units of their spread; keeps separable pairs finite


@dataclass(frozen=True)
class PairEvidence:
    """How much each measure of two encounters counts.

    Attributes:
        centres: `[M]`, usual scores by each matcher.
        spreads: `[M]`, how far they are spread.
        weights: `[2 M]`, of the scores and of how far these stand out.
        constant: added to these.
        partners: others of its animal that an encounter had, on average, where it was learnt.
        clumped: how those that do not look alike come together, see :func:`.learn_clumped`.
    """

    centres: Sequence[float]
    spreads: Sequence[float]
    weights: Sequence[float]
    constant: float
    partners: float
    clumped: float = 1.0

    @classmethod
    def fit(cls, scores: np.ndarray, individuals: np.ndarray) -> "PairEvidence":
        """Learn from encounters of named animals.

        Args:
            scores: `[E, E, M]` of encounters with encounters, NaN where nothing can be compared.
            individuals: `[E]`, whom each shows.

        Raises:
            UserError: there are too few pairs of one animal, or of two.
        """
        from scipy.optimize import minimize

        one, other = np.triu_indices(len(scores), 1)
        same = individuals[one] == individuals[other]
        there = ~np.isnan(_both(scores)[one, other]).any(axis=1)
        counts = int((same & there).sum()), int((~same & there).sum())
        if min(counts) < FEWEST:
            raise UserError(
                f"{counts[0]} pairs of encounters of one animal and {counts[1]} of two can be "
                f"compared; to learn how sure a likeness is takes {FEWEST} of each. Add names to "
                "the catalogue, or --learn-from another one of this species; of a network that was "
                "trained on it only what was held out counts (--matcher local needs none)"
            )
        some = scores[np.isfinite(scores).all(axis=2)]
        low, centres, high = np.quantile(some, (0.05, 0.5, 0.95), axis=0)
        spreads = np.maximum(high - low, 1e-12)
        measures = _measures(scores, centres, spreads)[one, other][there]
        middle, width = measures.mean(axis=0), measures.std(axis=0) + 1e-12
        inputs, target = (measures - middle) / width, same[there].astype(np.float64)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            logits = inputs @ weights[:-1] + weights[-1]
            off = (expit(logits) - target) / len(target)
            slope = np.append(inputs.T @ off + 2 * PENALTY * weights[:-1], off.sum())
            value = np.mean(np.logaddexp(0, logits) - target * logits)
            return float(value + PENALTY * (weights[:-1] ** 2).sum()), slope

        odds = np.log(counts[0] / counts[1])
        start = np.append(np.zeros(len(middle)), odds)
        # What is more alike never speaks for two animals.
        bounds = [(0, None)] * len(middle) + [(None, None)]
        learnt = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
        weights = learnt[:-1] / width
        constant = float(learnt[-1] - weights @ middle - odds)
        partners = 2 * counts[0] / len(individuals)
        return cls(centres.tolist(), spreads.tolist(), weights.tolist(), constant, partners)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return logarithms of likelihood ratios `[E, E]`, above 0 for one animal.

        Args:
            scores: as :meth:`fit` takes them.

        Returns:
            Symmetric; NaN where nothing can be compared, and of an encounter with itself.
        """
        measures = _measures(scores, np.array(self.centres), np.array(self.spreads))
        found = measures @ np.array(self.weights) + self.constant
        np.fill_diagonal(found, np.nan)
        return found


def _both(values: np.ndarray) -> np.ndarray:
    """Return the mean of both directions `[E, E, M]`; of one, where the other is not there."""
    turned = values.transpose(1, 0, 2)
    some = np.where(np.isnan(values), turned, values)
    return (some + np.where(np.isnan(turned), values, turned)) / 2


def _measures(scores: np.ndarray, centres: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    plain = np.arcsinh((scores - centres) / spreads)
    return np.concatenate([_both(plain), np.arcsinh(_both(standing_out(scores)))], axis=2)


class Expected(NamedTuple):
    """What is expected of encounters before they are looked at.

    Attributes:
        share: of the pairs that can be compared, those that show one animal.
        partners: other encounters that show the animal of an encounter and can be compared with
            it, on average.
    """

    share: float
    partners: float

    @property
    def against(self) -> float:
        """The logarithm of the odds against two encounters showing one animal."""
        return float(np.log((1 - self.share) / self.share))


def expect(evidence: np.ndarray, start: float, asked: np.ndarray) -> Expected:
    """Estimate from the evidence itself what was to be expected.

    Args:
        evidence: `[E, E]`, logarithms of likelihood ratios, NaN where nothing can be compared.
        start: a first guess at the partners.
        asked: bool `[E]`, the encounters in question, whose others are counted.
    """
    values = evidence[asked]
    values = values[~np.isnan(values)]
    others = len(values) / max(int(asked.sum()), 1)
    least = RARE / max(others, 1.0)
    share = float(np.clip(start / max(others, 1.0), least, 0.5))
    for _ in range(ROUNDS if len(values) else 0):
        before = share
        share = float(np.mean(expit(values + np.log(share / (1 - share)))))
        share = float(np.clip(share, least, 0.5))
        if abs(share - before) < SETTLED * before:
            break
    return Expected(share, share * others)


def pair_probabilities(evidence: np.ndarray, expected: Expected) -> np.ndarray:
    """Return the probability `[E, E]` that two encounters show one animal, 0 where NaN."""
    return np.nan_to_num(expit(evidence - expected.against))


def pair_weights(evidence: np.ndarray, expected: Expected) -> np.ndarray:
    """Return what pairs say of groups: weights `[E, E]` for :func:`.group`.

    Before anything is seen, the odds are against two encounters showing one animal. An encounter
    joins an animal once, however many others show that animal too; so this counts once, spread
    over the pairs that it is expected to have there.

    Args:
        evidence: `[E, E]`, logarithms of likelihood ratios; where NaN the weight is 0.
        expected: as :func:`expect` gives it.
    """
    return np.nan_to_num(evidence - expected.against / max(expected.partners, 1.0))
