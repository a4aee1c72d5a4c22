"""The pages can be found: from the README and from the operator's page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.mark.parametrize(("page", "prefix"), [("README.md", "docs/"), ("docs/operating.md", "")])
def test_every_page_is_linked(page: str, prefix: str) -> None:
    """One that nobody finds is not there."""
    links = set(LINK.findall((ROOT / page).read_text()))
    pages = {f"{prefix}{file.name}" for file in (ROOT / "docs").glob("*.md")} - {page.rpartition("/")[2]}
    assert pages - links == set()


def test_no_link_leads_nowhere() -> None:
    """From any page of the project; what stands in code is no link."""
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "bench/README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for link in LINK.findall(re.sub(r"`[^`]*`", "", page.read_text())):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
