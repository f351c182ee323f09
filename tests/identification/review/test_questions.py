"""What reviewers are asked, and what their answers decide."""

import numpy as np
import pytest

from openanimals.identification.catalogue_file import as_table
from openanimals.identification.decisions.evidence import Evidence
from openanimals.identification.decisions.individuals import resolve_table
from openanimals.identification.matches import Match
from openanimals.identification.ranking import Ranking
from openanimals.identification.review.answers import LATER, SECOND_LOOK
from openanimals.identification.review.questions import EVERY, Questions
from openanimals.utils.errors import UserError
from tests.identification.test_matches import matches

NAMES = ("Kesi", "Mara", "Zuri")


class World:
    """A catalogue of individuals with two photographs each, and encounters to be named."""

    def __init__(self, folder, chances, photographs=None, pairs=(), names=NAMES):
        chances = np.asarray(chances, dtype=float)
        counts = photographs or [1] * len(chances)
        asked = {f"e{n}": [f"e{n}-{m}.jpg" for m in range(c)] for n, c in enumerate(counts)}
        known = {name: [f"{name}-0.jpg", f"{name}-1.jpg"] for name in names}
        self.table = as_table(
            [{"path": p, "identity": who} for who, own in known.items() for p in own]
            + [{"path": p} for own in asked.values() for p in own]
        )
        self.matches = matches(
            *(
                Match(name, (*own,), None, None, ("",) * len(own), "unsure", "", max(p), n, ())
                for (name, own), p, n in zip(
                    asked.items(), chances, 1 - chances.sum(axis=1), strict=True
                )
            )
        )
        shape = len(chances), len(names)
        # The second photograph of each individual is most like the last one of an encounter.
        self.ranking = Ranking(
            encounters=[*asked],
            names=[*names],
            photographs=[p for own in known.values() for p in own],
            probability=chances.astype(np.float32),
            photograph=np.tile(2 * np.arange(len(names)) + 1, (shape[0], 1)),
            query=np.tile(np.array(counts)[:, None] - 1, (1, shape[1])),
        )
        self.groups = {
            "encounters": [{"encounter": name} for name in reversed(asked)],
            "pairs": [
                [len(asked) - 1 - i, len(asked) - 1 - j, q, f"e{i}-0.jpg", f"e{j}-0.jpg"]
                for i, j, q in pairs
            ],
            "share expected": 0.1,
        }
        self.file = folder / "herd.csv.decisions.sqlite"
        self.evidence = Evidence(self.file)

    def questions(self, **options):
        parts = self.matches, self.ranking, self.groups if self.groups["pairs"] else None
        return Questions(*parts, self.table, self.evidence, **options)

    def identity(self):
        return resolve_table(self.table, self.evidence.decisions()).identity

    def said(self):
        return [
            (d.kind, d.first, d.second, d.by)
            for d in self.evidence.decisions()
            if d.kind != "undo" and d.undone_by is None
        ]


