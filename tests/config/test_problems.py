"""Problems: how they read, and what was probably meant."""

from __future__ import annotations

import pytest

from proxy.config.problems import ConfigProblems, Mark, Marks, Problem, key_text, near


def test_a_problem_reads_like_a_compilers() -> None:
    """file:line:column: key: message. Did you mean ...?"""
    problem = Problem("config.yaml", 14, 5, "listeners[0].bnd", "unknown key 'bnd'", "bind")
    assert str(problem) == "config.yaml:14:5: listeners[0].bnd: unknown key 'bnd'. Did you mean 'bind'?"
    assert str(Problem("f", 1, 1, "", "empty")) == "f:1:1: empty"


def test_all_problems_stand_in_the_exceptions_text() -> None:
    """One a line."""
    error = ConfigProblems([Problem("f", 1, 1, "", "a"), Problem("f", 2, 1, "", "b")])
    assert str(error) == "f:1:1: a\nf:2:1: b"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("opnai", "openai"), ("OpenAI", "openai"), ("open_ai", "open-ai"), ("zzzz", None), ("", None)],
)
def test_near_misses(written: str, meant: str | None) -> None:
    """Typing errors, another case, - for _; never a wild guess."""
    assert near(written, ["openai", "open-ai", "anthropic"]) == meant


def test_a_place_falls_back_to_what_surrounds_it() -> None:
    """A missing key is reported where its mapping begins."""
    marks = Marks("f", {("a",): Mark(1, 1)}, {(): Mark(1, 1), ("a",): Mark(2, 3)})
    assert marks.find(("a", "b", 0)) == Mark(2, 3)
    assert marks.below("a").find(("b",)) == Mark(2, 3)
    assert marks.find(("a",), key=True) == Mark(1, 1)


def test_paths_read_as_one_would_write_them() -> None:
    """Indices in brackets."""
    assert key_text(("chain", 3, "identity", "key_prefix")) == "chain[3].identity.key_prefix"
