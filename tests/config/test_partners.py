"""Partners and their shares in config.yaml."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from proxy import shipped
from proxy.config.load import load_generation
from proxy.config.problems import ConfigProblems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in shipped.FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((shipped.folder() / name).read_bytes())
    return tmp_path


def edit(folder: Path, old: str, new: str) -> Path:
    path = folder / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_a_share_is_the_decimal_that_the_file_spells(folder: Path) -> None:
    """No float comes near money."""
    path = edit(folder, "partner-a: {share_percent: 70}", "partner-a: {share_percent: 33.3}")
    assert load_generation(path).file.partners["partner-a"].share_percent == Decimal("33.3")


def test_a_misspelt_partner_is_found_with_its_place(folder: Path) -> None:
    """It would be paid nothing for what it serves."""
    path = edit(folder, "    partner: partner-a\n", "    partner: partner-aa\n")
    with pytest.raises(ConfigProblems) as found:
        load_generation(path)
    (problem,) = [one for one in found.value.problems if "partners" in one.message]
    assert (problem.key, problem.suggestion) == ("upstreams.partner-a.partner", "partner-a")


@pytest.mark.parametrize("share", ["-1", "100.5", "lots"])
def test_a_share_is_a_percentage(folder: Path, share: str) -> None:
    """From 0 to 100."""
    path = edit(folder, "partner-a: {share_percent: 70}", f"partner-a: {{share_percent: {share}}}")
    with pytest.raises(ConfigProblems):
        load_generation(path)
