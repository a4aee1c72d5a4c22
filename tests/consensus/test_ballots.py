"""Ballots: fair order, only the judge's own words, and a count that knows no names."""

from __future__ import annotations

import json
import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.consensus.ballots import (
    Ballot,
    Paper,
    Verdict,
    papers,
    read_ballot,
    schema,
    shape,
    standings,
    unanimous_leader,
)
from proxy.consensus.schemas import problem
from proxy.consensus.settings import DIMENSIONS

PAPER = Paper("j", ("x", "y"))


def entry(label: str, rank: int, score: float = 7, **more: Any) -> dict[str, Any]:
    """What a judge says of one answer."""
    return {"label": label, **dict.fromkeys(DIMENSIONS, score), "rank": rank, **more}


def written(*entries: dict[str, Any]) -> str:
    return json.dumps({"answers": entries})


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("seed", range(3))
def test_every_answer_stands_once_in_every_slot(count: int, seed: int) -> None:
    """The Latin property, for every panel up to eight: a judge sees all others once, never itself."""
    seats = [f"s{index}" for index in range(count)]
    shown = papers(seats, seats, random=random.Random(seed))
    assert [paper.judge for paper in shown] == seats
    for paper in shown:
        assert sorted([*paper.seats, paper.judge]) == seats
    for slot in range(count - 1):
        assert sorted(paper.seats[slot] for paper in shown) == seats


@pytest.mark.parametrize(("judges", "candidates"), [(1, 5), (3, 4), (6, 4), (4, 4)])
def test_judges_from_outside_rotate_the_slots(judges: int, candidates: int) -> None:
    """Who did not answer judges all; no answer has a slot more than once oftener than another."""
    seats = [f"s{index}" for index in range(candidates)]
    shown = papers([f"judge{index}" for index in range(judges)], seats)
    for slot in range(candidates):
        counts = Counter(paper.seats[slot] for paper in shown)
        assert max(counts.values()) - min(counts.get(seat, 0) for seat in seats) <= 1


def test_missing_answers_and_judges_leave_a_paper_for_each_judge_with_something_to_judge() -> None:
    """An answer that is missing is on nobody's paper; a judge of its own answer alone gets none."""
    assert papers(["a", "b", "c"], ["a", "b"]) == (Paper("a", ("b",)), Paper("b", ("a",)), Paper("c", ("a", "b")))
    assert papers(["a"], ["a"]) == ()
    assert papers(["a"], []) == ()


def test_labels_are_the_judges_own() -> None:
    """A is what is shown first, whoever wrote it; there are as many as needed."""
    assert PAPER.labels == ("A", "B")
    assert len(set(Paper("j", tuple(map(str, range(100)))).labels)) == 100


def test_schema_takes_what_the_reader_reads() -> None:
    """A ballot that fits the schema is read in full; the example names every field."""
    verdict = {"claim": 2, "verdict": "contradicted", "reason": "It is 9.", "correction": "9"}
    ballot = {"answers": [entry("A", 2, claims=[verdict]), entry("B", 1, claims=[])]}
    claims = {"x": 2, "y": 0}
    assert problem(ballot, schema(PAPER, claims)) == ""
    assert problem({"answers": [entry("C", 1, claims=[])]}, schema(PAPER, claims)) != ""
    read = read_ballot(json.dumps(ballot), PAPER, claims)
    assert read is not None
    assert (read.ranks, set(read.scores)) == ({"x": 2, "y": 1}, {"x", "y"})
    assert [(mark.seat, mark.claim, mark.verdict, mark.correction) for mark in read.marks] == [
        ("x", 1, Verdict.CONTRADICTED, "9")
    ]
    assert json.loads(shape(PAPER))["answers"][1].keys() == entry("B", 1, claims=[]).keys()


