"""Final answers: what says the same is the same, and what does not is not."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.consensus.numbers import number, scaled, spelled
from proxy.consensus.typed import OPEN_ANSWER, Kind, Typed, extracted, grouped, same, typed


@pytest.mark.parametrize(
    ("written", "value", "unit"),
    [
        ("18", "18", ""),
        ("18.00", "18", ""),
        ("$18.00", "18", "usd"),
        ("18 dollars", "18", "usd"),
        ("USD 18", "18", "usd"),
        ("$-5", "-5", "usd"),
        ("−5", "-5", ""),
        ("18 cents", "18", "cent"),
        ("1,234,567.5", "1234567.5", ""),
        ("1.234.567,5", "1234567.5", ""),
        ("12,34,567", "1234567", ""),
        ("1'234", "1234", ""),
        ("1 234 567", "1234567", ""),
        ("1\u202f234", "1234", ""),
        ("1,234", "1234", ""),
        ("1,5", "1.5", ""),
        ("0,125", "0.125", ""),
        ("1.234", "1.234", ""),
        ("50%", "50", "%"),
        ("12.5 percent", "12.5", "%"),
        ("1/2", "0.5", ""),
        ("2/6", "1/3", ""),
        ("1 1/2", "1.5", ""),
        ("1½", "1.5", ""),
        ("-3/4", "-0.75", ""),
        ("1.2e5", "120000", ""),
        ("1.2 × 10^5", "120000", ""),
        ("1.2 x 10⁻²", "0.012", ""),
        ("10^6", "1000000", ""),
        ("$1.5 million", "1500000", "usd"),
        ("5k", "5000", ""),
        ("approximately 12 km", "12", "km"),
        ("~7 hours", "7", "h"),
        ("5 km/h", "5", "km/h"),
        ("x = 5", "5", ""),
        (r"\$18", "18", "usd"),
        (r"\boxed{\frac{1}{2}}", "0.5", ""),
        ("$18$", "18", ""),
        ("**42**", "42", ""),
        ("18 eggs per day", "18", ""),
        ("١٢", "12", ""),
        ("１２", "12", ""),
        ("12.", "12", ""),
    ],
)
def test_numbers_are_read_as_people_write_them(written: str, value: str, unit: str) -> None:
    """Separators, currencies, units, percent, fractions, powers, LaTeX, other digits."""
    found = typed(Kind.NUMBER, written)
    assert (found.kind, found.value, found.unit) == (Kind.NUMBER, value, unit)


@pytest.mark.parametrize(
    "written",
    ["2024-05-01", "3:30", "5-7", "1.2.3", "1/0", "1e999999", "between 5 and 7", "$5 €", "5 6", "v2", "9" * 180],
)
def test_what_is_no_single_number_is_not_made_one(written: str) -> None:
    """Dates, times, ranges, versions, two numbers, and what is too large."""
    assert typed(Kind.NUMBER, written).kind is Kind.SHORT


@pytest.mark.parametrize(
    ("written", "letter"),
    [
        ("A", "A"),
        ("a", "A"),
        ("(a)", "A"),
        ("B.", "B"),
        ("option B", "B"),
        ("Answer: c", "C"),
        ("The correct answer is (D)", "D"),
        ("**E**", "E"),
        ("B) Paris", "B"),
        ("(b) Paris", "B"),
        ("C: all of them", "C"),
        ("C, A", "A,C"),
        ("A and C", "A,C"),
    ],
)
def test_choices_are_their_letter(written: str, letter: str) -> None:
    """However they are set off, with their text or without, several of them sorted."""
    found = typed(Kind.CHOICE, written)
    assert (found.kind, found.value) == (Kind.CHOICE, letter)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Kind.SHORT, "18", 18),
        (Kind.SHORT, "The Paris.", "paris"),
        (Kind.SHORT, "“São Paulo”", "são  paulo"),
        (Kind.SHORT, "Yes!", "yes"),
        (Kind.SHORT, "true", True),
        (Kind.CHOICE, "option 2", "2"),
        (Kind.NUMBER, "$18.00", "18"),
        (Kind.NUMBER, "5 km", "5000 metres"),
        (Kind.NUMBER, "50%", "0.5"),
        (Kind.NUMBER, "50%", "50"),
        (Kind.NUMBER, "150 cents", "$1.50"),
        (Kind.NUMBER, "90 min", "1.5 h"),
        (Kind.JSON, {"a": 1.0, "b": [True]}, '{"b": [true], "a": 1}'),
        (Kind.JSON, '```json\n{"a": 1}\n```', {"a": 1}),
    ],
)
def test_the_same_said_otherwise_is_the_same(kind: Kind, one: object, other: object) -> None:
    """Either way round."""
    assert same(typed(kind, one), typed(kind, other))
    assert same(typed(kind, other), typed(kind, one))


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Kind.NUMBER, "18", "19"),
        (Kind.NUMBER, "5 km", "5 miles"),
        (Kind.NUMBER, "$5", "5 €"),
        (Kind.NUMBER, "5 km/h", "5 m/s"),
        (Kind.NUMBER, "1/3", "0.33"),
        (Kind.CHOICE, "A", "B"),
        (Kind.SHORT, "Yes", "No"),
        (Kind.SHORT, "3 Musketeers", "3 Stooges"),
        (Kind.JSON, {"a": 1}, {"a": True}),
        (Kind.JSON, {"a": 1}, {"a": "1"}),
        (Kind.OPEN, "x", "x"),
    ],
)
def test_other_answers_are_not_the_same(kind: Kind, one: object, other: object) -> None:
    """Open ones least of all."""
    assert not same(typed(kind, one), typed(kind, other))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("She sells 9 eggs.\nA: 18", Kind.NUMBER, "18"),
        ("9 * 2 = $<<9*2=18>>18\n#### 18", Kind.NUMBER, "18"),
        ("The answer is $18.00.", Kind.NUMBER, "18"),
        ("Therefore the answer is 18, because she sold 3 fewer.", Kind.NUMBER, "18"),
        ("**Final Answer:** 18 eggs", Kind.NUMBER, "18"),
        (r"Hence \boxed{\frac{1}{2}}.", Kind.NUMBER, "0.5"),
        ("The answer is (C).", Kind.CHOICE, "C"),
        ("Reasons.\n\nAnswer: B) Paris", Kind.CHOICE, "B"),
        ("Answer: Paris", Kind.SHORT, "paris"),
        ("Die Antwort lautet 1.234,5 Euro.", Kind.NUMBER, "1234.5"),
        ("La respuesta es 12.", Kind.NUMBER, "12"),
        ("所以\n答案：42", Kind.NUMBER, "42"),
        ("42", Kind.NUMBER, "42"),
        ("18 dollars", Kind.NUMBER, "18"),
        ("B", Kind.CHOICE, "B"),
        ('{"a": 1}', Kind.JSON, '{"a":1}'),
        ("First A: 3\nA: 4\nA: 5", Kind.NUMBER, "5"),
    ],
)
def test_answers_are_found_in_texts(text: str, kind: Kind, value: str) -> None:
    """By label, by sentence, by box, the last of several; or because the text is nothing else."""
    found = extracted(text)
    assert (found.kind, found.value) == (kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The capital is Paris.",
        "The answer is complicated and depends on the contract.",
        "It was 18 or 19.",
        "x" * 300,
    ],
)
def test_open_text_stays_open(text: str) -> None:
    """Nothing is made up: an open answer costs a round, a wrong one the answer."""
    assert extracted(text) == OPEN_ANSWER


VALUES = st.fractions(max_denominator=5000).filter(lambda value: abs(value) < 10**12)


@given(VALUES)
@settings(deadline=None)
def test_spelling_a_number_and_reading_it_gives_it_back(value: Fraction) -> None:
    """Canonical form is exact."""
    found = number(spelled(value))
    assert found is not None and found.value == value


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{:,}", "${:,}", "{:,} dollars", "{}.00", "**{}**", "{:_}"]))
@settings(deadline=None)
def test_every_spelling_of_a_number_is_the_same(value: int, spelling: str) -> None:
    """Grouped, with currency, with zeros behind the point, emphasised."""
    assert same(typed(Kind.NUMBER, spelling.format(value)), typed(Kind.NUMBER, value))


ANSWERS = st.sampled_from(
    [
        "5",
        "5 km",
        "5000 m",
        "5 mi",
        "0.5",
        "50%",
        "50",
        "A",
        "b",
        "Paris",
        "paris.",
        "yes",
        '{"a": 1}',
        "$5",
        "500 cents",
    ]
) | st.text(max_size=12)
KINDS = st.sampled_from(list(Kind))


@given(KINDS, ANSWERS)
@settings(deadline=None)
def test_canonical_form_is_its_own(kind: Kind, answer: str) -> None:
    """What was made canonical once is the same when it is read again."""
    once = typed(kind, answer)
    if once.kind is not Kind.OPEN:
        again = typed(once.kind, once.value)
        assert (again.kind, again.value) == (once.kind, once.value)


@given(st.lists(st.builds(typed, KINDS, ANSWERS), max_size=9), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_groups_do_not_depend_on_the_order_of_answers(answers: list[Typed], chance: random.Random) -> None:
    """Everyone with a position is in one group, open answers are in none, and shuffling changes no group's size."""
    groups = grouped(answers)
    assert sorted(index for group in groups for index in group) == [
        index for index, answer in enumerate(answers) if answer.kind is not Kind.OPEN
    ]
    chance.shuffle(answers)
    assert sorted(map(len, grouped(answers))) == sorted(map(len, groups))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists) | st.text(), KINDS)
