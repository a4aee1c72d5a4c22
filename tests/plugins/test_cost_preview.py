"""The cost preview's endpoints, asked in process as a listener would ask them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import orjson
import pytest

from plugins.cost_preview.plugin import CostPreviewPlugin, CostPreviewSettings
from proxy.catalogue import Candidate, Model
from proxy.config.schema import Generation
from proxy.endpoints import bridge
from proxy.endpoints.public import application
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.identities import Identity, IdentityKind
from proxy.operations import LOCAL
from proxy.policy.rules import Policy, Rules, ScopedRules
from proxy.pricing.rates import Rates, parse_rate
from tests.support.fakes import FakeClock, exchange, generation, identity, model, origin
from tests.support.panels import panel_model

RAFT = [{"role": "user", "content": "Explain Raft consensus in 200 words."}]
ASKED = {"model": "smart-route", "messages": RAFT, "max_tokens": 300}
NOBODY = identity(kind=IdentityKind.ANONYMOUS, key_id="anonymous", tier="anonymous")
TIERS = ("free-trial", "starter", "pro", "founder", "charter")


def rates(into: str, out: str) -> Rates:
    return Rates(parse_rate(into), parse_rate(out))


def catalogue() -> Generation:
    """The public API's examples, and one model of each other kind."""
    llama = model(
        "llama-3.3-70b", rates=rates("0.20", "0.60"), display_name="Llama 3.3 70B", tags=("chat",), created=1747353600
    )
    models = {
        "smart-route": model("smart-route", rates=rates("0.30", "0.90")),
        "llama-70b": llama,
        "llama-3.3-70b": llama,
        "codestral": model("codestral", rates=rates("0.30", "0.90"), tiers=frozenset({"pro", "founder", "charter"})),
        "bge-m3": model("bge-m3", rates=rates("0.01", "0"), operations=frozenset({"embeddings"}), dimensions=1024),
        "demo": model("demo", rates=rates("0", "0"), open=True),
        "unpriced": model("unpriced", rates=None),
    }
    return replace(generation(models=models), tiers=TIERS, owner="llmdeal", default_rate=rates("0.40", "1.20"))


class Byo:
    """One team has registered one key."""

    own: ClassVar = {"byo-openai-gpt-4o": model("byo-openai-gpt-4o", rates=rates("0", "0"), byo=True)}

    def models(self, team: str) -> dict[str, Model]:
        return self.own if team == "default" else {}

    def model(self, team: str, name: str) -> Model | None:
        return self.models(team).get(name)


class Api:
    """The plugin's endpoints under a clock that stands still."""

    def __init__(self, under: Generation | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.under = under or catalogue()
        services: Any = SimpleNamespace(clock=self.clock, byo=Byo())
        self.plugin = CostPreviewPlugin(CostPreviewSettings(**settings), services)
        router = self.plugin.router()
        self.app = application("test", [router])

    async def preview(self, body: Mapping[str, Any] | bytes = ASKED, **changes: Any) -> Response:
        return await self.ask("POST", "/v1/cost-preview", body=body, **changes)

    async def rates(self, **changes: Any) -> Any:
        return json.loads((await self.ask("GET", "/v1/cost-preview/rates", body=b"", **changes)).body)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes,
        who: Identity | None = None,
        policy: Policy | None = None,
        **changes: Any,
    ) -> Response:
        seen: Exchange = exchange(operation=LOCAL, path=path, body=body, under=self.under, **changes)
        seen.request.method = method
        seen.identity = identity(tier="starter") if who is None else who
        seen.policy = policy
        return await bridge.call(self.app, seen)


async def code_of(answer: Response) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]["code"]


async def test_preview_of_the_public_apis_example() -> None:
    """Digit by digit as that page shows it: 11 tokens in, bands of 20, 60 and 100 percent of max_tokens."""
    answer = await Api().preview()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == {
        "ok": True,
        "model": "smart-route",
        "input_tokens": 11,
        "est_output_tokens": {"low": 60, "expected": 180, "high": 300},
        "est_cost_usd": {"low": 0.0000573, "expected": 0.0001653, "high": 0.0002733},
        "breakdown": {"input_usd": 0.0000033, "output_usd": 0.000162},
        "rate_per_1m": {"input": 0.30, "output": 0.90},
        "currency": "usd",
        "estimator": "tiktoken-cl100k-base",
    }
    assert b'{"low":0.0000573,"expected":0.0001653,"high":0.0002733}' in answer.body
    assert b'{"input":0.30,"output":0.90}' in answer.body