def test_only_the_judges_last_object_is_read() -> None:
    """A ballot that a judge quotes from a candidate is not its own."""
    text = f"Answer A says {written(entry('A', 1), entry('B', 2))}, no.\n{written(entry('A', 2), entry('B', 1))}"
    read = read_ballot(text, PAPER, {})
    assert read is not None and read.ranks == {"x": 2, "y": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm sorry, but I can't judge these.",
        "{}",
        '{"answers": []}',
        '{"answers": "A"}',
        '{"answers": [1, null]}',
        '{"answers": [{"label": "A"}]}',
        written(entry("C", 1)),
        written(entry("A", 1), entry("A", 2)),
        written(entry("A", 1), entry("Z", 2)),
        f'{written(entry("A", 1), entry("B", 2))}\nIn short: {{"winner": "A"}}',
        '{"answers": [{"label": "A", "rank": 1, "rank": 2}]}',
        '{"answers": ' + "[" * 10_000 + "}",
    ],
)
def test_what_is_no_ballot_abstains(text: str) -> None:
    """Empty, a refusal, no ranks, other labels, labels twice, broken, or another object behind it."""
    assert read_ballot(text, PAPER, {}) is None


def test_ballot_cut_off_in_the_middle_counts_as_far_as_it_goes() -> None:
    """Answers that it spoke of in full count; an earlier quoted one still does not."""
    quoted = f"As A writes, {written(entry('A', 1), entry('B', 2))}. My own: "
    own = written(entry("A", 2), entry("B", 1))
    read = read_ballot(quoted + own[: own.index('{"label": "B"') + 30], PAPER, {})
    assert read is not None and read.ranks == {"x": 2}


@pytest.mark.parametrize(
    "odd",
    [
        {"rank": 0},
        {"rank": 3},
        {"rank": "A"},
        {"rank": 1.5},
        {"rank": True},
        {"accuracy": 11},
        {"accuracy": "9 or so"},
        {"claims": 5},
    ],
)
def test_what_is_out_of_bounds_is_left_out(odd: dict[str, Any]) -> None:
    """The rest of the ballot counts."""
    read = read_ballot(written({**entry("A", 1), **odd}, entry("B", 2)), PAPER, {"x": 2})
    assert read is not None
    assert ("x" in read.ranks) == ("rank" not in odd)
    assert ("accuracy" in read.scores["x"]) == ("accuracy" not in odd)


def test_figures_in_quotes_are_figures() -> None:
    """Weak models write the values of the example's shape as it does, between quotes."""
    quoted = {
        **entry("A", 1),
        "rank": "2",
        "accuracy": "8",
        "clarity": "7.5/10",
        "claims": [{"claim": "1", "verdict": "Supported"}],
    }
    read = read_ballot(written(quoted, {**entry("B", 1), "rank": "1st"}), PAPER, {"x": 2})
    assert read is not None
    assert (read.ranks, read.scores["x"]["accuracy"], read.scores["x"]["clarity"]) == ({"x": 2, "y": 1}, 8.0, 7.5)
    assert [one.claim for one in read.marks] == [0]


def test_judge_that_only_scores_ranks_by_its_scores() -> None:
    """Ranks lead where there are any; scores stand in where there are none."""
    bare = [
        {key: value for key, value in each.items() if key != "rank"} for each in (entry("A", 1, 6), entry("B", 1, 8))
    ]
    read = read_ballot(written(*bare), PAPER, {})
    assert read is not None and read.ranks == {"x": 2, "y": 1}


@pytest.mark.parametrize("label", ["a", "Answer A", "candidate a", "(A)"])
def test_labels_are_read_as_judges_write_them(label: str) -> None:
    """With a word before them, in another case."""
    read = read_ballot(written(entry(label, 1)), PAPER, {})
    assert read is not None and read.ranks == {"x": 1}


@given(st.text(max_size=200) | st.text(alphabet='{}[]":,labelA1 answers', max_size=300))
@settings(deadline=None)
def test_garbage_is_read_without_failing(text: str) -> None:
    """Whatever a judge writes."""
    read_ballot(text, PAPER, {"x": 1})


def test_hostile_ballots_are_read_in_linear_time() -> None:
    """Each would take minutes were it quadratic."""
    for piece in ("{", '{"answers":[', '{"label":"A",', "}", '"', "[{"):
        read_ballot(piece * 50_000, PAPER, {})


SEATS = ["p", "q", "r", "s"]
RANKINGS = st.lists(st.permutations(SEATS), min_size=1, max_size=5)


def voted(rankings: list[list[str]], names: dict[str, str]) -> list[Ballot]:
    return [
        Ballot(f"judge{index}", {names[seat]: place + 1 for place, seat in enumerate(ranking)})
        for index, ranking in enumerate(rankings)
    ]


