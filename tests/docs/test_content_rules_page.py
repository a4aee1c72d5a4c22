"""docs/content-rules.md: its example is a configuration, and every shipped rule has a paragraph."""

from __future__ import annotations

from pathlib import Path

from proxy.config.rules import ContentEntry
from proxy.config.source import parse_document
from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import ContentRule
from proxy.text.matching import problem

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "content-rules.md").read_text()


def test_the_example_can_be_used() -> None:
    """Each entry is one that teams.yaml takes; own patterns have no fault."""
    block = [line for line in PAGE.splitlines() if line.startswith("    ")]
    entries = parse_document("\n".join(block).encode(), "page").data["teams"]["research"]["content"]
    assert len(entries) == 4
    for entry in entries:
        read = ContentEntry.model_validate({"name": entry} if isinstance(entry, str) else entry)
        assert read.name in PATTERNS or read.pattern
        if read.pattern is not None:
            assert problem(ContentRule(read.name, read.pattern, read.action or "")) is None


def test_every_shipped_rule_is_described() -> None:
    """What it matches and what not."""
    assert [name for name in PATTERNS if f"**`{name}`**" not in PAGE] == []