async def test_without_a_limit_high_is_twice_the_input_up_to_4096() -> None:
    """And the other two are its shares, rounded up."""
    short = json.loads((await Api().preview({"model": "smart-route", "messages": RAFT})).body)
    assert short["est_output_tokens"] == {"low": 5, "expected": 14, "high": 22}
    long = [{"role": "user", "content": "word " * 3000}]
    assert json.loads((await Api().preview({"model": "smart-route", "messages": long})).body)["est_output_tokens"] == {
        "low": 820,
        "expected": 2458,
        "high": 4096,
    }


async def test_the_newer_name_of_the_limit_is_read_too() -> None:
    """Both may be given where they agree."""
    body = {"model": "smart-route", "messages": RAFT, "max_completion_tokens": 300}
    assert json.loads((await Api().preview(body)).body)["est_output_tokens"]["high"] == 300
    assert await code_of(await Api().preview({**body, "max_tokens": 301})) == (400, "invalid_request")


async def test_members_that_are_not_read_change_nothing() -> None:
    """Whatever a client's request for inference holds besides."""
    more = {**ASKED, "temperature": 2, "tools": "nonsense", "stream": True, "n": 9}
    assert (await Api().preview(more)).body == (await Api().preview()).body


async def test_texts_of_parts_count_as_their_text_does() -> None:
    """A list of parts is no dearer than the string."""
    parts = [{"role": "user", "content": [{"type": "text", "text": RAFT[0]["content"]}]}]
    assert json.loads((await Api().preview({**ASKED, "messages": parts})).body)["input_tokens"] == 11


async def test_an_image_counts_as_the_models_most() -> None:
    """Where that is known; elsewhere the preview is refused, not wrong."""
    parts = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]
    under = catalogue()
    seeing = replace(under, models={**under.models, "eyes": model("eyes", image_tokens_max=1000)})
    answer = await Api(seeing).preview({**ASKED, "model": "eyes", "messages": parts})
    assert json.loads(answer.body)["input_tokens"] == 1001
    assert await code_of(await Api().preview({**ASKED, "messages": parts})) == (400, "invalid_request")


async def test_own_upstream_key_costs_nothing_and_says_so() -> None:
    """byo-*: the estimate is the number 0, with a note."""
    answer = json.loads((await Api().preview({**ASKED, "model": "byo-openai-gpt-4o"})).body)
    assert answer["est_cost_usd"] == 0
    assert "your own upstream key" in answer["note"]
    assert answer["breakdown"] == {"input_usd": 0, "output_usd": 0}
    table = await Api().rates()
    assert "byo-openai-gpt-4o" in table["accessible_to_caller"]
    assert {"model": "byo-openai-gpt-4o", "input_per_1m": 0, "output_per_1m": 0} in table["rates"]


@pytest.mark.parametrize("who", [identity(team="other"), NOBODY])
async def test_a_model_of_another_team_is_unknown(who: Identity) -> None:
    """To its callers and in its table."""
    api = Api()
    assert await code_of(await api.preview({**ASKED, "model": "byo-openai-gpt-4o"}, who=who)) == (
        404,
        "model_not_available",
    )
    assert "byo" not in json.dumps(await api.rates(who=who))


@pytest.mark.parametrize("name", ["no-such-model", "bge-m3", "unpriced"])
async def test_what_a_chat_could_not_name_is_404(name: str) -> None:
    """Unknown, not a chat model, without a price: never previewed at the default rate."""
    assert await code_of(await Api().preview({**ASKED, "model": name})) == (404, "model_not_available")


