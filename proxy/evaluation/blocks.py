"""What a report is made of, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """Of a section."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """Plain text each."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are plain text; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot, and in words what it shows. A table beside it has the same numbers."""

    svg: str
    caption: str


Block = Heading | Paragraph | Bullets | Table | Figure


def markdown(blocks: Sequence[Block]) -> str:
    """Figures are left out: their tables have the numbers."""
    return "\n\n".join(text for block in blocks if (text := _markdown(block))) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text, strong):
            return f"**{_plain(text)}**" if strong else _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Table(caption, head, rows):
            lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
            return "\n".join([f"{_plain(caption)}\n", *lines])
        case Figure():
            return ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """One line, in which nothing is markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\`*<>[]" else sign for sign in flat)