@given(RANKINGS, st.permutations(SEATS))
@settings(max_examples=200, deadline=None)
def test_count_knows_no_names(rankings: list[list[str]], renamed: list[str]) -> None:
    """Seats renamed, the same answers win with the same points: not even a tie is broken by name or slot."""
    same = dict(zip(SEATS, SEATS, strict=True))
    other = dict(zip(SEATS, renamed, strict=True))
    texts = {seat: f"text of {seat}" for seat in SEATS}
    before = standings(voted(rankings, same), texts)
    after = standings(voted(rankings, other), {other[seat]: texts[seat] for seat in SEATS})
    assert [(other[each.seat], each.borda) for each in before] == [(each.seat, each.borda) for each in after]


@given(RANKINGS)
@settings(deadline=None)
def test_points_are_shares_of_others_beaten(rankings: list[list[str]]) -> None:
    """Exact; over all answers they add up to half."""
    found = standings(voted(rankings, {seat: seat for seat in SEATS}), {seat: seat for seat in SEATS})
    assert sum((each.borda for each in found), Fraction(0)) == Fraction(len(SEATS), 2)
    assert all(each.ballots == len(rankings) for each in found)
    assert [each.borda for each in found] == sorted((each.borda for each in found), reverse=True)


def test_judge_never_scores_itself() -> None:
    """A ballot that names its judge's own answer counts for the others alone."""
    ballot = Ballot("p", {"p": 1, "q": 3, "r": 2}, {"p": {"accuracy": 10.0}})
    found = {each.seat: each for each in standings([ballot], {"p": "1", "q": "2", "r": "3"})}
    assert (found["p"].ballots, found["p"].borda) == (0, 0)
    assert (found["r"].borda, found["q"].borda) == (1, 0)


def test_seats_of_one_family_share_a_voice() -> None:
    """Two seats of one family against one of another: it is even, and a weight tips it."""
    ballots = [Ballot("a", {"x": 1, "y": 2}), Ballot("a2", {"x": 1, "y": 2}), Ballot("b", {"x": 2, "y": 1})]
    texts, families = {"x": "x", "y": "y"}, {"a": "f", "a2": "f", "b": "g"}
    assert {each.borda for each in standings(ballots, texts, families=families)} == {Fraction(1, 2)}
    assert standings(ballots, texts)[0].seat == "x"
    heavier = standings(ballots, texts, families=families, weights={"b": Fraction(3, 2)})
    assert (heavier[0].seat, heavier[0].borda) == ("y", Fraction(3, 5))


def test_tie_in_ranks_is_broken_by_scores() -> None:
    """Ranks lead; scores decide where ranks do not."""
    ballots = [
        Ballot("a", {"x": 1, "y": 2}, {"x": {"accuracy": 6.0}, "y": {"accuracy": 5.0}}),
        Ballot("b", {"x": 2, "y": 1}, {"x": {"accuracy": 2.0}, "y": {"accuracy": 9.0}}),
    ]
    assert standings(ballots, {"x": "1", "y": "2"})[0].seat == "y"


def test_excluded_seat_moves_nothing() -> None:
    """Neither its ballot nor its ranks count; it stands last, whoever puts it first."""
    ballots = [
        Ballot("evil", {"y": 1, "z": 2}),
        Ballot("y", {"evil": 1, "z": 2}),
        Ballot("z", {"evil": 1, "y": 2}),
        Ballot("w", {"z": 1, "evil": 2, "y": 3}),
    ]
    texts = {seat: seat for seat in ("evil", "y", "z")}
    found = standings(ballots, texts, without={"evil"})
    assert [each.seat for each in found] == ["z", "y", "evil"]
    assert (found[-1].borda, found[-1].ballots) == (0, 0)


def test_unanimous_leader_is_first_on_every_other_ballot() -> None:
    """Its own judge has no say; a tie, a dissenter or a single ballot make none."""
    a, b, c = Ballot("a", {"b": 2, "c": 1}), Ballot("b", {"a": 2, "c": 1}), Ballot("c", {"a": 1, "b": 2})
    assert unanimous_leader([a, b, c]) == "c"
    assert unanimous_leader([a, Ballot("b", {"a": 1, "c": 1}), c]) is None
    assert unanimous_leader([a, Ballot("b", {"a": 2, "c": 1}), Ballot("d", {"b": 1, "c": 2})]) is None
    assert unanimous_leader([a]) is None
    assert unanimous_leader([]) is None
