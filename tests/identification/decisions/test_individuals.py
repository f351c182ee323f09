"""Individuals from decisions, beside a model that tries everything."""

import tempfile
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openanimals.identification.catalogue_file import COLUMNS, annotation_ids
from openanimals.identification.decisions.evidence import Decision, Evidence
from openanimals.identification.decisions.individuals import annotate, resolve, resolve_table
from openanimals.utils.errors import UserError

CATALOGUE = {"a": "Kesi", "b": "Kesi", "c": "Duma", "d": None, "e": None, "f": None}
TOGETHER = [("a", "e"), ("d", "f")]  # two in one photograph


def decided(tmp_path, *decisions, names=CATALOGUE, never_together=()):
    """Individuals after decisions written as text, such as "same a d" or "undo 1"."""
    with Evidence(tmp_path / "decisions.sqlite") as evidence:
        for text in decisions:
            kind, *about = text.split()
            if kind == "undo":
                evidence.undo(int(*about), by="Ada")
            else:
                evidence.decide(kind, *about, by="Ada")
        return resolve([*names], names, evidence.decisions(), never_together)


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        ([], {"a": "Kesi", "b": "Kesi", "c": "Duma"}),
        (["same d e"], {"d": "new-1", "e": "new-1"}),
        (["same d a", "same d e"], {"d": "Kesi", "e": "Kesi"}),
        (["incomparable d a", "skip e", "different d a"], {"d": None, "e": None, "a": "Kesi"}),
        # A made-up name stays, whatever else is decided.
        (["skip a", "new d", "new e", "same e f"], {"d": "new-2", "e": "new-3", "f": "new-3"}),
        (["new d", "new e", "undo 1"], {"d": None, "e": "new-2"}),
        (["new d", "new e", "same d e"], {"d": "new-1", "e": "new-1"}),
        (["new d", "rename new-1 Zuri", "name e Zuri"], {"d": "Zuri", "e": "Zuri"}),
        (["new d", "merge Duma new-1"], {"c": "Duma", "d": "Duma"}),
        (["name d Zuri", "name e Zuri", "name f Kesi"], {"d": "Zuri", "e": "Zuri", "f": "Kesi"}),
        (["merge Kesi Duma", "name d Duma"], {"a": "Kesi", "c": "Kesi", "d": "Kesi"}),
        (["merge Kesi Duma", "rename Duma Zuri"], {"a": "Zuri", "c": "Zuri"}),
        (["merge Kesi Duma", "undo 1"], {"a": "Kesi", "c": "Duma"}),
        (["rename Kesi Zuri", "rename Zuri Kesi"], {"a": "Kesi", "b": "Kesi"}),
        (["split b Kesi"], {"a": "Kesi", "b": "new-1"}),
        (["split b Kesi", "name b Duma"], {"a": "Kesi", "b": "Duma", "c": "Duma"}),
        (["same d e", "same d f", "split d new-1"], {"d": "new-3", "e": "new-1", "f": "new-2"}),
        (["split b Kesi", "undo 1"], {"b": "Kesi"}),
    ],
)
def test_what_decisions_mean(tmp_path, decisions, expected):
    found = decided(tmp_path, *decisions)
    assert {annotation: found.identity[annotation] for annotation in expected} == expected
    assert found.conflicts == []


