"""What payers may ask before they pay: what a request would cost, and what is sold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.balance.plugin import BalancePlugin
from plugins.payer_api.plugin import PayerApiPlugin
from proxy.assembly import endpoints_of
from proxy.config.schema import Generation
from proxy.payments.settings import L402, X402, Asset, Cashu, Mint
from proxy.pricing.money import Nano
from proxy.pricing.rates import Rates, parse_rate
from tests.support.fakes import generation, model
from tests.support.panels import panel_model
from tests.support.shop import Shop, code, told

PATH = "/v1/chat/completions"


def catalogue() -> Generation:
    smart = model("smart-route", rates=Rates(parse_rate("0.30"), parse_rate("0.90")), lane=True)
    models = {
        "auto": smart,
        "smart-route": smart,
        "gpt-4o": model(),
        "deepseek/deepseek-v3.2": model("deepseek/deepseek-v3.2"),
        "bge-m3": model("bge-m3", operations=frozenset({"embeddings"})),
        "claude": model("claude", operations=frozenset({"messages"})),
        "gpt-5": model("gpt-5", operations=frozenset({"responses", "chat.completions"})),
        "unpriced": model("unpriced", rates=None),
        "pro-only": model("pro-only", tiers=frozenset({"pro"})),
        "small": model("small", context_tokens=50, output_tokens_max=20, output_tokens_default=10),
    }
    return generation(models=models)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    made.open(BalancePlugin, PayerApiPlugin, under=catalogue())
    yield made
    await made.close()


# -- estimates


HELLO = {"messages": [{"role": "user", "content": "Explain quantum computing"}], "max_tokens": 500}


async def estimate(shop: Shop, **body: Any) -> dict[str, Any]:
    return told(await shop.ask("/v1/estimate-cost", body))


async def test_an_estimate_is_what_the_402_would_ask(shop: Shop) -> None:
    """In the documented members; the floor is in the sats, not in the dollars."""
    answer = await shop.ask("/v1/estimate-cost", {**HELLO, "model": "deepseek/deepseek-v3.2", "pref": "balanced"})
    found = told(answer)
    assert found == {
        "model": "deepseek/deepseek-v3.2",
        "shortName": "deepseek-v3.2",
        "category": None,
        "confidence": None,
        "rc": None,
        "estimatedInputTokens": found["estimatedInputTokens"],
        "estimatedOutputTokens": 500,
        "costSats": 21,
        "costUsd": found["costUsd"],
        "btcPrice": 68_000,
    }
    assert 5 <= found["estimatedInputTokens"] <= 15
    assert 0.005 <= found["costUsd"] <= 0.0052


@pytest.mark.parametrize("named", [{}, {"model": "auto"}, {"model": None}])
async def test_without_a_model_it_is_the_default_lanes(shop: Shop, named: dict[str, Any]) -> None:
    """Nobody classifies yet."""
    found = await estimate(shop, **HELLO, **named)
    assert (found["model"], found["category"], found["confidence"]) == ("smart-route", None, None)


async def test_any_lane_is_the_default_where_none_is_named_auto(shop: Shop) -> None:
    """And without a lane, the request must say."""
    lane = model("only", lane=True)
    shop.open(PayerApiPlugin, under=generation(models={"gpt-4o": model(), "only": lane}))
    assert (await estimate(shop, **HELLO))["model"] == "only"
    shop.open(PayerApiPlugin, under=generation())
    assert code(await shop.ask("/v1/estimate-cost", HELLO)) == (400, "invalid_request")


async def test_the_default_lane_is_no_other_while_nobody_can_serve_it(shop: Shop) -> None:
    """As the request itself would be told, whether it names it or not."""
    known = replace(generation(models={"other-lane": model("other-lane", lane=True)}), catalogue=catalogue().models)
    shop.open(PayerApiPlugin, under=known)
    assert code(await shop.ask("/v1/estimate-cost", HELLO)) == (404, "model_not_available")
    assert code(await shop.ask("/v1/estimate-cost", {**HELLO, "model": "auto"})) == (404, "model_not_available")


async def test_a_whole_number_of_dollars_has_no_point(shop: Shop) -> None:
    """As clients of other services expect the price of bitcoin."""
    answer = await shop.ask("/v1/estimate-cost", {**HELLO, "model": "gpt-4o"})
    assert b'"btcPrice":68000' in answer.body
    assert b"68000." not in answer.body


async def test_every_shape_of_input_is_priced(shop: Shop) -> None:
    """Chats, prompts, embeddings, responses, messages, each with its own limit of output."""
    prompt = await estimate(shop, prompt="Explain quantum computing", model="gpt-4o", max_tokens=500)
    assert prompt["costUsd"] == (await estimate(shop, **HELLO, model="gpt-4o"))["costUsd"]
    vectors = await estimate(shop, input=["one", "two"], model="bge-m3", max_tokens=5)
    assert vectors["estimatedOutputTokens"] == 0
    response = await estimate(shop, input="Say hello.", model="gpt-5", max_tokens=7)
    assert response["estimatedOutputTokens"] == 7
    message = await estimate(shop, messages=HELLO["messages"], model="claude")
    assert message["estimatedOutputTokens"] == 1000
    default = await estimate(shop, messages=HELLO["messages"], model="gpt-4o")
    assert default["estimatedOutputTokens"] == 1000
    choices = await estimate(shop, **HELLO, model="gpt-4o", n=3)
    assert choices["estimatedOutputTokens"] == 1500


async def test_max_cost_is_compared(shop: Shop) -> None:
    """Nobody routes by it yet, so it says whether it fits."""
    assert (await estimate(shop, **HELLO, model="gpt-4o", max_cost=21))["withinMaxCost"] is True
    assert (await estimate(shop, **HELLO, model="gpt-4o", max_cost=20))["withinMaxCost"] is False


async def test_credits_are_told_where_they_have_a_price(tmp_path: Path) -> None:
    """Rounded up to a thousandth."""
    shop = Shop(tmp_path, credit=Nano(1_000_000_000))
    shop.open(PayerApiPlugin, under=catalogue())
    answer = await shop.ask("/v1/estimate-cost", {**HELLO, "model": "gpt-4o"})
    assert b'"costCredits":0.006' in answer.body
    await shop.close()


async def test_without_a_price_of_bitcoin_dollars_are_told(tmp_path: Path) -> None:
    """Sats are null, not a guess."""
    shop = Shop(tmp_path, rate=False)
    shop.open(PayerApiPlugin, under=catalogue())
    found = await estimate(shop, **HELLO, model="gpt-4o", max_cost=5)
    assert (found["costSats"], found["btcPrice"], found["withinMaxCost"]) == (None, None, None)
    assert found["costUsd"] > 0
    await shop.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({**HELLO, "prompt": "x"}, (400, "invalid_request")),
        ({"prompt": 5, "model": "gpt-4o"}, (400, "invalid_request")),
        ({"messages": "x", "model": "gpt-4o"}, (400, "invalid_request")),
        ({**HELLO, "model": "nope"}, (404, "model_not_available")),
        ({**HELLO, "model": "bge-m3"}, (404, "model_not_available")),
        ({**HELLO, "model": "unpriced"}, (404, "model_not_available")),
        ({**HELLO, "model": 5}, (400, "invalid_request")),
        ({**HELLO, "web_search": True}, (400, "invalid_request")),
        ({**HELLO, "pref": "best"}, (400, "invalid_request")),
        ({**HELLO, "pref": {}}, (400, "invalid_request")),
        ({**HELLO, "task": "x" * 65}, (400, "invalid_request")),
        ({**HELLO, "max_cost": -1}, (400, "invalid_request")),
        ({**HELLO, "max_cost": 1.5}, (400, "invalid_request")),
        ({**HELLO, "max_tokens": 0}, (400, "invalid_request")),
        ({**HELLO, "maxCost": 5}, (400, "invalid_request")),
        ({**HELLO, "plugins": [{}], "model": "gpt-4o"}, (400, "unbounded_cost")),
        ({"prompt": "word " * 500, "model": "small"}, (400, "context_length_exceeded")),
        (b"{", (400, "invalid_json")),
        (b"[]", (400, "invalid_request")),
        (b"", (400, "invalid_json")),
    ],
)
async def test_bad_input_is_told(shop: Shop, body: Any, expected: tuple[int, str]) -> None:
    """As the request itself would be."""
    answer = await shop.ask("/v1/estimate-cost", body)
    assert code(answer) == expected, answer.body


async def test_a_long_prompt_is_priced(shop: Shop) -> None:
    """More than other endpoints of ours take, read and counted off the event loop."""
    found = await estimate(shop, prompt="hello world " * 9000, model="gpt-4o", max_tokens=1)
    assert found["estimatedInputTokens"] > 17_000
    known = {path.template: path for path in endpoints_of(shop._plugins)}
    assert known["/v1/estimate-cost"].operation.body_bytes_max == 1 << 20
    assert known["/v1/payments/{id}"].operation.body_bytes_max == 16 << 10


async def test_payers_of_a_tier_are_told_what_it_cannot_call(tmp_path: Path) -> None:
    """Without a tier they may call all that has a price."""
    shop = Shop(tmp_path, tier="standard")
    shop.open(PayerApiPlugin, under=catalogue())
    answer = await shop.ask("/v1/estimate-cost", {**HELLO, "model": "pro-only"})
    assert code(answer) == (403, "model_not_in_tier")
    await shop.close()


# -- discovery


async def test_discovery_tells_the_live_configuration(tmp_path: Path) -> None:
    """Every rail that is on, every path that costs money, and nothing that is off."""
    asset = Asset("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
    shop = Shop(
        tmp_path,
        url="https://llm.test",
        x402=X402("0x1", (asset,), signer_key="CANARY"),
        cashu=Cashu((Mint("https://mint.test"),)),
        secret=b"CANARY",
    )
    shop.open(PayerApiPlugin, under=catalogue())
    answer = await shop.ask("/.well-known/l402", method="GET")
    found = told(answer)
    assert b"CANARY" not in answer.body
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert set(found["rails"]) == {"l402", "x402", "cashu", "balance"}
    assert found["rails"]["l402"]["min"] == L402().sats_min
    assert found["rails"]["x402"]["assets"][0]["network"] == "eip155:8453"
    assert found["rails"]["x402"]["min_usd"] == "0.001"
    assert found["rails"]["cashu"]["mints"] == ["https://mint.test"]
    assert found["url"] == "https://llm.test"
    assert found["pricing"]["btc_usd"] == "68000.00"
    paths = {(one["method"], one["path"]): one for one in found["endpoints"]}
    assert paths["POST", PATH]["rails"] == ["l402", "x402", "cashu", "balance"]
    assert paths["POST", "/v1/estimate-cost"]["priced"] is False
    assert ("POST", "/v1/balance") in paths
    await shop.close()


async def test_discovery_without_rails_in_sats(tmp_path: Path) -> None:
    """What is off is not promised."""
    shop = Shop(tmp_path, lightning=False, rate=False, balance=None)
    shop.open(PayerApiPlugin, under=generation(models={"bge-m3": model(operations=frozenset({"embeddings"}))}))
    found = told(await shop.ask("/.well-known/l402", method="GET"))
    assert found["rails"] == {}
    assert found["url"] == "http://pay.test"
    assert found["pricing"]["btc_usd"] is None
    paths = {one["path"] for one in found["endpoints"]}
    assert "/v1/embeddings" in paths
    assert not paths & {PATH, "/v1/balance"}
    shop.rails = None  # type: ignore[assignment]
    shop.open(PayerApiPlugin)
    assert shop._plugins[0].router() is None
    await shop.close()


async def test_an_estimate_of_a_panel_is_the_price_of_a_run(shop: Shop) -> None:
    """In credits too; what the panel cannot take is refused as the request would be."""
    panel = panel_model()
    shop.open(PayerApiPlugin, under=generation(models={panel.name: panel}))
    found = await estimate(shop, **{**HELLO, "model": panel.name})
    assert (found["model"], found["costUsd"], found["costCredits"]) == ("consensus-fast", 0.05, 1.0)
    assert found["estimatedOutputTokens"] == 400
    long = {"model": panel.name, "prompt": "word " * 600}
    assert code(await shop.ask("/v1/estimate-cost", long)) == (400, "context_length_exceeded")
    assert code(await shop.ask("/v1/estimate-cost", {**HELLO, "model": panel.name, "n": 2})) == (400, "invalid_request")
