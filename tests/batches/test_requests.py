"""A batch as it comes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from proxy.batches.requests import parse
from proxy.errors import Refusal
from tests.support.fakes import generation, model

CONSENSUS: Any = SimpleNamespace(
    modes={"fast": None, "balanced": None},
    auto=None,
    prefix="consensus-",
    default_mode="balanced",
    batch_prompts_max=20,
)
UNDER = replace(
    generation(models={name: model(name) for name in ("consensus-fast", "consensus-balanced")}), consensus=CONSENSUS
)


def parsed(**document: Any) -> Any:
    return parse(orjson.dumps(document), UNDER)


def test_texts_and_objects_become_requests_of_their_own() -> None:
    """What a prompt does not say itself, it takes from its batch."""
    wanted = parsed(
        prompts=["One?", {"prompt": "Two?", "mode": "balanced", "max_tokens": 100}, {"messages": [_user("Three?")]}],
        mode="fast",
        domain="legal",
        webhook_url="https://hooks.example.com/",
    )
    assert [orjson.loads(body) for body in wanted.prompts] == [
        {"prompt": "One?", "mode": "fast", "domain": "legal"},
        {"prompt": "Two?", "mode": "balanced", "domain": "legal", "max_tokens": 100},
        {"messages": [_user("Three?")], "mode": "fast", "domain": "legal"},
    ]
    assert wanted.models == ("consensus-fast", "consensus-balanced")
    assert wanted.webhook_url == "https://hooks.example.com/"


@pytest.mark.parametrize("count", [0, 21])
def test_batch_of_none_or_too_many_is_refused_and_says_how_many_it_takes(count: int) -> None:
    """1 to 20."""
    with pytest.raises(Refusal, match=rf"1 to 20 prompts; this one has {count}") as refused:
        parsed(prompts=["?"] * count)
    assert (refused.value.status, refused.value.param) == (400, "prompts")


def test_batch_of_one_and_of_twenty_are_taken() -> None:
    """Without a mode it is the configuration's."""
    assert parsed(prompts=["?"]).models == ("consensus-balanced",)
    assert len(parsed(prompts=["?"] * 20).prompts) == 20


@pytest.mark.parametrize(
    ("document", "status", "param"),
    [
        ({}, 400, "prompts"),
        ({"prompts": "one"}, 400, "prompts"),
        ({"prompts": ["?"], "model": "gpt-4o"}, 400, "model"),
        ({"prompts": ["?", 3]}, 400, "prompts[1]"),
        ({"prompts": ["?", ""]}, 400, "prompts[1].prompt"),
        ({"prompts": ["?", {}]}, 400, "prompts[1].prompt"),
        ({"prompts": [{"prompt": "?", "messages": []}]}, 400, "prompts[0].prompt"),
        ({"prompts": [{"prompt": "?", "tools": []}]}, 400, "prompts[0].tools"),
        ({"prompts": [{"prompt": "?", "stream": True}]}, 400, "prompts[0]"),
        ({"prompts": [{"prompt": "?", "webhook_url": "https://a.example/"}]}, 400, "prompts[0]"),
        ({"prompts": ["?"], "mode": "deepest"}, 404, "prompts[0].mode"),
        ({"prompts": ["?"], "domain": "astrology"}, 400, "prompts[0].domain"),
        ({"prompts": [{"prompt": "?", "max_tokens": 0}]}, 400, "prompts[0].max_tokens"),
        ({"prompts": ["?"], "webhook_url": 3}, 400, "webhook_url"),
    ],
)
def test_first_thing_that_is_wrong_is_named_with_its_place(document: Any, status: int, param: str) -> None:
    """Before anything of the batch is kept."""
    with pytest.raises(Refusal) as refused:
        parsed(**document)
    assert (refused.value.status, refused.value.param) == (status, param)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"prompts": ["?"], "prompts": []}', b"{" * 10_000])
def test_body_that_has_no_single_meaning_is_refused(body: bytes) -> None:
    """As any other request's."""
    with pytest.raises(Refusal) as refused:
        parse(body, UNDER)
    assert refused.value.status == 400


def test_without_panels_there_are_no_batches() -> None:
    """404 that says so."""
    with pytest.raises(Refusal, match="No panels") as refused:
        parse(b'{"prompts": ["?"]}', generation())
    assert refused.value.status == 404


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
