"""Plans: written once, read back unchanged, refused where they make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.evaluation.errors import BadPlan
from proxy.evaluation.plan import Entrant, checked, entrant, read_plan, vendor_of, write_plan
from tests.evaluation.scripted import plan


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With the same digest."""
    write_plan(tmp_path / "plan.json", plan())
    found = read_plan(tmp_path / "plan.json")
    assert found == plan()
    assert found.digest == plan().digest


def test_a_plan_is_not_written_over(tmp_path: Path) -> None:
    """It was published."""
    write_plan(tmp_path / "plan.json", plan())
    with pytest.raises(BadPlan, match="is there already"):
        write_plan(tmp_path / "plan.json", plan(margin=1))


def test_a_plan_that_was_changed_is_refused(tmp_path: Path) -> None:
    """A wider margin after the results were seen."""
    path = tmp_path / "plan.json"
    write_plan(path, plan())
    path.write_text(json.dumps({**json.loads(path.read_text()), "margin": 2.0}))
    with pytest.raises(BadPlan, match="was changed after"):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"digest": 1}', "nonsense"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever it is."""
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(BadPlan):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(BadPlan, match="bench-answers plan"):
        read_plan(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"judges": [{"name": "one", "vendor": "one"}, {"name": "two", "vendor": "two"}]}, "judges: Tuple should have"),
        ({"judges": [{"name": name, "vendor": "one"} for name in "abc"]}, "at least 3 vendors"),
        ({"candidate": {"name": "judge-one"}}, "cannot judge itself"),
        ({"candidate": {"name": "alpha"}}, "named twice"),
        ({"picker": "somebody"}, "none of the judges"),
        ({"verdicts_min": 3}, "verdicts_min"),
        ({"margin": float("nan")}, "margin"),
        ({"baselines": []}, "baselines"),
        ({"tie_rule": "best"}, "tie_rule"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    """With what is wrong."""
    with pytest.raises(BadPlan, match=said):
        checked({**plan().model_dump(), **changes}, "the plan")


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("gpt-4o", "openai"),
        ("o3-mini", "openai"),
        ("anthropic/claude-sonnet-4-6", "anthropic"),
        ("gemini-2.5-pro", "google"),
        ("mixtral-8x7b", "mistral"),
        ("somebody/model", "somebody"),
        ("model", ""),
    ],
)
def test_vendors_are_told_by_names(name: str, vendor: str) -> None:
    """Where they can be."""
    assert vendor_of(name) == vendor


def test_an_entrant_has_a_vendor() -> None:
    """Said or known."""
    assert entrant("mine=Acme") == Entrant(name="mine", vendor="acme")
    with pytest.raises(BadPlan, match="mine=VENDOR"):
        entrant("mine")
    with pytest.raises(BadPlan, match="write MODEL"):
        entrant("mine=a b")