@pytest.mark.parametrize(
    ("decisions", "text", "numbers", "disputed"),
    [
        (
            ["different a b"],
            "a is Kesi (the catalogue); b is Kesi (the catalogue); "
            "but they are different (decision 1 by Ada)",
            (1,),
            {"a": "Kesi", "b": "Kesi"},
        ),
        (
            ["same a d", "same d c"],
            "a is Kesi (the catalogue); a and d are the same (decision 1 by Ada); d and c are the "
            "same (decision 2 by Ada); c is Duma (the catalogue); but Kesi and Duma are two "
            "individuals",
            (1, 2),
            {"a": "Kesi", "b": "Kesi", "d": None, "c": "Duma"},
        ),
        (
            ["new d", "same d a"],
            "d is new-1 (decision 1 by Ada); d and a are the same (decision 2 by Ada); a is Kesi "
            "(the catalogue); but new-1 is none of the individuals known before",
            (1, 2),
            {"a": "Kesi", "d": "new-1"},
        ),
        (
            ["name a Duma"],
            "a is Kesi (the catalogue); a is Duma (decision 1 by Ada); "
            "but Kesi and Duma are two individuals",
            (1,),
            {"a": None, "b": "Kesi", "c": "Duma"},
        ),
        (
            ["rename Kesi Duma"],
            "Kesi was renamed Duma (decision 1 by Ada); "
            "but Duma is another individual already (if they are one, merge them)",
            (1,),
            {"a": "Kesi", "c": "Duma"},
        ),
        (
            ["split b Kesi", "same b a"],
            "b and a are the same (decision 2 by Ada); a is Kesi (the catalogue); "
            "but b is not Kesi (decision 1 by Ada)",
            (1, 2),
            {"a": "Kesi", "b": "Kesi"},
        ),
    ],
)
def test_conflicts_say_why(tmp_path, decisions, text, numbers, disputed):
    found = decided(tmp_path, *decisions)
    assert [str(conflict) for conflict in found.conflicts] == [text]
    assert found.conflicts[0].decisions == numbers
    assert {annotation: found.identity[annotation] for annotation in disputed} == disputed
    for number in numbers:
        solved = decided(tmp_path, f"undo {number}")
        assert solved.conflicts == []
        decided(tmp_path, f"undo {solved.decisions[-1].number}")


def test_made_up_names_of_another_file_are_left_alone(tmp_path):
    names = {"a": "new-1", "b": None, "c": None}  # a catalogue that was written by an export
    assert decided(tmp_path, "same b c", names=names).identity == {
        **{"a": "new-1", "b": "new-1b", "c": "new-1b"}
    }
    # Over the one that it came from, everything stays as it is.
    names = {"a": None, "b": "new-1", "c": "new-1"}
    assert decided(tmp_path, names=names).identity == names


def test_photographs_that_are_gone_are_told_and_still_count(tmp_path):
    decisions = ["same d gone", "same gone e", "skip gone f", "undo 3"]
    found = decided(tmp_path, *decisions)
    assert found.identity["d"] == found.identity["e"] == "new-1"
    assert found.missing == {"gone": [1, 2]}


def test_the_decisions_about_an_individual(tmp_path):
    decisions = ["same d e", "rename new-1 Zuri", "name f Kesi", "undo 3", "undo 4", "skip c d"]
    found = decided(tmp_path, *decisions)
    assert found.members("new-1") == found.members("Zuri") == ["d", "e"]
    assert [d.number for d in found.history_of("new-1")] == [1, 2, 6]
    assert [d.number for d in found.history_of("Kesi")] == [3, 4, 5]
    with pytest.raises(UserError, match="no individual 'Kesy' .did you mean 'Kesi'"):
        found.history_of("Kesy")


def test_a_catalogue_with_the_identities_of_its_decisions(tmp_path):
    table = pd.DataFrame(
        {
            **{name: pd.Series([None] * 4, dtype=object) for name in COLUMNS},
            "path": ["x.jpg", "x.jpg", "y.jpg", "z.jpg"],
            "bbox": ["0 0 5 5", "5 5 9 9", None, None],
            "identity": ["Kesi", None, None, None],
            "sex": ["f", None, "m", None],
        },
        dtype=object,
    )
    one, two, three, _ = annotation_ids(table)
    with Evidence(tmp_path / "decisions.sqlite") as evidence:
        evidence.decide("same", three, one, by="Ada")
        changed = annotate(table, resolve_table(table, evidence.decisions()))
        assert changed["identity"].tolist() == ["Kesi", None, "Kesi", None]
        pd.testing.assert_frame_equal(
            changed.drop(columns="identity"), table.drop(columns="identity")
        )
        assert table["identity"].tolist() == ["Kesi", None, None, None]
        evidence.decide("same", two, three, by="Ada")
        (conflict,) = resolve_table(table, evidence.decisions()).conflicts
        assert "but they are two animals in one photograph" in str(conflict)


# Everything at random, beside a model


