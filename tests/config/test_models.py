"""policies/models.yaml: prices, lanes and their mistakes, each where it stands."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import pytest

from proxy.catalogue import CAPABILITIES, Model, Strategy, Wallet
from proxy.config.model_entries import Capability
from proxy.pricing.rates import Band, Rates, parse_rate
from tests.support.files import Files

KEYS = {"OPENAI_API_KEY": "sk-1", "GROQ_API_KEY": "gsk-1"}
LANE = """\
  route:
    lane: [small, shared]
    price: {input: 2, output: 3}
"""
ANTHROPIC = """\
  anthropic:
    base_url: https://api.anthropic.com/v1
    key: x
    operations: [messages]
"""


def catalogued(files: Files, text: str, name: str = "route") -> Model:
    files.append("policies/models.yaml", text)
    return files.load(KEYS).models[name]


def test_every_field_of_an_entry_reaches_its_model(files: Files) -> None:
    """Nothing that the file may say is dropped."""
    model = catalogued(
        files,
        """\
  route:
    candidates: [{upstream: openai, model: theirs, weight: 3, capabilities: [tools]}, groq]
    display_name: A Route
    strategy: weighted
    sticky: true
    hedge: true
    wallet: frontier
    price: {input: 1, output: 2, image: 3, audio: 4, audio_output: 5, bands: [{above: 10, input: 2, output: 4}]}
    context: 9000
    dimensions: 64
    capabilities: [tools, streaming]
    tiers: [pro]
""",
    )
    assert (model.display_name, model.strategy, model.sticky, model.hedge) == ("A Route", Strategy.WEIGHTED, True, True)
    assert (model.wallet, model.dimensions, model.lane, model.tiers) == (Wallet.FRONTIER, 64, False, {"pro"})
    first, second = model.candidates
    assert (first.upstream_model, first.weight, first.capabilities) == ("theirs", 3, {"tools"})
    assert (second.upstream_model, second.weight, second.capabilities) == ("route", 1, {"tools", "streaming"})
    band = Band(10, Rates(parse_rate(2), parse_rate(4)))
    kinds = {"image": parse_rate(3), "audio": parse_rate(4), "audio_output": parse_rate(5)}
    assert model.rates == Rates(parse_rate(1), parse_rate(2), bands=(band,), **kinds)
    assert model.rates is not None and model.rates.source == "models.yaml"


def test_the_top_of_the_file_says_owner_and_default_rate(files: Files) -> None:
    """Shown, not charged: the unknown name stays unknown."""
    text = (files.root / "policies/models.yaml").read_text()
    files.write(
        "policies/models.yaml",
        f"unpriced: deny\nowned_by: acme\ndefault_rate: {{input: 0.40, output: 1.20}}\n{text}",
    )
    generation = files.load(KEYS)
    assert generation.owner == "acme"
    assert generation.default_rate == Rates(parse_rate("0.4"), parse_rate("1.2"))
    assert "unknown" not in generation.models


def test_capabilities_of_the_file_are_those_of_the_catalogue() -> None:
    """One list, spelled twice."""
    assert set(Capability.__args__) == CAPABILITIES


# ------------------------------------------------------------------------------------------------------------ lanes


def test_a_lane_has_its_members_candidates_with_all_that_is_theirs(files: Files) -> None:
    """Each with its own name, context, limits and list cost: the member's price where the candidate has none."""
    files.edit(
        "policies/models.yaml",
        "    context: 1000\n",
        "    context: 1000\n    encoding: o200k_base\n    image_tokens_max: 85\n    capabilities: [tools]\n",
    )
    lane = catalogued(files, LANE)
    assert (lane.lane, lane.strategy, lane.sticky) == (True, Strategy.CHEAPEST, True)
    small, groq, openai = lane.candidates
    assert [one.model for one in lane.candidates] == ["small", "shared", "shared"]
    assert (small.upstream, small.upstream_model, small.context_tokens, small.output_tokens_max) == (
        "openai", "small", 1000, 500,
    )  # fmt: skip
    assert (small.encoding, small.image_tokens_max, small.capabilities) == ("o200k_base", 85, {"tools"})
    assert small.cost is not None and small.cost.input == parse_rate("0.15")
    assert groq.cost is not None and groq.cost.output == parse_rate("0.2")
    assert openai.cost is not None and openai.cost.output == parse_rate(2)
    assert (lane.context_tokens, lane.output_tokens_max, lane.output_tokens_default) == (8000, 4096, 4096)


