"""The final answer is looked at like any other."""

from __future__ import annotations

import pytest

from tests.panels.test_bad_members import ask, shared_out, streamed
from tests.support.panel_world import Cast, PanelWorld


@pytest.fixture(autouse=True)
def staged(cast: Cast) -> Cast:
    return cast


async def test_synthesiser_that_writes_control_characters_is_replaced(house: PanelWorld, key: str, cast: Cast) -> None:
    """Nothing of it was sent: the next one writes."""
    cast.members = shared_out()
    cast.members["one"].roles["synthesise"] = streamed("\x00\x01\x02" * 40)
    assert (await ask(house, key)).json()["answer"] == "After all: forty-two."


async def test_synthesiser_that_declines_does_not_pass_the_gate(house: PanelWorld, key: str, cast: Cast) -> None:
    """Members did answer."""
    cast.members = shared_out(synthesise=streamed("I'm sorry, but I can't help with that."))
    result = (await ask(house, key)).json()
    assert result["gate"] == "failed"


async def test_verified_answer_that_declines_is_the_best_members(house: PanelWorld, key: str, cast: Cast) -> None:
    """Nothing was sent before it was looked at."""
    cast.members = shared_out(synthesise=streamed("I'm sorry, but I can't help with that."))
    result = (await ask(house, key, verified=True)).json()
    assert (result["gate"], result["source"]) == ("replaced", "best_member")


async def test_dissent_of_an_answer_that_cannot_be_read_leaves_nobody_out(
    house: PanelWorld, key: str, cast: Cast
) -> None:
    """Three positions, no majority, and a final answer that spells its number."""
    cast.members = shared_out()
    positions = {one["position"] for one in (await ask(house, key)).json()["dissent"]}
    assert {"40", "41"} <= positions


async def test_result_is_recognised_where_the_answer_names_it(house: PanelWorld, key: str, cast: Cast) -> None:
    """As a word of its own, and no other member's result beside it."""
    cast.members = shared_out(synthesise=streamed("Six times seven is 42."))
    result = (await ask(house, key)).json()
    assert {one["position"] for one in result["dissent"]} == {"40", "41"}
    assert result["agreement"] == pytest.approx(1 / 3, abs=0.01)
