"""YAML with places: what is taken, what is refused, and where a problem is said to be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.problems import ConfigProblems, Mark
from proxy.config.source import DEPTH_MAX, FILE_BYTES_MAX, parse_document, read_document


def parsed(text: str) -> object:
    return parse_document(text.encode(), "f.yaml").data


def refused(text: str | bytes) -> str:
    with pytest.raises(ConfigProblems) as raised:
        parse_document(text if isinstance(text, bytes) else text.encode(), "f.yaml")
    return str(raised.value)


def test_money_keeps_every_digit_that_the_file_spells() -> None:
    """A number with a point is the decimal of its text, never a float."""
    assert parsed("a: 0.1\nb: 2.50\nc: 1.0e-3\nd: .5") == {
        "a": Decimal("0.1"),
        "b": Decimal("2.50"),
        "c": Decimal("0.001"),
        "d": Decimal("0.5"),
    }
    assert str(parsed("0.30000000000000004")) == "0.30000000000000004"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("0x10", "0x10"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("1_000", 1000),
        ("-5", -5),
        ("'5'", "5"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2024-01-01", "2024-01-01"),
        ("1e3", Decimal(1000)),
        ("9" * 60, "9" * 60),
    ],
)
def test_plain_words_mean_what_they_look_like(text: str, value: object) -> None:
    """YAML 1.1's surprises (no = false, 12:30 = 750, dates) do not happen."""
    assert parsed(f"x: {text}") == {"x": value}


def test_every_key_and_value_has_its_place() -> None:
    """Lines and columns count from 1."""
    marks = parse_document(b"a:\n  - b: 1\n    c: two\n", "f.yaml").marks
    assert marks.keys["a", 0, "c"] == Mark(3, 5)
    assert marks.values["a", 0, "c"] == Mark(3, 8)


def test_a_duplicate_key_is_refused_with_both_places() -> None:
    """The second key's place, and the first one's line."""
    assert refused("a: 1\nb: 2\na: 3") == "f.yaml:3:1: the key 'a' stands twice; the first is on line 1"


def test_keys_are_texts_whatever_they_look_like() -> None:
    """A model named 4 or true is no trap."""
    assert parsed("4: a\ntrue: b\n1.0: c") == {"4": "a", "true": "b", "1.0": "c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system [id]", "tags such as"),
        ("a: !secret x", "tags such as"),
        ("a: 1\n---\nb: 2", "one document a file"),
        ("base: &b {x: 1}\nc:\n  <<: *b", "merge keys"),
        ("a: *nobody", "alias"),
        ("a: &a [*a]", "alias"),
        ("? [a, b]\n: c", "a key is a text"),
        ("a: [1, 2", "not valid YAML"),
        ("a:\n\t- b", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        (b"a: \xff", "not UTF-8"),
        (b"a: \x00", "not valid YAML"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_a_place(text: str | bytes, said: str) -> None:
    """Nothing in a file can do more than be a value."""
    message = refused(text)
    assert said in message
    assert message.startswith("f.yaml:")


def test_aliases_repeat_a_value() -> None:
    """An anchor can be used; it stands for a copy."""
    assert parsed("a: &x {k: [1]}\nb: *x") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_a_billion_laughs_is_refused() -> None:
    """Aliases of aliases are counted as what they stand for."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases counted each time" in refused("\n".join(lines))


def test_nesting_is_bounded_in_the_file_and_through_aliases() -> None:
    """Neither brackets nor a chain of aliases can exhaust the stack."""
    assert "nested deeper" in refused("[" * 100_000)
    chain = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000)]
    assert "nested deeper" in refused("\n".join(chain))
    inner = "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1)
    assert parsed(f"a: {inner}")


def test_a_large_or_absent_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    """The size is limited before anything is parsed."""
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigProblems, match="larger than"):
        read_document(large, "large.yaml")
    with pytest.raises(ConfigProblems, match="No such file"):
        read_document(tmp_path / "none.yaml", "none.yaml")


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@, \n\t0.1~?<"), max_size=60))
def test_any_text_is_data_or_a_problem(text: str) -> None:
    """Noise never raises anything else."""
    try:
        document = parse_document(text.encode(), "f.yaml")
    except ConfigProblems as error:
        assert error.problems
    else:
        assert () in document.marks.values or document.data is None