def test_a_lane_sets_limits_of_its_own(files: Files) -> None:
    """Narrower than its members', never wider."""
    text = f"{LANE}    context: 3000\n    output_max: 400\n    sticky: false\n    capabilities: [streaming]\n"
    lane = catalogued(files, text)
    assert [one.context_tokens for one in lane.candidates] == [1000, 3000, 3000]
    assert [one.output_tokens_max for one in lane.candidates] == [400, 400, 400]
    assert {one.capabilities for one in lane.candidates} == {frozenset({"streaming"})}
    assert (lane.context_tokens, lane.output_tokens_max, lane.sticky) == (3000, 400, False)


def test_a_lane_keeps_what_is_available_and_promises_no_more(files: Files) -> None:
    """Without a key for OpenAI only Groq's candidate of `shared` is left."""
    files.append("policies/models.yaml", LANE + "    tiers: [pro]\n")
    files.edit("policies/models.yaml", "    context: 8000\n", "    context: 800\n    output_max: 100\n")
    generation = files.load({"GROQ_API_KEY": "k"})
    assert [one.upstream for one in generation.models["route"].candidates] == ["groq"]
    assert (generation.models["route"].context_tokens, generation.models["route"].output_tokens_max) == (800, 100)
    assert generation.catalogue["route"].context_tokens == 1000
    nothing = files.load({})
    assert "OPENAI_API_KEY" in nothing.unavailable_models["route"]


def test_lanes_of_lanes_are_flattened_and_weights_multiplied(files: Files) -> None:
    """By alias as well as by name; a candidate that is reached twice serves once."""
    text = LANE.replace("[small, shared]", "[{model: inner, weight: 3}, tiny]") + LANE.replace(
        "route", "inner"
    ).replace("small, shared", "{model: shared, weight: 5}")
    lane = catalogued(files, text)
    assert [(one.model, one.upstream, one.weight) for one in lane.candidates] == [
        ("shared", "groq", 15),
        ("shared", "openai", 15),
        ("small", "openai", 1),
    ]


CYCLE = """\
  a: {lane: [small, b], price: {input: 1, output: 1}}
  b: {lane: [c], price: {input: 1, output: 1}}
  c: {lane: [shared, a], price: {input: 1, output: 1}}
"""


def test_a_cycle_is_refused_written_out(files: Files) -> None:
    """Once, at the member that begins it."""
    files.append("policies/models.yaml", CYCLE)
    found = files.problems(KEYS)
    assert found == [
        "policies/models.yaml:14:21: models.a.lane[1]: a lane cannot lead back to itself: a -> b -> c -> a"
    ]


def test_a_lane_of_itself_is_the_shortest_cycle(files: Files) -> None:
    """By an alias, too."""
    files.append("policies/models.yaml", "  a: {aliases: [z], lane: [small, z], price: {input: 1, output: 1}}\n")
    assert "a lane cannot lead back to itself: a -> a" in files.problems(KEYS)[0]


def test_a_lane_that_leads_into_a_cycle_is_not_blamed_for_it(files: Files) -> None:
    """One mistake, one problem."""
    files.append("policies/models.yaml", CYCLE + "  d: {lane: [a], price: {input: 1, output: 1}}\n")
    assert len(files.problems(KEYS)) == 1


def test_an_unknown_member_is_refused_with_the_near_miss(files: Files) -> None:
    """With file, line and column."""
    files.append("policies/models.yaml", LANE.replace("shared", "shard"))
    assert files.problems(KEYS) == [
        "policies/models.yaml:15:19: models.route.lane[1]: there is no model or lane 'shard'. Did you mean 'shared'?"
    ]


