"""The files that come with Tollway: whole, documented, and saying what their comments promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from proxy import discovery, shipped
from proxy.catalogue import Strategy, Wallet
from proxy.config.checked import checked
from proxy.config.consensus_entries import (
    BatchEntry,
    ConsensusFile,
    HistoryEntry,
    IdempotencyEntry,
    ModeEntry,
    PromptsEntry,
    RulesOfRunEntry,
    RunDeadlinesEntry,
    RunPriceEntry,
    SeatEntry,
    TokensEntry,
    WeightsEntry,
)
from proxy.config.load import POLICIES, load_generation
from proxy.config.model_entries import BandEntry, CandidateEntry, MemberEntry, ModelEntry, ModelsFile, PriceEntry
from proxy.config.policies import (
    BucketEntry,
    CapEntry,
    CaptureEntry,
    KeyEntry,
    OrganisationEntry,
    ScopeEntry,
    TeamEntry,
    TierEntry,
    UserEntry,
)
from proxy.config.rules import ContentEntry, ListsEntry
from proxy.config.schema import (
    ByoEntry,
    ConfigFile,
    DeadlinesEntry,
    LimitsEntry,
    ListenerEntry,
    ProbeEntry,
    UpstreamEntry,
)
from proxy.model_refusals import unavailable
from proxy.pricing.money import usd_text
from proxy.pricing.rates import rate_text

ROOT = shipped.folder()
TEAMS_SHAPES = (OrganisationEntry, TeamEntry, UserEntry, KeyEntry, CapEntry, ListsEntry, ContentEntry)
KEYS = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "NVIDIA_API_KEY",
    "CEREBRAS_API_KEY",
    "OPENROUTER_API_KEY",
    "TOGETHER_API_KEY",
    "DEEPSEEK_API_KEY",
    "XAI_API_KEY",
    "VLLM_API_KEY",
    "PARTNER_A_KEY",
    "PARTNER_B_KEY",
]


def test_every_shipped_file_is_there() -> None:
    """What 'tollway init' writes is what a configuration needs."""
    assert {Path(name).name for name in shipped.FILES} == {"config.yaml", *POLICIES}


def test_the_shipped_configuration_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every plugin's settings and the chain's order."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    generation = checked(ROOT / "config.yaml")
    assert [name for name, _ in generation.chain] == [
        "audit", "cors", "webhooks", "ip_limit", "identity", "catalogue", "conversations", "team_policy",
        "content_rules", "key_limit", "payer_limit", "byo", "batch", "idempotency", "dedup", "cost_preview",
        "payer_api", "balance", "pricing", "challenge", "spend_caps", "payment", "consensus", "routing", "metering",
    ]  # fmt: skip


def test_every_plugin_that_ships_stands_in_the_shipped_chain() -> None:
    """In use, or in a comment at its place with what it does: nothing is hidden from a reader of config.yaml."""
    chain = {name for name, _ in load_generation(ROOT / "config.yaml", environment={}).chain}
    text = (ROOT / "config.yaml").read_text()
    offered = set(re.findall(r"(?m)^  # - ([a-z_]+) +# \S.*$", text.partition("\nchain:\n")[2].partition("\n# ---")[0]))
    assert set(discovery.built_in()) == chain | offered
    assert not chain & offered


def test_without_any_key_only_the_demo_is_served() -> None:
    """And it is open."""
    generation = load_generation(ROOT / "config.yaml", environment={})
    assert set(generation.models) == {"demo", "demo-paid", "consensus-demo"}
    assert generation.models["demo"].open
    assert [name for name, model in generation.catalogue.items() if model.open] == ["demo", "consensus-demo"]


def test_with_all_keys_every_model_is_served() -> None:
    """Each model has a candidate among the shipped upstreams."""
    generation = load_generation(ROOT / "config.yaml", environment=dict.fromkeys(KEYS, "k"))
    assert not generation.unavailable_models
    assert set(generation.unavailable) == {"ollama"}


def test_every_listener_is_on_loopback_at_its_known_port() -> None:
    """8402, 8403, 8404."""
    generation = load_generation(ROOT / "config.yaml", environment={})
    assert [(one.kind, one.port, one.loopback) for one in generation.listeners] == [
        ("reverse", 8402, True),
        ("regular", 8403, True),
        ("admin", 8404, True),
    ]


BELOW_LIST = {
    "smart-route", "smart-route-fast", "smart-route-large", "llama-3.3-70b", "gemini-2.5-flash", "gpt-oss-120b",
}  # fmt: skip
"""Sold below what a provider asks, as the public gateway whose rates they are does; models.yaml says so."""


def test_a_priced_model_never_undercuts_its_dearest_candidate_but_where_the_file_says_so() -> None:
    """The caller's price covers what any candidate costs, save for the examples of a gateway's own rates."""
    under = set()
    for model in load_generation(ROOT / "config.yaml", environment={}).catalogue.values():
        for candidate in () if model.panel is not None else model.candidates:
            cost = model.list_rates(candidate)
            assert cost is not None and model.rates is not None
            if model.rates.input < cost.input or model.rates.output < cost.output:
                under.add(model.name)
    assert under == BELOW_LIST


SEED_RATES = {
    "smart-route-fast": ("0.15", "0.45", ""),
    "smart-route": ("0.30", "0.90", ""),
    "smart-route-large": ("0.35", "1.05", "pro+"),
    "smart-route-coder": ("0.40", "1.20", "pro+"),
    "llama-3.1-8b-instant": ("0.10", "0.30", ""),
    "llama-3.3-70b": ("0.20", "0.60", ""),
    "gemini-2.5-flash": ("0.15", "0.45", ""),
    "codestral": ("0.30", "0.90", "pro+"),
    "qwen3-235b-cerebras": ("0.40", "1.20", "pro+"),
    "gpt-oss-120b": ("0.30", "0.90", "pro+"),
    "nvidia/llama-3.3-70b": ("0.20", "0.60", ""),
    "nvidia/qwen3-coder-480b": ("0.40", "1.20", "pro+"),
    "nvidia/nemotron-super-120b": ("0.30", "0.90", "pro+"),
    "nvidia/llama-4-maverick": ("0.40", "1.20", "pro+"),
    "consortium-llama-70b": ("0.15", "0.45", ""),
    "consortium-nemotron-120b": ("0.22", "0.66", "pro+"),
    "consortium-qwen-coder": ("0.30", "0.90", "pro+"),
    "consortium-qwen-235b": ("0.30", "0.90", "pro+"),
    "nv-embed-qa": ("0.02", "0.00", ""),
    "bge-m3": ("0.01", "0.00", ""),
    "mistral-embed": ("0.10", "0.00", ""),
}


@pytest.mark.parametrize("name", SEED_RATES)
def test_the_examples_have_the_public_rates_and_tiers(name: str) -> None:
    """Alias by alias, in dollars per million tokens."""
    model = load_generation(ROOT / "config.yaml", environment={}).catalogue[name]
    assert model.rates is not None
    tiers = frozenset({"pro", "founder", "charter"}) if SEED_RATES[name][2] else frozenset()
    assert (rate_text(model.rates.input), rate_text(model.rates.output), model.tiers) == (*SEED_RATES[name][:2], tiers)


def test_short_ids_stand_for_their_models_and_lanes_for_their_members() -> None:
    """llama-70b is llama-3.3-70b; the default lane is its group; frontier models are paid from a purse of their own."""
    catalogue = load_generation(ROOT / "config.yaml", environment={}).catalogue
    shorts = {"llama-70b": "llama-3.3-70b", "llama-8b": "llama-3.1-8b-instant", "gemini-flash": "gemini-2.5-flash"}
    assert {short: catalogue[short].name for short in shorts} == shorts
    assert catalogue["qwen-coder"].name == "nvidia/qwen3-coder-480b"
    assert (catalogue["llama-70b"].display_name, catalogue["llama-70b"].context_tokens) == ("Llama 3.3 70B", 128_000)
    lane = catalogue["smart-route"]
    assert lane.lane and lane.sticky and lane.strategy is Strategy.CHEAPEST
    assert {one.model for one in lane.candidates} == {"llama-3.3-70b", "nvidia/llama-3.3-70b"}
    assert catalogue["smart-route-fast"].context_tokens == 131_072
    frontier = [name for name, model in catalogue.items() if model.wallet is Wallet.FRONTIER]
    assert frontier == ["claude-sonnet-4-6-frontier", "claude-opus-4-7-frontier", "gpt-5.5-frontier"]
    assert {catalogue[name].dimensions for name in ("nv-embed-qa", "bge-m3", "mistral-embed")} == {1024}
    assert all(one.partner for one in catalogue["consortium-llama-70b"].candidates)


def test_every_consortium_alias_has_a_sibling_that_all_its_callers_can_retry_with() -> None:
    """Without partners, with every provider: the refusal names the catalogue's own model and a smart route."""
    environment = {name: "k" for name in KEYS if not name.startswith("PARTNER_")}
    generation = load_generation(ROOT / "config.yaml", environment=environment)
    told = {
        name: unavailable(generation, "chat.completions", "pro", name, generation.catalogue[name])
        for name in generation.unavailable_models
        if name.startswith("consortium-")
    }
    assert {name: refused.message.partition("Retry with ")[2] for name, refused in told.items()} == {
        "consortium-llama-70b": "'llama-3.3-70b' or 'smart-route'.",
        "consortium-nemotron-120b": "'nvidia/nemotron-super-120b' or 'smart-route'.",
        "consortium-qwen-coder": "'nvidia/qwen3-coder-480b' or 'smart-route'.",
        "consortium-qwen-235b": "'qwen3-235b' or 'smart-route'.",
    }
    assert {refused.code for refused in told.values()} == {"no_consortium_machine_available"}


