"""How many decisions it takes until 95 % of photographs have the right name.

python tools/review_effort.py holstein.csv --individuals 40

A simulated reviewer answers what ``openanimals review`` would ask (that it is none of a line-up is
one decision, and so is to look at one of it), and, for comparison, goes down
ranked lists: of each encounter in order the likeliest candidates, among them the new animals met
before, until one is the same; if none of the first (--candidates; 0: all) is, it is new. What is
not decided has the name that is likeliest by then; new animals are grouped as ``discover`` does,
with all decisions kept. A group has the right name if most of it is one animal, and is the largest
group of that. --sure: a reviewer who is never wrong, to tell errors from effort.

--coverage: instead, how often the interval of the number of individuals holds it, in 100 surveys.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from identification_table import read_thinned
from openanimals.engine.matchers import CatalogueImages
from openanimals.identification.build import build_matchers
from openanimals.identification.catalogue_file import annotation_ids, as_catalogue
from openanimals.identification.decisions.evidence import Evidence
from openanimals.identification.discovery.discover import (
    Discovery,
    discover,
    learnt,
    score_pairs,
    units_of,
)
from openanimals.identification.discovery.grouping import group
from openanimals.identification.discovery.pair_evidence import (
    expect,
    pair_probabilities,
    pair_weights,
)
from openanimals.identification.discovery.population import estimate_population
from openanimals.identification.evaluation import divide
from openanimals.identification.identify import Identifier
from openanimals.identification.learning import Settings
from openanimals.identification.listing import Listing
from openanimals.identification.matches import Matches
from openanimals.identification.pooling import Photos
from openanimals.identification.review.questions import Questions
from openanimals.identification.review.simulated import RIGHT, SimulatedReviewer

ENOUGH = 0.9, 0.95
EVERY = 5  # decisions, between two looks at the names
BY = "simulated"


class Survey:
    """A catalogue, encounters to identify, and what the program makes of them.

    Attributes:
        found: matches and ranking.
        groups: of the same encounters.
        truth: of each encounter.
        table: all photographs, those to be identified without a name.
    """

    def __init__(self, listing: Listing, matchers: dict, individuals: int, seed: int) -> None:
        settings = Settings()
        known, asked = divide(listing.table, individuals, settings, seed)
        table = listing.table.copy()
        own = dict(zip(annotation_ids(table), table["identity"], strict=True))
        table["identity"] = table["identity"].where(~asked, None)
        self.table = table[known | asked].reset_index(drop=True)
        both = Listing(self.table, listing.root)
        self.found: Matches = Identifier(both, matchers, settings).identify(both.unknown())
        matches = self.found.matches
        called = {name: each.encounter for each in matches for name in each.annotations}
        self.groups: Discovery = discover(both, matchers, settings, called=called)
        self.truth = [own[each.annotations[0]] for each in matches]
        assert self.found.ranking is not None
        self.names = [*self.found.ranking.names]
        self.sizes = np.array([len(each.annotations) for each in matches])
        place = {name: n for n, each in enumerate(matches) for name in each.annotations}
        order = np.argsort([place[each.annotations[0]] for each in self.groups.unknown()])
        likeness = self.groups.likeness[np.ix_(order, order)].astype(np.float64)
        self.weights = pair_weights(likeness, self.groups.expected)
        self.chances = pair_probabilities(likeness, self.groups.expected)

    def reviewer(self, seed: int, right: float) -> SimulatedReviewer:
        """Return one who knows encounters by their position, individuals by ``=`` and a name."""
        views: dict[str, set[str]] = {}
        for name, view in zip(self.table["identity"], self.table["viewpoint"], strict=True):
            views.setdefault(f"={name}", set()).update({view} - {None})
        for n, match in enumerate(self.found.matches):
            views[str(n)] = {view for view in match.viewpoints if view}
        who = {str(n): own for n, own in enumerate(self.truth)}
        return SimulatedReviewer(
            who | {f"={name}": name for name in self.names}, views, seed, right=right
        )

    def share_right(
        self, names: list[str | None], components: np.ndarray, apart: list[tuple[int, int]]
    ) -> float:
        """Return the share of photographs with the right name.

        Args:
            names: of encounters, None: a new animal.
            components: equal where two were said to be the same.
            apart: pairs that were said to be different.
        """
        new = np.flatnonzero([name is None for name in names])
        place = {int(n): k for k, n in enumerate(new)}
        forbidden = np.zeros((len(new), len(new)), bool)
        for one, other in apart:
            if one in place and other in place and components[one] != components[other]:
                forbidden[place[one], place[other]] = forbidden[place[other], place[one]] = True
        own = components[new]
        clash = (own[:, None] == own) & forbidden
        groups = group(self.weights[np.ix_(new, new)], own, forbidden & ~clash) if len(new) else []
        labels: list[str | int] = [str(name) for name in names]
        for n, number in zip(new, groups, strict=True):
            labels[n] = int(number)
        counts: Counter = Counter()
        for label, truth, size in zip(labels, self.truth, self.sizes, strict=True):
            counts[label, truth] += size
        # Most of a group first: each group is one animal, each animal of nobody known one group.
        right, taken = 0, set[str]()
        met: set[str | int] = set()
        for (label, truth), count in counts.most_common():
            if isinstance(label, str):
                right += count if label == truth else 0
            elif label not in met and truth not in taken and truth not in self.names:
                right += count
                met.add(label)
                taken.add(truth)
        return right / self.sizes.sum()


def worded(reviewer: SimulatedReviewer) -> str:
    """Return how many decisions there were, and candidates looked at if these are more."""
    looked = f" ({reviewer.looked} looked at)" if reviewer.looked > reviewer.asked else ""
    return f"{reviewer.asked}{looked}"


def by_questions(survey: Survey, reviewer: SimulatedReviewer) -> Iterator[tuple[str, float]]:
    """Give the decisions and looks so far, in words, and the share of right names, at times."""
    apart = list[tuple[int, int]]()
    groups = {"pairs": survey.groups.pairs, "share expected": survey.groups.expected.share}
    with tempfile.TemporaryDirectory() as folder, Evidence(Path(folder) / "decisions") as evidence:
        # Not on the disk after each decision: nothing is lost here.
        evidence._connection.execute("PRAGMA synchronous = OFF")
        questions = Questions(
            survey.found, survey.found.ranking, groups, survey.table, evidence, every=0
        )
        look = 0
        while True:
            if reviewer.asked >= look:
                look = reviewer.asked + EVERY
                doubt = questions._own(BY).doubt
                chances, new = doubt.probabilities(np.arange(len(survey.truth)))
                said = doubt.said[doubt.component]
                best = np.where(chances.max(axis=1) > new, chances.argmax(axis=1), -2)
                who = np.where(said == -1, best, said)
                names = [survey.names[n] if n >= 0 else None for n in who]
                yield worded(reviewer), survey.share_right(names, doubt.component, apart)
            asked = questions.next(BY)
            if asked is None:
                return
            one = questions.candidates.position(asked.encounter.encounter)
            choice, answer = asked.choice, ""
            if asked.lineup:
                shown = [f"={each.individual}" for each in asked.lineup]
                said = reviewer.of_lineup(str(one), shown)
                if "same" not in said and sum(each.probability for each in asked.lineup) > 0.5:
                    said = reviewer.of_lineup(str(one), shown)
                if "same" not in said:
                    questions.none_of(asked.encounter.encounter, asked.lineup, BY)
                    continue
                choice = asked.lineup[len(said) - 1]
                answer = reviewer(str(one), f"={choice.individual}")
            if choice.individual is not None:
                other = f"={choice.individual}"
            else:
                other = str(questions.candidates.position(choice.encounter))
            # As on the page, which asks again where an answer is unlikely.
            answer = answer or reviewer.confirmed(str(one), other, choice.probability)
            if answer == "different" and choice.individual is None:
                apart.append((one, int(other)))
            questions.answer(asked.encounter.encounter, choice, answer, BY)


def down_lists(
    survey: Survey, reviewer: SimulatedReviewer, candidates: int
) -> Iterator[tuple[str, float]]:
    """Give the same for ranked lists."""
    apart = list[tuple[int, int]]()
    ranking = survey.found.ranking
    assert ranking is not None
    chances = np.asarray(ranking.probability)
    new = np.array([match.new for match in survey.found.matches])
    names = [
        survey.names[k] if chances[n, k] > new[n] else None
        for n, k in enumerate(chances.argmax(axis=1))
    ]
    components = np.arange(len(names))
    strangers: list[int] = []
    yield worded(reviewer), survey.share_right(names, components, apart)
    for one in range(len(names)):
        listed = [(float(chances[one, k]), f"={name}") for k, name in enumerate(survey.names)]
        listed += [(float(survey.chances[one, other]), str(other)) for other in strangers]
        for _, other in sorted(listed, reverse=True)[: candidates or None]:
            answer = reviewer(str(one), other)
            if answer == "same":
                if other.startswith("="):
                    names[one] = other[1:]
                else:
                    components[one], names[one] = components[int(other)], None
                break
            if answer == "different" and not other.startswith("="):
                apart.append((one, int(other)))
        else:
            names[one] = None
            strangers.append(one)
        yield worded(reviewer), survey.share_right(names, components, apart)


def coverage(listing: Listing, matchers: dict, surveys: int, sampled: int) -> str:
    """Return how often the interval holds the number of individuals.

    Half of the individuals teach; of the others four fifths are drawn by lot for each survey.
    """
    settings = Settings()
    names = np.random.default_rng(0).permutation(sorted(listing.table["identity"].unique()))
    scored = []
    for own in (names[::2], names[1::2]):
        table = listing.table[listing.table["identity"].isin(own)].reset_index(drop=True)
        units = units_of(table, settings)
        photos = Photos.of(matchers, CatalogueImages(as_catalogue(table, listing.root)))
        scores, _ = score_pairs(matchers, photos, units, np.ones(len(units.rows), bool))
        scored.append((scores, np.unique(units.individuals, return_inverse=True)[1]))
    return covered(scored, surveys, sampled)


def covered(scored: list[tuple[np.ndarray, np.ndarray]], surveys: int, sampled: int) -> str:
    """Return the same for scores `[E, E, M]` of the halves, and whom they show `[E]`."""
    models = [learnt(*each) for each in scored]
    held, ratios, widths, asked = 0, [], [], []
    for seed in range(surveys):
        scores, everyone = scored[seed % 2]
        model = models[1 - seed % 2]
        draw = np.random.default_rng(seed)
        count = int(everyone.max()) + 1
        some = np.flatnonzero(np.isin(everyone, draw.permutation(count)[: round(0.8 * count)]))
        own = everyone[some]
        evidence = model(scores[np.ix_(some, some)])
        expected = expect(evidence, model.partners, np.ones(len(own), bool))
        reviewer = SimulatedReviewer({str(n): str(who) for n, who in enumerate(own)}, seed=seed)

        def ask(i: int, j: int, e=evidence, a=expected.against, r=reviewer) -> bool:
            return r.confirmed(str(i), str(j), float(1 / (1 + np.exp(a - e[i, j])))) == "same"

        found = estimate_population(
            evidence, expected, ask, clumped=model.clumped, encounters=sampled, seed=seed
        )
        number = len(np.unique(own))
        held += found.low <= number <= found.high
        ratios.append(found.number / number)
        widths.append((found.high - found.low) / number)
        asked.append(reviewer.asked)
    return (
        f"{held} of {surveys} intervals hold the number; estimated / true {np.mean(ratios):.3f}, "
        f"width {np.mean(widths):.2f} of it, {np.mean(asked):.0f} decisions"
    )


def main() -> None:
    """Print what each way takes, or the coverage."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("catalogue", help="a CSV file, or the name of a data set")
    parser.add_argument("--root", type=Path, default=Path("datasets"), help="of data sets")
    parser.add_argument("--model")
    parser.add_argument("--matcher", default="local")
    parser.add_argument("--individuals", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=0)
    parser.add_argument("--sure", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--opts", nargs="*", default=[], help="KEY VALUE, of the model")
    options = parser.parse_args()
    listing = read_thinned(options.catalogue, options.root)
    place = Path(options.catalogue).absolute()
    matchers, _ = build_matchers(options.matcher, options.model, place, overrides=options.opts)
    if options.coverage:
        print(coverage(listing, matchers, 100, 60))
        return
    columns = ["seed", "encounters", "right at first"]
    for way in ("questions", "lists"):
        columns += [*(f"{way}: {100 * each:.0f} % by" for each in ENOUGH), f"{way}: at the end"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for seed in range(options.seeds):
        survey = Survey(listing, matchers, options.individuals, seed)
        right = 1.0 if options.sure else RIGHT
        asked, listed = survey.reviewer(seed, right), survey.reviewer(seed, right)
        cells = list[str]()
        for shares in (
            [*by_questions(survey, asked)],
            [*down_lists(survey, listed, options.candidates)],
        ):
            for enough in ENOUGH:
                cells.append(next((said for said, share in shares if share >= enough), "never"))
            cells.append(f"{shares[-1][1]:.3f} after {shares[-1][0]}")
            first = shares[0][1]
        cells = [str(seed), str(len(survey.truth)), f"{first:.3f}", *cells]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
