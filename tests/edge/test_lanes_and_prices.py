"""Lanes and their prices through a whole proxy: who serves, what is charged, what the ledger keeps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.edge.kinds import CHAT, books
from tests.peers.behaviour import Behaviour
from tests.support.world import MODELS, World, world

BANDS = [{"above": 200, "input": "4", "output": "20"}]
MODELS_HERE: dict[str, Any] = {
    **MODELS,
    "vendor/small": {
        "candidates": [{"upstream": "openai", "model": "gpt-small", "capabilities": ["streaming"]}],
        "price": {"input": "0.1", "output": "0.2"},
        "context": 1000,
        "output_max": 500,
    },
    "large": {
        "candidates": [{"upstream": "openai", "model": "gpt-large", "capabilities": ["streaming", "tools"]}],
        "price": {"input": "3", "output": "15", "audio": "8", "image": "7", "audio_output": "40", "bands": BANDS},
        "context": 100_000,
    },
    "route": {"lane": ["vendor/small", "large"], "price": {"input": "1", "output": "2"}},
    "published": {
        "candidates": [{"upstream": "openai", "model": "gpt-4.1"}],
        "price": "genai:openai/gpt-4.1",
        "context": 100_000,
    },
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("lanes"), policies={"models": {"models": MODELS_HERE}}) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(scope="module")
def caller(lanes: World) -> str:
    return lanes.gateway.make_key()


def ask(lanes: World, caller: str, **members: Any) -> httpx.Response:
    """A chat with members of its body changed."""
    headers = {"authorization": f"Bearer {caller}"}
    url = lanes.gateway.url("api") + CHAT.path
    return httpx.post(url, json={**CHAT.body, **members}, headers=headers)


def amounts(lanes: World, answer: httpx.Response) -> tuple[int, int | None]:
    """What was charged and what it cost at list."""
    assert answer.status_code == 200, answer.text
    hold = books(lanes).of(answer.headers["x-tollway-request-id"])
    return hold.charged, hold.list_cost


def source_of(lanes: World, answer: httpx.Response) -> str:
    """Where the ledger says that the price came from."""
    amounts(lanes, answer)
    with closing(sqlite3.connect(lanes.gateway.folder / "var" / "tollway.db")) as connection:
        query = "SELECT price_source FROM holds WHERE exchange_id = ?"
        (found,) = connection.execute(query, (answer.headers["x-tollway-request-id"],)).fetchone()
    return str(found)


def test_the_cheapest_member_serves_at_the_lanes_price(lanes: World, caller: str) -> None:
    """Two words in and ten out: charged at 1 and 2, cost at 0.1 and 0.2 dollars a million."""
    answer = ask(lanes, caller, model="route")
    assert answer.headers["x-route-model"] == "vendor/small"
    assert amounts(lanes, answer) == (2 * 1_000 + 10 * 2_000, 2 * 100 + 10 * 200)
    assert source_of(lanes, answer) == "models.yaml"


def test_what_the_cheapest_cannot_do_goes_to_another(lanes: World, caller: str) -> None:
    """Tools, and input that is too long for it by count."""
    long = [{"role": "user", "content": "one two " * 1_000}]
    spaces = [{"role": "user", "content": " " * 5_000}]
    answers = [ask(lanes, caller, model="route", **asked) for asked in (
        {"tools": [TOOL]}, {"messages": long}, {"messages": spaces},
    )]  # fmt: skip
    assert [answer.headers["x-route-model"] for answer in answers] == ["large", "large", "vendor/small"]


def test_what_none_can_do_is_refused_before_anything_is_called(lanes: World, caller: str) -> None:
    """400 with the member that asks for it; no hold is made."""
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]
    answer = ask(lanes, caller, model="route", messages=image)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "messages"
    assert "'route' cannot read images" in answer.json()["error"]["message"]
    tools = ask(lanes, caller, model="vendor/small", tools=[TOOL])
    assert tools.json()["error"]["param"] == "tools"


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "prompt_tokens_details": {"audio_tokens": 20, "image_tokens": 30},
                "completion_tokens_details": {"audio_tokens": 40},
            },
            50 * 3_000 + 20 * 8_000 + 30 * 7_000 + 10 * 15_000 + 40 * 40_000,
        ),
        ({"prompt_tokens": 200, "completion_tokens": 5}, 200 * 3_000 + 5 * 15_000),
        ({"prompt_tokens": 201, "completion_tokens": 5}, 201 * 4_000 + 5 * 20_000),
    ],
    ids=["images and audio", "at the band", "past the band"],
)
def test_usage_is_charged_kind_by_kind_in_its_band(lanes: World, caller: str, usage: dict[str, Any], nano: int) -> None:
    """To the nano-dollar."""
    lanes.provider.script(Behaviour(usage=usage))
    assert amounts(lanes, ask(lanes, caller, model="large")) == (nano, nano)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("asked", "served"), [("route", "vendor/small"), ("large", None)])
def test_an_upstream_that_answers_with_another_models_name_changes_no_price(
    lanes: World, caller: str, asked: str, served: str | None, stream: bool
) -> None:
    """Charged, priced and booked by what was asked for and who was called, not by what an answer calls itself."""
    honest = ask(lanes, caller, model=asked, stream=stream)
    kind = "chat.completion.chunk" if stream else "chat.completion"
    part = {"delta" if stream else "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 2, "completion_tokens": 10, "total_tokens": 12}
    whole = {"id": "x", "object": kind, "created": 1, "model": "published", "choices": [{"index": 0, **part}]}
    body = json.dumps({**whole, "usage": usage})
    told = f"data: {body}\n\ndata: [DONE]\n\n" if stream else body
    lanes.provider.script(Behaviour(body=told.encode()))
    answer = ask(lanes, caller, model=asked, stream=stream)
    assert amounts(lanes, answer) == amounts(lanes, honest)
    assert books(lanes).of(answer.headers["x-tollway-request-id"]).model == asked
    assert answer.headers.get("x-route-model") == served
    assert source_of(lanes, answer) == "models.yaml"


def test_the_ledger_keeps_where_a_price_came_from(lanes: World, caller: str) -> None:
    """Package, version, model and day."""
    answer = ask(lanes, caller, model="published")
    assert amounts(lanes, answer)[0] == 2 * 2_000 + 10 * 8_000
    assert source_of(lanes, answer).startswith("genai-prices ")
    assert " openai/gpt-4.1 20" in source_of(lanes, answer)


def test_a_vendor_name_works_in_the_path_and_nothing_longer_does(lanes: World, caller: str) -> None:
    """An encoded slash is refused; what only begins like a model is none."""
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    url, headers = lanes.gateway.url("api"), {"authorization": f"Bearer {caller}"}
    paths = ("vendor/small", "vendor%2Fsmall", "vendor/small/x", "vendor")
    answers = [httpx.post(f"{url}/v1/chat/completions/{path}", json=body, headers=headers) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 400, 404, 404]
