"""The public API's table of errors, code by code, each provoked over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.edge.kinds import CHAT, Kind
from tests.peers.behaviour import Behaviour
from tests.support.raw import Answer, Raw
from tests.support.world import CHAIN, GPT_4O_PRICE, LIMITS, MODELS, TEAMS, TIERS, World, world

LIKE_GPT_4O = {key: value for key, value in MODELS["gpt-4o"].items() if key != "candidates"}
PARTNER = {"base_url": "http://127.0.0.1:9/v1", "keyless": True, "partner": "gpu-house"}
PARTNER_OFF = {"base_url": "https://gpu.example/v1", "key": "${GPU_HOUSE_KEY_THAT_NOBODY_SET}", "partner": "gpu-house"}


def table_models() -> dict[str, Any]:
    """A model for each refusal."""
    return {
        **MODELS,
        "qwen-coder": {**LIKE_GPT_4O, "candidates": ["openai"], "tiers": ["pro"]},
        "limited": {**LIKE_GPT_4O, "candidates": [{"upstream": "openai", "model": "limited"}]},
        "broken": {**LIKE_GPT_4O, "candidates": ["dead"]},
        "consortium-llama-70b": {**LIKE_GPT_4O, "candidates": ["partner-gpu"], "consortium": True},
        "consortium-off": {
            **LIKE_GPT_4O,
            "candidates": [{"upstream": "partner-off", "model": "gpt-4o"}],
            "consortium": True,
        },
        "smart-route": {"lane": ["gpt-4o"], "price": GPT_4O_PRICE},
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A proxy whose circuits open at the second failure, whose team `poor` has next to nothing left."""
    teams = {**TEAMS["teams"], "poor": {**TEAMS["teams"]["default"], "caps": [{"usd": "0.000001", "window": "day"}]}}
    starter = {**TEAMS["teams"]["default"], "tier": "starter"}
    hasty = {**TEAMS["teams"]["default"], "tier": "hasty"}
    routing = {"routing": {"backoff_milliseconds": 1, "circuit_failures": 2}}
    chain = [routing if isinstance(entry, dict) and "routing" in entry else entry for entry in CHAIN]
    with world(
        tmp_path_factory.mktemp("table"),
        config={"chain": chain},
        policies={
            "models": {"models": table_models()},
            "teams": {**TEAMS, "teams": {**teams, "small": starter, "hasty": hasty}},
            "tiers": {
                "tiers": {**TIERS, "starter": {}, "hasty": {"requests": {"per_minute": 1, "burst": 1}}},
            },
            "limits": LIMITS,
        },
        more_upstreams={"partner-gpu": PARTNER, "partner-off": PARTNER_OFF},
    ) as running:
        yield running


def ask(table: World, key: str, kind: Kind = CHAT, **changes: Any) -> Answer:
    with Raw(table.gateway.address("api")) as raw:
        raw.send(kind.data(key, **changes))
        return raw.answer()


def check(answer: Answer, status: int, code: str, type_: str, *says: str) -> dict[str, Any]:
    """The envelope of the table: code, message, type; Retry-After wherever waiting helps."""
    assert (answer.status, answer.code) == (status, code), answer.body
    error: dict[str, Any] = answer.json()["error"]
    assert {"code", "message", "type"} <= error.keys()
    assert error["type"] == type_
    for text in says:
        assert text in error["message"], error["message"]
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    return error


@pytest.mark.parametrize("given", ["lld_" + "0" * 32, "lld_short", "lld_" + "G" * 32])
def test_invalid_api_key(table: World, given: str) -> None:
    """Malformed or unknown: 401, with the format that is wanted."""
    check(ask(table, given), 401, "invalid_api_key", "authentication_error", "Bearer lld_<32 hex digits>")


def test_revoked_key(table: World) -> None:
    """The same for one that was revoked while the proxy runs."""
    key = table.gateway.make_key()
    assert ask(table, key).status == 200
    table.gateway.cli("keys", "revoke", key)
    for _ in range(100):
        answer = ask(table, key)
        if answer.status == 401:
            break
    check(answer, 401, "invalid_api_key", "authentication_error")


def test_model_not_available(table: World) -> None:
    """Not in the catalogue at all: 404, with where to look and what was probably meant."""
    answer = ask(table, table.gateway.make_key(), model="gpt-4p")
    check(answer, 404, "model_not_available", "invalid_request_error", "gpt-4o", "/v1/models")


def test_model_not_in_tier(table: World) -> None:
    """It exists, but the tier cannot call it: 403 with tiers that can, and something the caller can call."""
    answer = ask(table, table.gateway.make_key(team="small"), model="qwen-coder")
    check(answer, 403, "model_not_in_tier", "invalid_request_error", "(starter)", "'qwen-coder'", "pro")


def test_no_consortium_machine_available(table: World) -> None:
    """Every partner's machine is down: 503, and a sibling to retry with."""
    key = table.gateway.make_key()
    answers = [ask(table, key, model="consortium-llama-70b") for _ in range(8)]
    check(answers[-1], 503, "no_consortium_machine_available", "api_error")


def test_no_consortium_machine_is_configured(table: World) -> None:
    """The same where no partner is set up at all; waiting does not help, so nothing says how long."""
    answer = ask(table, table.gateway.make_key(), model="consortium-off")
    assert (answer.status, answer.code) == (503, "no_consortium_machine_available")
    assert "Retry with 'gpt-4o' or 'smart-route'." in answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers


def test_upstream_circuit_open(table: World) -> None:
    """After repeated failures nobody is called any more: 503 with when to come back."""
    key = table.gateway.make_key()
    answers = [ask(table, key, model="broken") for _ in range(8)]
    check(answers[-1], 503, "upstream_circuit_open", "api_error")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_rate_limited_by_us(table: World) -> None:
    """429 with the exact number of seconds."""
    key = table.gateway.make_key(team="hasty")
    answers = [ask(table, key) for _ in range(2)]
    check(answers[1], 429, "rate_limited", "rate_limit_error")


def test_rate_limited_by_the_upstream(table: World) -> None:
    """The same code, with the upstream's own Retry-After."""
    table.provider.script(Behaviour(status=429, headers=(("retry-after", "7"),)), model="limited")
    answer = ask(table, table.gateway.make_key(), model="limited")
    check(answer, 429, "rate_limited", "rate_limit_error")
    assert answer.headers["retry-after"] == "7"


def test_quota_exhausted(table: World) -> None:
    """402 before anything is called, with what is left and when more comes."""
    called = len(table.provider.requests)
    answer = ask(table, table.gateway.make_key(team="poor"))
    error = check(answer, 402, "quota_exhausted", "insufficient_quota", "cap of team 'poor'")
    assert {"left_usd", "needed_usd", "resets_at"} <= error["cap"].keys()
    assert len(table.provider.requests) == called