@settings(deadline=None)
def test_no_answer_is_too_odd(answer: object, kind: Kind) -> None:
    """Never a failure, and what is shown is bounded."""
    assert len(typed(kind, answer).shown) <= 200


def test_deep_and_long_answers_are_open() -> None:
    """Bounds of what is compared at all."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert typed(Kind.JSON, deep) == OPEN_ANSWER
    assert typed(Kind.SHORT, "x" * 201) == OPEN_ANSWER
    assert typed(Kind.NUMBER, 10**250) == OPEN_ANSWER


def test_units_of_one_dimension_meet() -> None:
    """Whatever the unit, the same amount scales to the same."""
    assert scaled(Fraction(1), "mi") == scaled(Fraction("1.609344"), "km")
    assert scaled(Fraction(5), "km/h") != scaled(Fraction(5), "km")


@pytest.mark.parametrize("said", ["N/A", "See above.", "none", "It depends", "I don’t know", "at most 200 characters"])
def test_what_stands_for_no_result_is_none(said: str) -> None:
    """Members who write it behind their essays do not agree on anything."""
    assert typed(Kind.SHORT, said).kind is Kind.OPEN
    assert extracted(f"A long text.\nAnswer: {said}").kind is Kind.OPEN


def test_months_are_no_years() -> None:
    """Nor weeks; twelve of them are one."""
    assert not same(typed(Kind.NUMBER, "3 months"), typed(Kind.NUMBER, "3 years"))
    assert not same(typed(Kind.NUMBER, "3 months"), typed(Kind.NUMBER, "3 weeks"))
    assert same(typed(Kind.NUMBER, "12 months"), typed(Kind.SHORT, "1 year"))
    assert same(typed(Kind.NUMBER, "3"), typed(Kind.NUMBER, "3 years"))


@pytest.mark.parametrize("said", ["A queue between them", "I would ask a lawyer", "a mix of both"])
def test_prose_behind_a_label_is_no_choice(said: str) -> None:
    """Its first word only looks like one."""
    assert extracted(f"Some thoughts.\nAnswer: {said}").kind is not Kind.CHOICE
    assert extracted("Some thoughts.\nAnswer: A Paris").value == "A"