def test_a_member_that_would_need_a_translation_is_refused(files: Files) -> None:
    """A lane for chats cannot lead to a model that speaks messages only."""
    files.append("config.yaml", ANTHROPIC)
    files.append(
        "policies/models.yaml",
        LANE.replace("shared", "claude")
        + "  claude: {candidates: [anthropic], price: {input: 1, output: 1}, context: 9000, operations: [messages]}\n",
    )
    (found,) = files.problems(KEYS)
    assert found.startswith(
        "policies/models.yaml:15:19: models.route.lane[1]: 'claude' serves messages, not chat.compl"
    )
    assert "translation" in found


def test_a_candidate_whose_upstream_does_not_speak_it_is_refused(files: Files) -> None:
    """With the upstream that does, where its name is near."""
    files.append(
        "config.yaml",
        ANTHROPIC + ANTHROPIC.replace("anthropic:", "anthropic-chat:").replace("messages", "chat.completions"),
    )
    files.append(
        "policies/models.yaml", "  claude: {candidates: [anthropic], price: {input: 1, output: 1}, context: 9000}\n"
    )
    (found,) = files.problems(KEYS)
    assert found.startswith("policies/models.yaml:14:25: models.claude.candidates[0]")
    assert "does not speak chat.completions" in found and "Did you mean 'anthropic-chat'?" in found
    assert "upstreams.anthropic.operations in config.yaml" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  x: {price: {input: 1, output: 1}, context: 9}\n", "either 'candidates' or 'lane'"),
        (
            "  x: {candidates: [openai], lane: [small], price: {input: 1, output: 1}, context: 9}\n",
            "either 'candidates'",
        ),
        ("  x: {candidates: [openai], price: {input: 1, output: 1}}\n", "the key 'context' is missing"),
        ("  x: {lane: [small]}\n", "a model without a price is never served"),
        ("  byo-x: {lane: [small], price: {input: 1, output: 1}}\n", "kept for customers' own models"),
        (
            "  x: {candidates: [openai], consortium: true, price: {input: 1, output: 1}, context: 9000}\n",
            "no 'partner'",
        ),
        ("  x: {lane: [small], strategy: fastest, price: {input: 1, output: 1}}\n", "strategy"),
        ("  x: {lane: [{model: small, weight: -1}], price: {input: 1, output: 1}}\n", "weight"),
        ("  x: {lane: [small], capabilities: [singing], price: {input: 1, output: 1}}\n", "capabilities"),
        ("  x: {lane: [small], wallet: purse, price: {input: 1, output: 1}}\n", "wallet"),
    ],
)
def test_mistakes_of_entries_are_reported_at_their_line(files: Files, text: str, said: str) -> None:
    """Each with its file and line."""
    files.append("policies/models.yaml", text)
    found = files.problems(KEYS)
    assert any(one.startswith("policies/models.yaml:14:") and said in one for one in found), found


def test_unpriced_knows_one_answer(files: Files) -> None:
    """deny, and nothing that would serve what nobody priced."""
    text = (files.root / "policies/models.yaml").read_text()
    files.write("policies/models.yaml", f"unpriced: allow\n{text}")
    assert files.problems(KEYS)[0].startswith("policies/models.yaml:1:11: unpriced: ")


# ----------------------------------------------------------------------------------------------------------- prices


