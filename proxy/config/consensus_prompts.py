"""Prompts of policies/consensus.yaml: templates whose placeholders are known, and all there that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter

from proxy.config.consensus_entries import PromptsEntry
from proxy.config.problems import Marks, Problem, near
from proxy.consensus.settings import PLACEHOLDERS, Prompts


def build_prompts(entry: PromptsEntry, marks: Marks, problems: list[Problem]) -> Prompts:
    """The texts as they are; what is wrong with their placeholders goes to `problems`."""
    texts: dict[str, str] = entry.model_dump()
    for name, text in texts.items():
        problems.extend(_problems(name, text, marks))
    return Prompts(**texts)


def _problems(name: str, text: str, marks: Marks) -> Iterator[Problem]:
    needed, known = PLACEHOLDERS[name]
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as error:
        yield marks.problem((name,), f"{str(error).lower()}: write {{{{ and }}}} for braces of the text itself")
        return
    found: set[str] = set()
    for _, placeholder, form, conversion in pieces:
        if placeholder is None:
            continue
        if placeholder not in known or form or conversion:
            shown = "".join(f"{{{one}}}" for one in sorted(known))
            yield marks.problem(
                (name,),
                f"unknown placeholder '{{{placeholder}}}'; here are {shown}, and braces of the text itself are doubled",
                suggestion=near(placeholder, known),
            )
        found.add(placeholder)
    for placeholder in sorted(needed - found):
        yield marks.problem((name,), f"the placeholder '{{{placeholder}}}' is missing")
