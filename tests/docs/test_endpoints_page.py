"""What docs/endpoints.md shows is what the endpoints answer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plugins.catalogue.plugin import CatalogueSettings
from plugins.cost_preview.plugin import CostPreviewPlugin, CostPreviewSettings
from plugins.dedup.plugin import DedupSettings
from proxy.dialects import DIALECTS
from proxy.endpoints import bridge, public
from proxy.operation_table import PUBLIC
from proxy.operations import LOCAL, Operation
from proxy.pricing.rates import Rates, parse_rate
from tests.support.fakes import FakeClock, exchange, generation, identity, model

PAGE = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text()


def blocks(heading: str) -> list[Any]:
    """The JSON blocks below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]


def rates(into: str, out: str) -> Rates:
    return Rates(parse_rate(into), parse_rate(out))


MODELS = {
    "smart-route": model("smart-route", rates=rates("0.30", "0.90"), operations=frozenset({"messages"})),
    "llama-70b": model("llama-70b", display_name="Llama 3.3 70B", created=1747353600, tags=("chat", "fast")),
    "bge-m3": model("bge-m3", rates=rates("0.01", "0"), operations=frozenset({"embeddings"})),
}
UNDER = replace(
    generation(models=MODELS),
    tiers=("free-trial", "starter", "pro", "founder", "charter"),
    default_rate=rates("0.40", "1.20"),
)


async def answered(path: str, body: Any = None, *, under: Any = UNDER, operation: Operation = LOCAL) -> Any:
    services: Any = SimpleNamespace(clock=FakeClock(), byo=SimpleNamespace(models=lambda team: {}))
    plugin = CostPreviewPlugin(CostPreviewSettings(), services)
    app = public.application("test", [plugin.router(), public.router(lambda: True)])
    seen = exchange(operation=operation, path=path, body=b"" if body is None else body, under=under)
    seen.request.method = "GET" if body is None else "POST"
    seen.identity = identity(tier="starter")
    return json.loads((await bridge.call(app, seen)).body)


async def test_the_cost_preview() -> None:
    """Request and answer, number by number."""
    asked, shown = blocks("POST /v1/cost-preview")
    chatting = {"smart-route": model("smart-route", rates=rates("0.30", "0.90"))}
    assert await answered("/v1/cost-preview", asked, under=replace(UNDER, models=chatting)) == shown


async def test_the_rates() -> None:
    """The page shows one table of each kind; the test's catalogue has the rates of one model more."""
    (shown,) = blocks("GET /v1/cost-preview/rates")
    table = await answered("/v1/cost-preview/rates")
    assert list(table) == list(shown)
    assert [row for row in table["rates"] if row["model"] != "llama-70b"] == shown["rates"]
    assert {key: value for key, value in table.items() if key != "rates"} == {
        key: value for key, value in shown.items() if key != "rates"
    }


async def test_the_models() -> None:
    """An entry of the list."""
    (shown,) = blocks("GET /v1/models")
    assert await answered("/v1/models/llama-70b") == shown["data"][0]


def test_requests_are_read_as_the_page_says() -> None:
    """Each example is one that nobody refuses."""
    assert DIALECTS["openai.responses"].parse(json.dumps(blocks("POST /v1/responses")[0]).encode()).unbounded is None
    assert DIALECTS["openai.embeddings"].parse(json.dumps(blocks("POST /v1/embeddings")[0]).encode()).input_parts == 2


def test_every_endpoint_of_ours_is_on_the_page() -> None:
    """And those on it exist."""
    ours = {(known.methods[0], known.template) for known in PUBLIC if "{model}" not in known.template}
    ours |= {("POST", "/v1/cost-preview"), ("GET", "/v1/cost-preview/rates")}
    ours |= {("GET", "/v1/byo/keys"), ("POST", "/v1/byo/keys"), ("POST", "/v1/byo/keys/rotate")}
    ours |= {("POST", f"/v1/{path}") for path in ("estimate-cost", "balance", "payments/refund")}
    ours |= {("POST", "/api/invoice/status")}
    ours |= {("POST", "/v1/batch"), ("GET", "/v1/webhooks/config"), ("POST", "/v1/webhooks/test")}
    ours |= {("GET", "/v1/conversations")}
    assert set(re.findall(r"`(GET|POST) (/[a-z0-9/-]+)`", PAGE.partition("\n## ")[0])) == ours


def test_limits_on_the_page_are_the_settings_defaults() -> None:
    """128 inputs, 30 seconds, 100 answers of 1 MB, 60 seconds, 16 KB."""
    dedup = DedupSettings()
    assert (dedup.seconds, dedup.entries_max, dedup.answer_bytes_max) == (30, 100, 1 << 20)
    assert CatalogueSettings().embedding_inputs_max == 128
    assert CostPreviewSettings().rates_cache_seconds == 60
    assert LOCAL.body_bytes_max == 16 << 10
    for said in ("last 30 seconds", "100 answers", "1 MB", "up to 128 inputs", "max-age=60", "16 KB"):
        assert said in PAGE