def test_a_published_price_is_looked_up_at_load(files: Files) -> None:
    """For what is charged and for what a candidate costs, with its source and day."""
    model = catalogued(
        files,
        "  gpt-4.1: {candidates: [{upstream: openai, cost: 'genai:openai/gpt-4.1-mini'}], price: genai:openai/gpt-4.1,"
        " context: 9000}\n",
        "gpt-4.1",
    )
    assert model.rates is not None and model.candidates[0].cost is not None
    assert model.rates.input == parse_rate(2) and model.rates.output == parse_rate(8)
    assert model.rates.source.startswith("genai-prices ") and " openai/gpt-4.1 20" in model.rates.source
    assert model.candidates[0].cost.input == parse_rate("0.4")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (
            "genai:openai/gpt-4.1-minii",
            "no price for 'gpt-4.1-minii' of openai. Did you mean 'genai:openai/gpt-4.1-mini'?",
        ),
        ("genai:opnai/gpt-4.1", "knows no provider 'opnai'. Did you mean 'genai:openai/gpt-4.1'?"),
        ("gpt-4.1", "price"),
        ("genai:openai", "price"),
    ],
)
def test_a_price_that_is_not_published_is_refused_with_the_near_miss(files: Files, reference: str, said: str) -> None:
    """Never a guess."""
    files.append("policies/models.yaml", f"  x: {{candidates: [openai], price: '{reference}', context: 9000}}\n")
    (found,) = files.problems(KEYS)
    assert found.startswith("policies/models.yaml:14:") and said in found


@pytest.mark.parametrize(
    ("price", "place", "said"),
    [
        ("{input: -1, output: 1}", "price.input", "a rate is zero or more, not -1"),
        ("{input: 1, output: 1, audio: -1}", "price.audio", "a rate is zero or more"),
        ("{input: 1, outptu: 1}", "price.outptu", "unknown key 'outptu'. Did you mean 'output'?"),
        ("{output: 1}", "price.input", "the key 'input' is missing"),
        ("{input: 1, output: 1, bands: [{above: 10, input: 2}]}", "price.bands[0]", "'output' is missing"),
        ("{input: 1, output: 1, bands: [{above: 10, input: -2, output: 1}]}", "price.bands[0].input", "zero or more"),
        (
            "{input: 1, output: 1, bands: [{above: 20, input: 2, output: 2}, {above: 20, input: 3, output: 3}]}",
            "price.bands[1].above",
            "bands rise: this is not more than 20",
        ),
        (
            "{input: 1, output: 1, bands: [{abov: 20, input: 2, output: 2}]}",
            "price.bands[0].abov",
            "Did you mean 'above'?",
        ),
    ],
)
def test_mistakes_in_prices_stand_at_their_key(files: Files, price: str, place: str, said: str) -> None:
    """Union or not: one problem for one mistake, at its own line and column."""
    files.append("policies/models.yaml", f"  x:\n    candidates: [openai]\n    context: 9000\n    price: {price}\n")
    found = files.problems(KEYS)
    mine = [one for one in found if f"models.x.{place}:" in one and said in one]
    assert mine and mine[0].startswith("policies/models.yaml:17:"), found


def test_without_a_reference_the_price_data_is_not_imported(files: Files) -> None:
    """A file that writes its prices out costs neither its time nor its memory."""
    for name in [name for name in sys.modules if name == "proxy.pricing.published"]:
        sys.modules[name]._providers.cache_clear()  # type: ignore[attr-defined]
    files.load(KEYS)
    from proxy.pricing import published

    assert published._providers.cache_info().currsize == 0


# ------------------------------------------------------------------------------------------------------------- size


def test_a_thousand_models_of_two_hundred_upstreams_load_well_within_a_second(files: Files) -> None:
    """Coarse on purpose: CPU seconds, ten times what it takes."""
    upstreams = "".join(f"  u{n}: {{base_url: 'https://u{n}.example/v1', key: k}}\n" for n in range(200))
    files.append("config.yaml", upstreams)
    models = "".join(
        f"  m{n}:\n    aliases: [vendor/m{n}]\n    candidates: [u{n % 200}, {{upstream: u{(n + 7) % 200}, model: x}}]\n"
        f"    price: {{input: 0.{n + 1}, output: 1}}\n    context: 9000\n"
        if n % 10
        else f"  m{n}: {{lane: [{', '.join(f'm{n + k}' for k in range(1, 10))}], price: {{input: 1, output: 1}}}}\n"
        for n in range(1000)
    )
    files.append("policies/models.yaml", models)
    started = time.process_time()
    generation = files.load(KEYS)
    took = time.process_time() - started
    assert len(generation.models) == 1900 + 3
    assert len(generation.models["m0"].candidates) == 18
    assert replace(generation.models["m0"], candidates=()).lane
    assert took < 5