def test_the_default_rate_and_the_owner_are_ours() -> None:
    """Shown, never charged: no name leads to it."""
    generation = load_generation(ROOT / "config.yaml", environment={})
    assert generation.owner == "tollway" and generation.default_rate is not None
    assert (rate_text(generation.default_rate.input), rate_text(generation.default_rate.output)) == ("0.40", "1.20")


def test_only_the_demo_is_free() -> None:
    """A zero in a price is a decision, not an omission."""
    catalogue = load_generation(ROOT / "config.yaml", environment={}).catalogue
    models = {name: model for name, model in catalogue.items() if model.panel is None}
    assert [name for name, model in models.items() if model.rates is None or model.rates.free] == ["demo"]
    panels = {name: model.panel for name, model in catalogue.items() if model.panel is not None}
    assert [name for name, panel in panels.items() if not panel.price.usd] == ["consensus-demo"]


def test_a_panels_budget_is_below_its_price() -> None:
    """One credit a twentieth of a dollar: 1, 3 and 20 of them, and no run can cost more at list than it brings in."""
    consensus = load_generation(ROOT / "config.yaml", environment={}).consensus
    assert consensus is not None
    prices = {name: (usd_text(mode.price.usd), mode.price.credits_milli) for name, mode in consensus.modes.items()}
    assert prices == {
        "fast": ("0.05", 1000), "balanced": ("0.35", 3000), "deep": ("4.50", 20000), "demo": ("0.00", 0),
    }  # fmt: skip
    assert all(mode.budget < mode.price.usd for name, mode in consensus.modes.items() if name != "demo")


def test_with_all_keys_every_panel_is_seated_as_the_file_has_it() -> None:
    """Three, three and five members of as many vendors, no spare in use."""
    generation = load_generation(ROOT / "config.yaml", environment=dict.fromkeys(KEYS, "k"))
    assert generation.consensus is not None
    seated = {name: [seat.vendor for seat in mode.seats] for name, mode in generation.consensus.modes.items()}
    assert seated == {
        "fast": ["openai", "anthropic", "google"],
        "balanced": ["openai", "anthropic", "google"],
        "deep": ["openai", "anthropic", "google", "mistral", "meta"],
        "demo": ["demo", "demo", "demo"],
    }
    names = {name for name, model in generation.models.items() if model.panel is not None}
    assert names == {f"consensus-{mode}" for mode in ("fast", "balanced", "deep", "demo", "auto")}


@pytest.mark.parametrize(
    ("file", "shapes"),
    [
        ("config.yaml", (ConfigFile, ListenerEntry, UpstreamEntry, ProbeEntry, DeadlinesEntry, LimitsEntry, ByoEntry)),
        ("policies/models.yaml", (ModelsFile, ModelEntry, PriceEntry, BandEntry, CandidateEntry, MemberEntry)),
        ("policies/tiers.yaml", (TierEntry,)),
        (
            "policies/teams.yaml",
            (OrganisationEntry, TeamEntry, UserEntry, KeyEntry, CapEntry, ListsEntry, ContentEntry),
        ),
        ("policies/limits.yaml", (ScopeEntry, BucketEntry)),
        ("policies/capture.yaml", (CaptureEntry,)),
        (
            "policies/consensus.yaml",
            (
                ConsensusFile,
                ModeEntry,
                SeatEntry,
                RunPriceEntry,
                RunDeadlinesEntry,
                TokensEntry,
                WeightsEntry,
                RulesOfRunEntry,
                HistoryEntry,
                BatchEntry,
                IdempotencyEntry,
                PromptsEntry,
            ),
        ),
    ],
)
def test_every_key_is_documented_in_the_file_that_takes_it(file: str, shapes: tuple[type[BaseModel], ...]) -> None:
    """A reader of the shipped file meets every key, in use or in a comment."""
    text = (ROOT / file).read_text()
    missing = [
        key for shape in shapes for key in shape.model_fields if not re.search(rf"(?<![a-z_]){key}(?![a-z_])", text)
    ]
    assert missing == []


def test_the_captured_providers_are_all_there() -> None:
    """Fourteen, each with at least one priced path."""
    generation = load_generation(ROOT / "config.yaml", environment={})
    data = yaml.safe_load((ROOT / "policies" / "capture.yaml").read_text())["capture"]
    assert set(data) == {
        "openai", "anthropic", "azure", "google", "groq", "mistral", "nvidia", "cerebras", "openrouter", "together",
        "deepseek", "xai", "ollama", "vllm",
    }  # fmt: skip
    assert all(any(operation.priced for _, operation in host.paths) for host in generation.capture)


@settings(max_examples=12, deadline=None)
@given(st.sets(st.sampled_from(KEYS)))
def test_with_any_keys_a_panel_has_its_quorum_or_says_what_to_set(keys: set[str]) -> None:
    """Seats name models that are served, of as many vendors as are needed; nobody else is called."""
    generation = load_generation(ROOT / "config.yaml", environment=dict.fromkeys(keys, "k"))
    for name, model in generation.catalogue.items():
        if model.panel is None:
            continue
        served = generation.models.get(name)
        if served is None or served.panel is None:
            assert "_API_KEY in the environment" in generation.unavailable_models[name] or name == "consensus-auto"
            continue
        panel = served.panel
        assert len(panel.seats) >= panel.quorum and panel.synthesisers
        assert len({seat.vendor for seat in panel.seats}) >= panel.vendors_min
        assert {seat.model for seat in (*panel.seats, *panel.spares, *panel.synthesisers)} <= generation.models.keys()
        assert {candidate.upstream for candidate in served.candidates} <= generation.upstreams.keys()
        assert {candidate.model for candidate in served.candidates} <= generation.models.keys()