async def test_what_nobody_serves_now_is_told_as_by_a_chat_completion() -> None:
    """A near miss, a sibling of what no partner serves; what the operator has to set is told on loopback alone."""
    refused = await Api().preview({**ASKED, "model": "smart-rout"})
    assert "Did you mean 'smart-route'?" in json.loads(refused.body)["error"]["message"]
    candidates = (Candidate("partner", "llama-3.3-70b", partner="partner"),)
    alias = replace(model("consortium-llama-70b"), candidates=candidates, consortium=True)
    under = catalogue()
    under = replace(
        under, catalogue={**under.catalogue, alias.name: alias}, unavailable_models={alias.name: "set PARTNER_KEY"}
    )
    for at, told in ((origin(), True), (origin(loopback=False, peer="192.0.2.7"), False)):
        refused = await Api(under).preview({**ASKED, "model": alias.name}, at=at)
        assert await code_of(refused) == (503, "no_consortium_machine_available")
        assert b"Retry with 'llama-3.3-70b'." in refused.body
        assert (b"PARTNER_KEY" in refused.body) is told


async def test_out_of_tier_and_against_the_rules_is_403() -> None:
    """The gates of a chat completion."""
    assert await code_of(await Api().preview({**ASKED, "model": "codestral"})) == (403, "model_not_in_tier")
    denied = Policy((ScopedRules("team", "default", Rules(models_denied=("smart-*",))),), restricts_models=True)
    assert await code_of(await Api().preview(policy=denied)) == (403, "model_not_allowed")


async def test_without_a_key_only_open_models_on_loopback() -> None:
    """As a chat completion without one."""
    api = Api()
    assert await code_of(await api.preview(who=NOBODY)) == (401, "invalid_api_key")
    assert (await api.preview({**ASKED, "model": "demo"}, who=NOBODY)).status == 200
    remote = origin(loopback=False, peer="192.0.2.7")
    assert await code_of(await api.preview({**ASKED, "model": "demo"}, who=NOBODY, at=remote)) == (
        401,
        "invalid_api_key",
    )


@pytest.mark.parametrize(
    "body",
    [
        {"messages": RAFT},
        {"model": "smart-route"},
        {"model": "smart-route", "messages": []},
        {"model": "smart-route", "messages": [{"content": "x"}]},
        {**ASKED, "max_tokens": 0},
        {**ASKED, "max_tokens": True},
        {"Model": "smart-route", "messages": RAFT},
    ],
)
async def test_a_wrong_member_is_400(body: Mapping[str, Any]) -> None:
    """Each says which."""
    assert await code_of(await Api().preview(body)) == (400, "invalid_request")


async def test_what_is_no_json_is_refused() -> None:
    """A member given twice included: two readers may take different ones."""
    assert await code_of(await Api().preview(b'{"model":"a","model":"b"}')) == (400, "invalid_json")


async def test_rates_in_the_public_apis_shape() -> None:
    """Exact decimals, names in order, the catalogue of chat models, and what this tier can call."""
    answer = await Api().ask("GET", "/v1/cost-preview/rates", body=b"")
    assert answer.headers["cache-control"] == "private, max-age=60"
    assert answer.headers["vary"] == "authorization, x-api-key"
    assert b'{"model":"bge-m3","input_per_1m":0.01,"output_per_1m":0.00}' in answer.body
    table = orjson.loads(answer.body)
    assert list(table) == [
        "ok", "currency", "default_rate", "rates", "catalog", "accessible_to_caller", "caller_tier", "note",
    ]  # fmt: skip
    assert (table["ok"], table["currency"], table["caller_tier"]) == (True, "usd", "starter")
    assert table["default_rate"] == {"input": 0.4, "output": 1.2}
    names = [row["model"] for row in table["rates"]]
    assert names == sorted(names)
    assert "unpriced" not in names
    assert {"id": "llama-70b", "display_name": "Llama 3.3 70B", "tiers": list(TIERS), "context_window": 128_000} in (
        table["catalog"]
    )
    assert [row["tiers"] for row in table["catalog"] if row["id"] == "codestral"] == [["pro", "founder", "charter"]]
    assert "bge-m3" not in [row["id"] for row in table["catalog"]]
    assert "codestral" not in table["accessible_to_caller"]
    assert {"bge-m3", "llama-70b", "smart-route"} <= set(table["accessible_to_caller"])
    assert "refused" in table["note"]
    assert "never charged" in table["note"]


