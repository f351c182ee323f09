"""What one reviewer has decided, and what is in doubt after it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from openanimals.identification.decisions.evidence import Decision
from openanimals.identification.matches import Match
from openanimals.identification.review.answers import SECOND_LOOK, About, Answer
from openanimals.identification.review.candidates import Candidates
from openanimals.identification.review.doubt import WORTH, Doubt


@dataclass
class Reviewer:
    """The work of one reviewer.

    Attributes:
        doubt: what is in doubt.
        answers: in order, undone ones too.
        said: the last answer that holds to each pair.
        alone: decisions about one photograph alone, by its name.
    """

    doubt: Doubt
    answers: list[Answer] = field(default_factory=list)
    said: dict[tuple[int | None, About], Answer] = field(default_factory=dict)
    alone: dict[str, list[Decision]] = field(default_factory=lambda: defaultdict(list))

    def take(self, answers: list[Answer], alone: Mapping[str, list[Decision]]) -> None:
        """Take in what came since."""
        hold = [each for each in answers if each.holds and each.encounter is not None]
        self.answers += answers
        self.said |= {each.pair: each for each in hold}
        self.doubt.take(hold)
        for name, decisions in alone.items():
            self.alone[name] += decisions

    def worth(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what each question is worth, see :meth:`Doubt.worth`, but for what was skipped.

        Args:
            wanted: bool `[E]`, about which encounters.
        """
        wanted = wanted.copy()
        wanted[[*self.doubt.put_off]] = False
        return self.doubt.worth(wanted)

    def left(self, wanted: np.ndarray, pairs: np.ndarray) -> int:
        """Return about how many encounters something is worth asking.

        Args:
            wanted: bool `[E]`, which of them count.
            pairs: `[P, 2]`, of encounters that may show one animal.
        """
        worth, of_lineups, of_pairs = self.worth(wanted)
        left = np.maximum(worth, of_lineups) >= WORTH
        left[pairs[of_pairs >= WORTH].ravel()] = True
        return int(left.sum())


def doubt_of(candidates: Candidates, matches: Sequence[Match]) -> Doubt:
    """Return what is in doubt before anything was answered."""
    return Doubt(
        np.nan_to_num(candidates.ranking.probability),
        np.nan_to_num(np.array([match.new for match in matches], dtype=np.float64)),
        np.array([len(match.annotations) for match in matches], dtype=np.int64),
        candidates.pairs,
        candidates.chances,
        candidates.share,
        candidates.views,
        candidates.columns,
    )


def kept_under(
    by: str,
    own: Reviewer,
    second: Reviewer,
    due: Answer | None,
    pair: tuple[int | None, About],
    answer: str,
) -> str:
    """Return the name that an answer is kept under, another one if it is of a second look.

    Args:
        by: the reviewer.
        own: what this one decided.
        second: what was decided in second looks.
        due: the answer that is due for one, if any.
        pair: what the answer is about.
        answer: of :data:`ANSWERS`.
    """
    if due is not None and pair in (due.pair, (due.encounter, None)):
        return by + SECOND_LOOK
    ends = [each for looks in (own, second) for each in looks.answers[-1:]]
    for last in sorted(ends, key=lambda each: each.numbers[-1])[-1:]:
        if last.holds and (last.pair, last.answer) == (pair, answer):
            return last.by  # sent twice, as nobody told the page that it was saved
    return by
