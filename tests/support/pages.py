"""What the pages of docs/ show, so that tests run it as it stands there."""

from __future__ import annotations

import re

from tests.support.gateway import ROOT


def shown(page: str, language: str, containing: str) -> str:
    """A block of code of a page of docs/."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def command(page: str, containing: str) -> str:
    """What a page has its reader type, without prompts."""
    block = shown(page, "console", containing)
    return "\n".join(line.removeprefix("$ ") for line in block.splitlines())