@pytest.fixture
def world(tmp_path):
    made = []

    def make(*arguments, **options):
        made.append(World(tmp_path, *arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.evidence.close()


def asked(question):
    choice = question.choice
    return question.encounter.encounter, choice.individual or choice.encounter


def press(questions, answer, by="Ada", **options):
    """Answer what is asked next, and return what that was."""
    question = questions.next(by, **options)
    questions.answer(question.encounter.encounter, question.choice, answer, by)
    return asked(question)


@pytest.mark.parametrize("seed", range(5))
def test_the_question_is_asked_that_is_expected_to_mend_most(world, seed):
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.full(4, 0.5), 30)[:, :3]
    counts = rng.integers(1, 5, 30).tolist()
    made = world(chances, counts)
    # By what happens: for each truth, is the name right before the answer, and after it?
    mended = {}
    for number, row in enumerate(np.column_stack([chances, 1 - chances.sum(axis=1)])):
        for k in range(3):
            right = 0.0
            for truth, chance in enumerate(row):
                others = [j for j in range(4) if j != k]
                after = k if truth == k else max(others, key=lambda j: row[j])
                right += chance * (int(after == truth) - int(row.argmax() == truth))
            mended[number, k] = counts[number] * right
    best = max(mended.values())
    question = made.questions().next("Ada")
    name, individual = asked(question)
    assert mended[int(name[1:]), NAMES.index(individual)] == pytest.approx(best, abs=1e-5)
    assert question.worth == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_who_is_unlikely_is_shown_with_others_if_that_mends_more_for_what_it_costs(world, seed):
    rng = np.random.default_rng(seed)
    names = [f"seal {n}" for n in range(14)]
    chances = rng.dirichlet(np.append(np.full(14, 0.4), 6), 8)[:, :14]
    made = world(chances, rng.integers(1, 4, 8).tolist(), names=names)
    counts = [len(match.annotations) for match in made.matches.matches]
    found = {}  # by encounter and who is shown: photographs mended, for the price of one question
    for number, row in enumerate(np.column_stack([chances, 1 - chances.sum(axis=1)])):
        order = np.argsort(-row[:14])
        for shown in (order[:1], order[:10]):
            right = 0.0
            for truth, chance in enumerate(row):
                others = [j for j in range(15) if j not in shown]
                after = truth if truth in shown else max(others, key=lambda j: row[j])
                right += chance * (int(after == truth) - int(row.argmax() == truth))
            if len(shown) == 1 or row[order[0]] < 0.1:
                cost = 1 + (len(shown) - 1) / 3
                found[number, tuple(names[k] for k in shown)] = counts[number] * right / cost
    question = made.questions().next("Ada")
    shown = question.lineup or [question.choice]
    key = int(question.encounter.encounter[1:]), tuple(each.individual for each in shown)
    assert found[key] == pytest.approx(max(found.values()), abs=1e-5)
    assert question.worth == pytest.approx(found[key], abs=1e-5)


def test_none_of_a_line_up_is_one_answer_about_each(world):
    names = [f"seal {n}" for n in range(12)]
    made = world([[0.07 - n / 1000 for n in range(12)]], [2], names=names)
    questions = made.questions()
    for note in ("", "all have more spots"):
        question = questions.next("Ada")
        assert [each.individual for each in question.lineup] == names[:10]
        assert question.choice == question.lineup[0]
        for _ in range(2):  # sent twice, it counts once
            lineup = [questions.choice("e0", "Ada", individual=name) for name in names[:10]]
            questions.none_of("e0", lineup, "Ada", note)
            assert made.said() == [
                ("different", "e0-1.jpg", f"{n}-1.jpg", "Ada") for n in names[:10]
            ]
        assert {each.note for each in questions.answers if each.holds} == {
            f"{note} {n} of 10 in a line-up".strip() for n in range(1, 11)
        }
        assert questions.progress("Ada").answered == {"different": 1}
        assert asked(questions.next("Ada")) == ("e0", "seal 10")  # who is likely now, alone
        press(questions, "different")
        assert questions.undo("Ada").about == "seal 10"
        assert questions.undo("Ada").about == "seal 0" and made.said() == []
        assert questions.undo("Ada") is None
    questions.answer("e0", question.lineup[3], "same", "Ada")
    assert made.identity()["e0-0.jpg"] == "seal 3"


def test_a_line_up_takes_the_place_of_what_was_said_of_its_individuals(world):
    names = [f"seal {n}" for n in range(12)]
    made = world(np.full((1, 12), 0.05), [2], names=names)
    questions = made.questions()
    questions.answer("e0", questions.choice("e0", "Ada", individual="seal 3"), "same", "Ada")
    questions.none_of("e0", questions.lineup("e0", "Ada"), "Ada")
    shown = {second for kind, _, second, _ in made.said() if kind == "different"}
    assert len(made.said()) == len(shown) == 10 and "seal 3-1.jpg" in shown
    assert made.identity()["e0-0.jpg"] is None
    # One of them is answered otherwise; the others are still undone as one.
    questions.answer("e0", questions.choice("e0", "Ada", individual="seal 5"), "same", "Ada")
    assert len(made.said()) == 9 + 2
    assert questions.undo("Ada").about == "seal 5" and len(made.said()) == 9
    assert questions.progress("Ada").answered == {"different": 1}
    assert questions.undo("Ada").lineup and made.said() == []


def test_a_line_up_leaves_out_who_was_answered_and_is_looked_at_again_as_one(world):
    names = [f"seal {n}" for n in range(12)]
    made = world(np.full((EVERY + LATER, 12), 0.05), names=names)
    questions = made.questions()
    for name, answer in (("seal 1", "different"), ("seal 4", "incomparable")):
        questions.answer("e0", questions.choice("e0", "Ada", individual=name), answer, "Ada")
    shown = [each.individual for each in questions.lineup("e0", "Ada")]
    assert shown == [name for name in names if name not in ("seal 1", "seal 4")]
    for number in range(1, EVERY + LATER - 1):
        assert questions.next("Ada").lineup
        questions.none_of(f"e{number}", questions.lineup(f"e{number}", "Ada"), "Ada")
    again = questions.next("Ada")  # of the twentieth answer, not the twentieth individual
    assert asked(again) == (f"e{EVERY - 2}", "seal 0") and not again.lineup


def test_doubt_comes_first_and_what_is_clear_only_on_demand(world):
    questions = world([[0.999, 0, 0], [0.5, 0.4, 0], [0.9, 0.05, 0]]).questions()
    assert press(questions, "same") == ("e1", "Kesi")
    assert press(questions, "same") == ("e2", "Kesi")
    assert questions.next("Ada") is None
    assert press(questions, "same", everything=True) == ("e0", "Kesi")
    assert questions.next("Ada", everything=True) is None


def test_different_leaves_the_probability_to_the_others(world):
    questions = world([[0.5, 0.3, 0.0]]).questions()
    assert press(questions, "different") == ("e0", "Kesi")
    question = questions.next("Ada")
    assert asked(question) == ("e0", "Mara") and question.choice.probability == pytest.approx(0.6)
    press(questions, "different")
    assert questions.next("Ada") is None  # a new animal, there is nobody else
    listed = questions.choices("e0", "Ada")
    assert {choice.title: choice.answered for choice in listed} == {
        **{"Kesi": "different", "Mara": "different", "Zuri": ""}
    }
    assert [choice.title for choice in questions.choices("e0", "Bo", 1, 1)] == ["Mara"]


def test_answers_are_decisions_about_all_photographs_or_the_two_most_alike(world):
    made = world([[0.5, 0.3, 0.1]] * 5, [2] * 5)
    questions = made.questions()
    for answer in ("same", "different", "incomparable", "skip", "new"):
        number = ["same", "different", "incomparable", "skip", "new"].index(answer)
        choice = questions.choices(f"e{number}", "Ada")[0]
        assert choice.query == f"e{number}-1.jpg"
        assert choice.photographs == ("Kesi-1.jpg", "Kesi-0.jpg")
        questions.answer(f"e{number}", choice, answer, "Ada")
    assert made.said() == [
        ("name", "e0-0.jpg", "Kesi", "Ada"),
        ("name", "e0-1.jpg", "Kesi", "Ada"),
        ("different", "e1-1.jpg", "Kesi-1.jpg", "Ada"),
        ("incomparable", "e2-1.jpg", "Kesi-1.jpg", "Ada"),
        ("skip", "e3-1.jpg", "Kesi-1.jpg", "Ada"),
        ("new", "e4-0.jpg", None, "Ada"),
        ("same", "e4-0.jpg", "e4-1.jpg", "Ada"),
    ]
    identity = made.identity()
    assert identity["e0-1.jpg"] == "Kesi" and identity["e4-0.jpg"] == identity["e4-1.jpg"] != None  # noqa: E711
    assert questions.progress("Ada").answered == dict.fromkeys(
        ("same", "different", "incomparable", "skip", "new"), 1
    )


def test_what_cannot_be_compared_is_not_asked_again_and_skipped_ones_come_last(world):
    questions = world([[0.5, 0.3, 0.0], [0.6, 0.2, 0.0]]).questions()
    assert press(questions, "incomparable") == ("e0", "Kesi")
    assert press(questions, "skip") == ("e0", "Mara")
    assert press(questions, "skip") == ("e1", "Kesi")
    assert questions.next("Ada") is None and questions.progress("Ada").skipped == 2
    rounds = [press(questions, "skip", everything=True) for _ in range(4)]
    assert rounds == [("e0", "Mara"), ("e1", "Kesi")] * 2
    press(questions, "same", everything=True)
    assert questions.progress("Ada").skipped == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_undo_takes_whole_answers_back_the_last_first(world, restarted):
    made = world([[0.5, 0.3, 0.1]] * 3, [3, 2, 1])
    questions = made.questions()
    before = [made.said()]
    for answer in ("same", "new", "different"):
        press(questions, answer)
        before.append(made.said())
    for there in reversed(before[:-1]):
        questions = made.questions() if restarted else questions
        assert questions.undo("Bo") is None
        questions.undo("Ada")
        assert made.said() == there
        assert asked(questions.next("Ada")) == asked(made.questions().next("Ada"))
    assert questions.undo("Ada") is None
    assert press(questions, "same") == ("e0", "Kesi")


def test_an_answer_twice_counts_once_and_another_one_takes_its_place(world):
    made = world([[0.5, 0.3, 0.1]], [2])
    questions = made.questions()
    kesi, mara = questions.choices("e0", "Ada")[:2]
    for choice, answer, there in (
        (kesi, "different", [("different", "e0-1.jpg", "Kesi-1.jpg", "Ada")]),
        (kesi, "skip", [("skip", "e0-1.jpg", "Kesi-1.jpg", "Ada")]),
        (kesi, "same", [("name", f"e0-{n}.jpg", "Kesi", "Ada") for n in range(2)]),
        (mara, "same", [("name", f"e0-{n}.jpg", "Mara", "Ada") for n in range(2)]),
        (kesi, "new", [("new", "e0-0.jpg", None, "Ada"), ("same", "e0-0.jpg", "e0-1.jpg", "Ada")]),
    ):
        for _ in range(2):
            questions.answer("e0", choice, answer, "Ada")
            assert made.said() == there
    assert len(made.evidence.decisions()) == 8 + 6  # 8 decisions, 6 undone


def test_reviewers_and_processes_do_not_disturb_each_other(world):
    made = world([[0.5, 0.3, 0.1], [0.6, 0.3, 0.1]])
    mine = made.questions()
    with Evidence(made.file) as evidence:
        theirs = Questions(made.matches, made.ranking, None, made.table, evidence)
        assert press(mine, "same", "Ada") == ("e0", "Kesi")
        assert press(theirs, "different", "Bo") == ("e0", "Kesi")
        (found,) = mine.disagreements()
        assert {(a.by, a.answer) for a in found.answers} == {("Ada", "same"), ("Bo", "different")}
        assert mine.progress("Ada").others == (0, 1)
        # One person in two windows: what the one has done is done in the other.
        assert press(theirs, "same", "Ada") == ("e1", "Kesi")
        assert mine.next("Ada") is None
        theirs.undo("Ada")
        assert asked(mine.next("Ada")) == ("e1", "Kesi")
    assert made.identity()["e0-0.jpg"] == "Kesi"


def test_two_names_of_one_encounter_are_a_disagreement(world):
    questions = world([[0.5, 0.3, 0.1]]).questions()
    kesi, mara = questions.choices("e0", "Ada")[:2]
    questions.answer("e0", kesi, "same", "Ada")
    assert questions.disagreements() == []
    questions.answer("e0", mara, "same", "Bo")
    (found,) = questions.disagreements()
    assert [(each.by, each.about) for each in found.answers] == [("Ada", "Kesi"), ("Bo", "Mara")]
    questions.undo("Bo")
    assert questions.disagreements() == []


def test_unknown_animals_are_compared_with_each_other(world):
    pairs = [(0, 1, 0.6), (1, 2, 0.7), (0, 2, 0.4), (2, 3, 0.9)]
    made = world([[0.001, 0, 0]] * 3 + [[0.98, 0, 0]], [1, 2, 1, 1], pairs)
    questions = made.questions()
    assert asked(questions.next("Ada")) == ("e0", "e1")  # 0.4 of one photograph
    choice = questions.choices("e0", "Ada")[0]
    assert (choice.encounter, choice.photographs) == ("e1", ("e1-0.jpg", "e1-1.jpg"))
    press(questions, "same")
    # Now three photographs are one group, and the third encounter is asked about only once.
    assert press(questions, "same") == ("e2", "e1")
    assert questions.next("Ada") is None or asked(questions.next("Ada"))[0] == "e3"
    identity = made.identity()
    assert len({identity[f"e{n}-0.jpg"] for n in range(3)}) == 1 and identity["e0-0.jpg"]
    assert made.said()[0] == ("same", "e0-0.jpg", "e1-0.jpg", "Ada")


def test_one_that_is_like_an_encounter_with_a_name_may_have_that_name(world):
    made = world([[0.6, 0.2, 0], [0.001, 0.001, 0]], pairs=[(0, 1, 0.9)])
    questions = made.questions()
    questions.answer("e0", questions.choices("e0", "Ada")[1], "same", "Ada")  # Mara
    question = questions.next("Ada")
    assert asked(question) == ("e1", "Mara")
    alone = np.log(0.001 / 0.998) + np.log(3)  # what the encounter says, and its pair beside it:
    pair = np.log(0.9 / 0.1) + np.log(0.9 / 0.1)  # less the odds against, for a share of 0.1
    odds = np.exp((alone + pair) / np.sqrt(2) - np.log(3))
    other = 0.001 / 0.998
    assert question.choice.probability == pytest.approx(odds / (1 + odds + other), abs=1e-6)


def test_what_is_different_from_a_group_is_different_from_all_of_it(world):
    made = world([[0.001, 0, 0]] * 3, pairs=[(0, 1, 0.5), (1, 2, 0.4), (0, 2, 0.3)])
    questions = made.questions()
    assert press(questions, "same") == ("e0", "e1")
    assert press(questions, "different") == ("e2", "e1")
    assert questions.next("Ada") is None
    assert made.questions().next("Ada") is None


def test_a_sample_is_asked_again_without_saying_so(world):
    count = EVERY + LATER + 1
    made = world(np.tile([0.5, 0.3, 0.1], (count, 1)))
    questions = made.questions()
    given = [press(questions, "same") for _ in range(count - 1)]
    again = questions.next("Ada")
    assert asked(again) == given[EVERY - 1]
    assert again.choice.probability == pytest.approx(0.5) and again.choice.answered == ""
    questions.answer(again.encounter.encounter, again.choice, "different", "Ada")
    assert made.said()[-1][3] == "Ada" + SECOND_LOOK
    assert questions.progress("Ada").again == (0, 1) and len(questions.disagreements()) == 1
    assert asked(questions.next("Ada")) not in given
    assert questions.undo("Ada").by == "Ada" + SECOND_LOOK
    questions.answer(again.encounter.encounter, again.choice, "same", "Ada")
    assert questions.progress("Ada").again == (1, 1) and questions.disagreements() == []
    assert asked(made.questions(every=0).next("Ada")) not in given


def test_filters_and_names_that_changed(world):
    made = world([[0.5, 0.3, 0.1], [0.5, 0.3, 0.1]], [1, 2])
    made.evidence.decide("rename", "Kesi", "Kesi II", by="Bo")
    questions = made.questions()
    question = questions.next("Ada", lambda match: len(match.annotations) == 1)
    assert asked(question) == ("e0", "Kesi II")
    assert questions.choice("e0", "Ada", individual="Kesi").title == "Kesi II"
    assert questions.next("Ada", lambda match: False) is None


def test_mistakes_are_told_with_the_nearest_name(world):
    made = world([[0.5, 0.3, 0.1]])
    questions = made.questions()
    for call, words in (
        (lambda: questions.choices("e00", "Ada"), "did you mean 'e0'"),
        (lambda: questions.choice("e0", "Ada", individual="Masa"), "did you mean 'Mara'"),
        (lambda: questions.answer("e0", None, "sane", "Ada"), "did you mean 'same'"),
    ):
        with pytest.raises(UserError, match=words):
            call()
    assert made.evidence.decisions() == []
    made.table = made.table[:-1]
    with pytest.raises(UserError, match=r"such as e0-0.jpg; add them first"):
        made.questions()


@pytest.mark.parametrize("answer", ["same", "different", "skip", "new"])
def test_a_second_look_that_is_sent_twice_leaves_the_first_as_it_was(world, answer):
    count = EVERY + LATER
    made = world(np.tile([0.5, 0.3, 0.1], (count + 1, 1)))
    questions = made.questions()
    for _ in range(count):
        press(questions, "different" if answer == "new" else "same")
    before, again = made.said(), questions.next("Ada")
    for _ in range(2):
        questions.answer(again.encounter.encounter, again.choice, answer, "Ada")
        fresh = made.said()[count:]
        assert made.said()[:count] == before and {by for *_, by in fresh} == {"Ada" + SECOND_LOOK}
        assert len(fresh) == 1
        assert asked(questions.next("Ada")) != asked(again)  # which was looked at


def test_individuals_that_were_merged_are_one_candidate(world):
    made = world([[0.5, 0.3, 0.1]])
    made.evidence.decide("merge", "Kesi", "Mara", by="Bo")
    questions = made.questions()
    listed = questions.choices("e0", "Ada")
    assert [(each.title, round(each.probability, 3)) for each in listed] == [
        *(("Kesi", 0.8), ("Zuri", 0.1))
    ]
    assert set(listed[0].photographs) == {f"{name}-{n}.jpg" for name in NAMES[:2] for n in (0, 1)}
    assert questions.choice("e0", "Ada", individual="Mara").title == "Kesi"
    given = [press(questions, "different", everything=True) for _ in range(2)]
    assert given == [("e0", "Kesi"), ("e0", "Zuri")]
    assert questions.next("Ada", everything=True) is None


def test_an_answer_to_a_name_that_changed_can_be_changed(world):
    made = world([[0.5, 0.3, 0.1]], [2])
    press(made.questions(), "same")
    made.evidence.decide("rename", "Kesi", "Kesi II", by="Bo")
    questions = made.questions()
    choice = questions.choice("e0", "Ada", individual="Kesi II")
    assert choice.answered == "same"
    questions.answer("e0", choice, "different", "Ada")
    assert made.said()[1:] == [("different", "e0-1.jpg", "Kesi-1.jpg", "Ada")]


def test_what_was_decided_in_parts_is_changed_as_a_whole(world):
    made = world([[0.5, 0.3, 0.1]], [3])
    made.evidence.decide("name", "e0-1.jpg", "Kesi", by="Ada")  # by a command
    questions = made.questions()
    choice = questions.choice("e0", "Ada", individual="Kesi")
    questions.answer("e0", choice, "same", "Ada")
    questions.answer("e0", choice, "different", "Ada")
    assert made.said() == [("different", "e0-2.jpg", "Kesi-1.jpg", "Ada")]


def test_what_was_said_of_photographs_that_are_no_candidates_stays(world):
    made = world([[0.5, 0.3, 0.1]])
    for kind in ("different", "incomparable"):
        made.evidence.decide(kind, "e0-0.jpg", "an-earlier-one.jpg", by="Ada")
    questions = made.questions()
    assert asked(questions.next("Ada")) == ("e0", "Kesi")
    press(questions, "new")
    assert [kind for kind, *_ in made.said()] == ["different", "incomparable", "new"]


@pytest.mark.parametrize("how", ["split", "conflict", "gone"])
def test_a_photograph_that_was_named_otherwise_is_not_shown_for_its_old_name(world, how):
    made = world([[0.5, 0.3, 0.1]])
    for n in (0, 1) if how == "gone" else (1,):
        if how != "conflict":
            made.evidence.decide("split", f"Kesi-{n}.jpg", "Kesi", by="Bo")
        made.evidence.decide("name", f"Kesi-{n}.jpg", "Mara", by="Bo")
    questions, shown = made.questions(), {}
    while (question := questions.next("Ada", everything=True)) is not None:
        title = asked(question)[1]
        assert title not in shown  # is asked about once
        shown[title] = question.choice.photographs[0]
        questions.answer("e0", question.choice, "different", "Ada")
    kesi = {"split": {"Kesi": "Kesi-0.jpg"}, "conflict": {"Kesi": "Kesi-1.jpg"}, "gone": {}}[how]
    assert shown == {**kesi, "Mara": "Mara-1.jpg", "Zuri": "Zuri-1.jpg"}
    assert {each.title for each in questions.choices("e0", "Ada")} == {*shown}
