"""What docs/orchestrate.md shows is what /v1/orchestrate takes and answers."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from plugins.conceal.orchestrate import _EVENTS as CONCEALED
from plugins.consensus import orchestrate_wire, results
from proxy.dialects import DIALECTS, orchestrate
from proxy.errors import CODES
from proxy.panel_calls import _INSTEAD
from tests.support.runs import meta, records, result

PAGE = (Path(__file__).parents[2] / "docs" / "orchestrate.md").read_text()


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def block(heading: str) -> Any:
    return json.loads(re.findall(r"```json\n(.*?)```", section(heading), re.DOTALL)[0])


def rows(heading: str, column: int = 0) -> set[str]:
    """The names in code of one column of a section's table."""
    cells = [line.split(" | ")[column] for line in section(heading).splitlines() if line.startswith("| ")][1:]
    return {name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)}


def shape(value: Any) -> Any:
    """Names of members, in their order, of the first item of a list."""
    if isinstance(value, dict):
        return {key: None if key in ("dimensions", "metadata") else shape(one) for key, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def test_the_request_is_one_that_nobody_refuses_and_every_member_is_named() -> None:
    """The example and the table."""
    call = DIALECTS["tollway.orchestrate"].parse(json.dumps(block("Request")).encode())
    assert (call.model, call.stream, call.output_tokens_max) == ("balanced", True, 800)
    assert rows("Request") >= set(orchestrate._MEMBERS)


def test_the_answer_has_the_members_of_one() -> None:
    """In their order."""
    given = result(skipped=(), flags=())
    real = results.orchestration(given, records(), meta(metadata={"ticket": "4711"}))
    shown = block("Answer")
    assert shape(shown) == shape(real)
    assert list(shown) == list(real)


def test_every_event_is_named() -> None:
    """And none that is never sent; each of them can be concealed."""
    told = {"accepted", *orchestrate_wire._TOLD, "token", "quality", "usage", "done", "error"}
    assert rows("Events") == told
    assert set(CONCEALED) == told - {"error"}


def test_codes_of_errors_are_codes_with_these_statuses() -> None:
    """Each one in the row of its status."""
    for line in section("Errors").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "status":
            statuses = {int(one) for one in cells[0].split(", ")}
            assert {CODES[code].status for code in re.findall(r"`([a-z_]+)`", cells[1])} <= statuses


def test_what_a_chat_with_a_panel_refuses_is_named() -> None:
    """With the members that have a hint of their own, save for those that go together."""
    said = section("The same as a chat completion")
    assert [
        name for name in _INSTEAD if name not in ("top_logprobs", "function_call") and f"`{name}`" not in said
    ] == []


def test_python_on_the_page_is_python() -> None:
    """It can be parsed."""
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        ast.parse(code)