class Model:
    """The same rules, by trying everything: closure by repetition, chains by growing rings."""

    def __init__(self):
        self.log = []  # kind, first, second, by; an undo's first is a number

    def undone(self):
        dead = set()
        for number in range(len(self.log), 0, -1):
            kind, first, *_ = self.log[number - 1]
            if kind == "undo" and number not in dead:
                dead.add(first)
        return dead

    def decide(self, kind, first, second, by):
        for number, (other_kind, *about, other_by) in enumerate(self.log, 1):
            same = about == [first, second] or (
                kind in ("same", "different", "skip", "incomparable") and about == [second, first]
            )
            if kind == other_kind and by == other_by and same and number not in self.undone():
                return number
        self.log.append((kind, first, second, by))
        return len(self.log)

    def resolve(self):
        """Links, pairs that must not be, names that are one, and made-up names."""
        dead = self.undone()
        alive = [(n, *line) for n, line in enumerate(self.log, 1) if n not in dead]
        last_split = {}
        for number, kind, first, *_ in alive:
            if kind == "split":
                last_split[first] = number

        def stands(number, *photographs):
            return all(number >= last_split.get(photograph, 0) for photograph in photographs)

        links = {(a, f"/{name}") for a, name in CATALOGUE.items() if name and stands(0, a)}
        never = [*TOGETHER]
        groups = [[name] for name in dict.fromkeys(filter(None, CATALOGUE.values()))]  # title first
        made, known, taken = {}, {}, 0

        def of(name):
            if not any(name in group for group in groups):
                groups.append([name])
            return next(group for group in groups if name in group)

        for number, kind, first, second, _ in alive:
            new = f"new-{number}"
            if kind == "same":
                links |= {(first, second)} if stands(number, first, second) else set()
            if kind in ("same", "new", "split"):
                known[new] = sum(groups, []) if kind == "new" else []
                made[new] = number
                of(new)
                for end in (first, second) if kind == "same" else (first,):
                    links |= {(end, f"/{new}")} if stands(number, end) else set()
            if kind == "different":
                never.append((first, second))
            if kind == "split":
                never.append((first, f"/{second}"))
            if kind == "name":
                of(second)
                links |= {(first, f"/{second}")} if stands(number, first) else set()
            if kind in ("merge", "rename"):
                names = sum(groups, [])
                one, other = of(first), of(second)
                if kind == "rename" and {first, second} <= {*names} and one is not other:
                    taken += 1
                    continue
                links.add((f"/{first}", f"/{second}"))
                title = one[0] if kind == "merge" else second
                groups = [group for group in groups if group is not one and group is not other]
                groups.append([title, *({*one, *other} - {title})])
        return links, never, groups, made, known, taken


def classes(links):
    found = {end: {end} for link in links for end in link}
    for one, other in links:
        both = found[one] | found[other]
        for each in both:
            found[each] = both
    return found


def distance(links, one, other):
    ring, steps = {one}, 0
    while other not in ring:
        ring |= {b for a, b in links if a in ring} | {a for a, b in links if b in ring}
        steps += 1
    return steps


PHOTOGRAPHS = st.sampled_from("abcdef")
NAMES = st.sampled_from(["Kesi", "Duma", "Zuri", "new-1", "new-2", "new-3"])
PEOPLE = st.sampled_from(["Ada", "Ben"])
WRITERS = st.sampled_from([0, 1])


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "decisions.sqlite"
        self.writers = [Evidence(self.file), Evidence(self.file)]
        self.model = Model()

    def decide(self, writer, kind, first, second, by):
        number = self.writers[writer].decide(kind, first, second, by=by)
        assert number == self.model.decide(kind, first, second, by)

    @rule(
        writer=WRITERS,
        kind=st.sampled_from(["same", "same", "different", "skip", "incomparable"]),
        pair=st.lists(PHOTOGRAPHS, min_size=2, max_size=2, unique=True),
        by=PEOPLE,
    )
    def judge(self, writer, kind, pair, by):
        self.decide(writer, kind, *pair, by)

    @rule(writer=WRITERS, photograph=PHOTOGRAPHS, by=PEOPLE)
    def call_new(self, writer, photograph, by):
        self.decide(writer, "new", photograph, None, by)

    @rule(
        writer=WRITERS, kind=st.sampled_from(["name", "split"]), a=PHOTOGRAPHS, b=NAMES, by=PEOPLE
    )
    def name_or_split(self, writer, kind, a, b, by):
        if b in CATALOGUE.values() or b == "Zuri" or self.is_made(b):
            self.decide(writer, kind, a, b, by)

    @rule(
        writer=WRITERS,
        kind=st.sampled_from(["merge", "rename"]),
        pair=st.lists(NAMES, min_size=2, max_size=2, unique=True),
        by=PEOPLE,
    )
    def merge_or_rename(self, writer, kind, pair, by):
        if all(not name.startswith("new") or self.is_made(name) for name in pair):
            self.decide(writer, kind, *pair, by)

    def is_made(self, name):
        number = int(name.removeprefix("new-"))
        return number <= len(self.model.log) and number not in self.model.undone()

    @rule(writer=WRITERS, data=st.data(), by=PEOPLE)
    def undo(self, writer, data, by):
        if not self.model.log:
            return
        number = data.draw(st.integers(1, len(self.model.log)))
        before = self.model.undone()
        done = self.writers[writer].undo(number, by=by)
        if number in before:
            assert self.model.log[done - 1][:2] == ("undo", number)
        else:
            self.model.log.append(("undo", number, None, by))
            assert done == len(self.model.log)

    @rule(writer=WRITERS)
    def reopen(self, writer):
        self.writers[writer].close()
        self.writers[writer] = Evidence(self.file)

    @invariant()
    def nothing_is_lost(self):
        for writer in self.writers:
            found = writer.decisions()
            lines = [
                (d.kind, int(d.first) if d.kind == "undo" else d.first, d.second, d.by)
                for d in found
            ]
            assert lines == self.model.log
            assert {d.number for d in found if d.undone_by} == self.model.undone()

    @invariant()
    def individuals_are_those_of_the_model(self):
        links, never, groups, made, known, taken = self.model.resolve()
        found = resolve([*CATALOGUE], CATALOGUE, self.writers[0].decisions(), TOGETHER)
        joined = classes(links)

        def together(one, other):
            return other in joined.get(one, ())

        expected = [distance(links, one, other) for one, other in never if together(one, other)]
        expected += [1] * taken
        disputed = set()
        for one, other in combinations(groups, 2):
            proofs = [
                distance(links, f"/{a}", f"/{b}")
                for a in one
                for b in other
                if together(f"/{a}", f"/{b}")
                and ({a, b}.isdisjoint(made) or a in known.get(b, ()) or b in known.get(a, ()))
                and not (a in made and b in made)
            ]
            if proofs:
                expected.append(min(proofs))
                disputed |= {*one, *other}
        assert sorted(len(conflict.chain) for conflict in found.conflicts) == sorted(expected)

        title = {name: group[0] for group in groups for name in group}
        for annotation, name in found.identity.items():
            own = [n[1:] for n in joined.get(annotation, ()) if n.startswith("/")]
            if disputed.isdisjoint(own):
                # No name in dispute: one real one, or the first that was made up.
                real = {title[n] for n in own if n not in made}
                first = [title[n] for n in sorted(own, key=lambda n: made.get(n, 0))[:1]]
                assert {name} - {None} == (real or {*first})
            else:
                direct = {title[n[1:]] for a, n in links if a == annotation and n[0] == "/"}
                direct &= {title[n] for n in disputed & {*own}}
                assert name == (*direct,)[0] if len(direct) == 1 else name is None

    def teardown(self):
        for writer in self.writers:
            writer.close()
        self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, database=None
)


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=9, max_size=16))
@settings(max_examples=20, deadline=None, database=None)
def test_chains_are_the_shortest(pairs):
    links = [(f"{a}.jpg", f"{b}.jpg") for a, b in sorted(pairs) if a != b]
    ends = [*classes(links)]
    against = [*combinations(ends, 2)]
    lines = [*(("same", *link) for link in links), *(("different", *pair) for pair in against)]
    decisions = [Decision(n, *line, "Ada", "", "") for n, line in enumerate(lines, 1)]
    found = {
        conflict.pair: len(conflict.chain) for conflict in resolve(ends, {}, decisions).conflicts
    }
    joined = classes(links)
    assert found == {pair: distance(links, *pair) for pair in against if pair[1] in joined[pair[0]]}