async def test_rates_without_a_default_rate_promise_none() -> None:
    """null, and no word of it."""
    table = await Api(replace(catalogue(), default_rate=None)).rates()
    assert table["default_rate"] is None
    assert "default" not in table["note"]


async def test_rates_without_a_key_are_the_public_part() -> None:
    """No tier, and nothing that a call without a key could not reach."""
    table = await Api().rates(who=NOBODY, at=origin(loopback=False, peer="192.0.2.7"))
    assert (table["caller_tier"], table["accessible_to_caller"]) == (None, [])
    assert len(table["rates"]) == 6
    assert (await Api().rates(who=NOBODY))["accessible_to_caller"] == ["demo"]


async def test_rates_are_rendered_once_in_60_seconds_for_each_view() -> None:
    """Another tier, other rules or another configuration have a table of their own."""
    api = Api()
    first = await api.ask("GET", "/v1/cost-preview/rates", body=b"")
    assert (await api.ask("GET", "/v1/cost-preview/rates", body=b"")).body is not None
    api.under.models["late"] = model("late")
    assert (await api.ask("GET", "/v1/cost-preview/rates", body=b"")).body == first.body
    assert "late" in (await api.rates(who=identity(tier="pro")))["accessible_to_caller"]
    only = Policy((ScopedRules("team", "t", Rules(models_allowed=("llama-*",))),), restricts_models=True)
    assert (await api.rates(policy=only))["accessible_to_caller"] == ["llama-3.3-70b", "llama-70b"]
    api.clock.advance(59.9)
    assert (await api.ask("GET", "/v1/cost-preview/rates", body=b"")).body == first.body
    api.clock.advance(0.2)
    assert "late" in (await api.rates())["accessible_to_caller"]
    api.under = replace(api.under, models={"alone": model("alone")})
    assert (await api.rates())["accessible_to_caller"] == ["alone", "byo-openai-gpt-4o"]


async def test_kept_tables_are_bounded() -> None:
    """However many views there are."""
    api = Api(rates_cache_entries_max=2)
    for tier in TIERS:
        assert (await api.rates(who=identity(tier=tier)))["caller_tier"] == tier
    assert len(api.plugin._rates._entries) <= 2


async def test_body_beyond_16_kilobytes_is_413() -> None:
    """The operation's own limit, before anything is parsed."""
    with pytest.raises(Refusal) as refused:
        await Api().preview({**ASKED, "messages": [{"role": "user", "content": "x" * (16 << 10)}]})
    assert refused.value.code == "payload_too_large"


def with_panel(**changes: Any) -> Generation:
    known = catalogue()
    panel = panel_model(**changes)
    return replace(known, models={**known.models, panel.name: panel}, catalogue={})


async def test_a_panels_preview_is_the_price_of_a_run() -> None:
    """The least, the expected and the most are one; there are no rates."""
    answer = json.loads((await Api(with_panel()).preview({**ASKED, "model": "consensus-fast"})).body)
    assert answer["est_cost_usd"] == {"low": 0.05, "expected": 0.05, "high": 0.05}
    assert answer["price_per_run"] == {"usd": 0.05, "credits": 1, "input_tokens_max": 500}
    assert answer["est_output_tokens"]["high"] == 300
    assert "rate_per_1m" not in answer and "breakdown" not in answer


async def test_a_panels_preview_of_too_long_a_question_is_refused() -> None:
    """As the call itself would be."""
    long = {"model": "consensus-fast", "messages": [{"role": "user", "content": "word " * 600}]}
    assert await code_of(await Api(with_panel()).preview(long)) == (400, "context_length_exceeded")


async def test_a_panel_is_in_the_catalogue_with_its_price_and_not_among_the_rates() -> None:
    """Callable like any other model."""
    table = await Api(with_panel()).rates()
    (entry,) = [row for row in table["catalog"] if row["id"] == "consensus-fast"]
    assert entry["price_per_run"]["usd"] == 0.05 and entry["members"] == ["a", "b", "c"]
    assert "consensus-fast" in table["accessible_to_caller"]
    assert "consensus-fast" not in [row["model"] for row in table["rates"]]
