"""From scores of pairs of photographs to the probability that both show the same animal.

Scores of different matchers have different scales; as probabilities they can be averaged (Cermak et
al., "WildFusion: individual animal identification with calibrated similarity fusion", 2024, arXiv
2408.12934).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from openanimals.utils.errors import UserError
from openanimals.utils.registry import check_name

KINDS = "isotonic", "logistic"
LEAST = 10  # pairs of one individual, and of two, that a calibration can be learnt from
FOLDS = 5
SURE = 1e-6  # no pair's probability is nearer to 0 or 1


class CalibrationError(UserError):
    """There are too few pairs to calibrate by."""


@dataclass(frozen=True)
class Calibration:
    """A rising function from scores to probabilities: straight lines between points.

    Attributes:
        scores: `[P]`, ascending; large where photographs are alike.
        logits: `[P]`, logarithms of the odds at these scores, ascending.
        beyond: whether the lines at the ends go on, as those of a logistic function do.
    """

    scores: tuple[float, ...]
    logits: tuple[float, ...]
    beyond: bool = False

    @classmethod
    def fit(cls, scores: np.ndarray, same: np.ndarray, kind: str = "isotonic") -> "Calibration":
        """Learn from pairs.

        Args:
            scores: `[N]`, large where photographs are alike.
            same: `[N]`, whether a pair shows one animal.
            kind: ``"isotonic"`` (any rising function; its steps are joined by lines, so that unlike
                scores seldom become equal) or ``"logistic"`` (a line from scores to logits).

        Raises:
            CalibrationError: there are fewer than ten pairs of one animal, or of two.
        """
        check_name("the kind of a calibration", kind, KINDS)
        scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
        _check(same)
        if kind == "logistic":
            from sklearn.linear_model import LogisticRegression

            centre, spread = scores.mean(), scores.std() or 1.0
            model = LogisticRegression(C=1e6).fit((scores[:, None] - centre) / spread, same)
            slope = max(model.coef_.item(), 0) / spread
            ends = np.array([scores.min(), scores.max() + 1e-9])
            logits = model.intercept_.item() + slope * (ends - centre)
            return cls(tuple(ends.tolist()), tuple(logits.tolist()), beyond=True)
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(out_of_bounds="clip").fit(scores, same)
        steps = pd.DataFrame({"score": scores, "value": model.predict(scores)})
        steps = steps.groupby("value", as_index=False)["score"].mean()  # the centre of each step
        values = np.clip(steps["value"], SURE, 1 - SURE)
        return cls(tuple(steps["score"]), tuple(np.log(values / (1 - values))))

    def logit(self, scores: np.ndarray) -> np.ndarray:
        """Return the logarithms of the odds that pairs show one animal, of any shape."""
        scores = np.asarray(scores, np.float64)
        logits = np.interp(scores, self.scores, self.logits)
        if self.beyond:
            (first, last), (low, high) = self.scores, self.logits
            logits = low + (scores - first) * (high - low) / (last - first)
        limit = np.log((1 - SURE) / SURE)
        return np.clip(logits, -limit, limit)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability that pairs show one animal, of any shape."""
        return expit(self.logit(scores))


@dataclass(frozen=True)
class Fusion:
    """The probability by several matchers together.

    Attributes:
        parts: the calibration of each matcher, by its name.
        weights: of each part's logit, and last a constant; empty: the mean of the probabilities.
    """

    parts: Mapping[str, Calibration]
    weights: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        scores: Mapping[str, np.ndarray],
        same: np.ndarray,
        individuals: Sequence[tuple[Any, Any]],
        *,
        kind: str = "isotonic",
        how: str = "logistic",
    ) -> "Fusion":
        """Learn from the scores `[N]` of each matcher for the same pairs.

        Args:
            scores: by the name of the matcher.
            same: `[N]`, whether a pair shows one animal.
            individuals: `[N]`, the two individuals of each pair, which folds keep together.
            kind: see :meth:`Calibration.fit`.
            how: ``"mean"`` of probabilities, or ``"logistic"``: a logistic function of the logits,
                learnt from pairs of individuals that the calibrations behind these never saw.

        Raises:
            CalibrationError: there are too few pairs.
        """
        check_name("the way to fuse", how, ("mean", "logistic"))
        parts = {name: Calibration.fit(values, same, kind) for name, values in scores.items()}
        if how == "mean":
            return cls(parts)
        from sklearn.linear_model import LogisticRegression

        logits, seen = np.zeros((len(same), len(scores))), np.zeros(len(same), bool)
        for learn, judge in folds(individuals):
            for column, values in enumerate(scores.values()):
                calibration = Calibration.fit(values[learn], same[learn], kind)
                logits[judge, column] = calibration.logit(values[judge])
            seen |= judge
        model = LogisticRegression(C=1e6).fit(logits[seen], same[seen])
        weights = np.append(np.maximum(model.coef_[0], 0), model.intercept_)
        return cls(parts, tuple(weights.tolist()))

    def __call__(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probability that pairs show one animal, of the shape of the scores."""
        if not self.weights:
            return np.mean([part(scores[name]) for name, part in self.parts.items()], axis=0)
        logits = [part.logit(scores[name]) for name, part in self.parts.items()]
        return expit(np.tensordot(self.weights[:-1], np.stack(logits), 1) + self.weights[-1])


def folds(
    individuals: Sequence[tuple[Any, Any]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield masks `[N]` of the pairs to learn from and to judge, which share no individual.

    Args:
        individuals: the two individuals of each pair `[N]`; a fold judges those whose first one is
            of it, and learns from those of which neither is.
    """
    codes, names = pd.factorize(np.asarray(individuals, dtype=object).reshape(-1))
    order = np.random.default_rng(0).permutation(len(names))
    own = (order % FOLDS)[codes].reshape(-1, 2)
    for fold in range(FOLDS):
        yield (own != fold).all(axis=1), own[:, 0] == fold


def reliability(probabilities: np.ndarray, same: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Return, for each range of probabilities that has pairs, how many show one animal.

    Returns:
        Columns from, to, pairs, said (mean probability), true (share of pairs of one animal).
    """
    number = np.clip((np.asarray(probabilities) * bins).astype(int), 0, bins - 1)
    table = pd.DataFrame({"bin": number, "said": probabilities, "true": np.asarray(same, float)})
    rows = table.groupby("bin").agg(
        pairs=("true", "size"), said=("said", "mean"), true=("true", "mean")
    )
    rows.insert(0, "from", rows.index / bins)
    rows.insert(1, "to", (rows.index + 1) / bins)
    return rows.reset_index(drop=True)


def _check(same: np.ndarray) -> None:
    one, two = int(same.sum()), int((~same).sum())
    if min(one, two) < LEAST:
        raise CalibrationError(
            f"{one} pairs of one individual and {two} of two are too few to calibrate by; expected "
            f"at least {LEAST} of each"
        )
