"""A report as one HTML file: no script, nothing loaded, light and dark, readable without seeing the plots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from proxy.evaluation.blocks import Block, Bullets, Figure, Heading, Paragraph, Table

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1c1f; --quiet: #5b6068; --line: #d5d9de; --band: #f1f3f5;
  --win: #1f5fbf; --loss: #b4530a; --warn: #fff2cc; }
@media (prefers-color-scheme: dark) { :root { --ground: #15171a; --ink: #e8eaed; --quiet: #a3a9b1; --line: #3a3f45;
  --band: #212529; --win: #7db2ff; --loss: #ffa45c; --warn: #4a3c00; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 60rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.notice { padding: .75rem 1rem; background: var(--warn); border-left: .4rem solid var(--loss); font-weight: 600; }
.wide { overflow-x: auto; } .wide:focus { outline: 2px solid var(--win); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom-width: 2px; } tbody th { font-weight: 500; }
figure { margin: 1.5rem 0; } figcaption { color: var(--quiet); } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg .quiet { fill: var(--quiet); }
svg .axis { stroke: var(--line); } svg .zero { stroke: var(--quiet); } svg .band { fill: var(--band); }
svg .win { stroke: var(--win); fill: var(--win); } svg .loss { stroke: var(--loss); fill: var(--loss); }
svg .mean { stroke: var(--ink); fill: var(--ink); }
"""


def html(title: str, blocks: Sequence[Block]) -> str:
    """The whole file."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text, strong):
            return f'<p class="notice" role="note">{escape(text)}</p>' if strong else f"<p>{escape(text)}</p>"
        case Bullets(items):
            return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"
        case Table():
            return _table(block)
        case Figure(svg, caption):
            return f"<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in table.rows
    )
    label = escape(table.caption, quote=True)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}">\n<table>\n<caption>{label}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )
