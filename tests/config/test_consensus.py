"""policies/consensus.yaml: what it becomes, and what is wrong with it, each at its place."""

from __future__ import annotations

from fractions import Fraction

import pytest

from proxy.config.schema import Generation
from proxy.consensus.settings import DIMENSIONS, DOMAINS, Consensus
from proxy.panels import mode_of
from proxy.pricing.money import Nano
from tests.support.files import Files
from tests.support.panels import CONSENSUS, KEYS

FILE = "policies/consensus.yaml"


@pytest.fixture
def panels(files: Files) -> Files:
    files.write(FILE, CONSENSUS)
    return files


def consensus_of(generation: Generation) -> Consensus:
    assert generation.consensus is not None
    return generation.consensus


def wrong(panels: Files, old: str, new: str) -> list[str]:
    """What is said where `old` is replaced in the file, without the file's name."""
    panels.edit(FILE, old, new)
    text = (panels.root / FILE).read_text()
    line = text[: text.index(new)].count("\n") + 1
    found = [one.removeprefix(f"{FILE}:").partition(": ") for one in panels.problems(KEYS)]
    assert {place.partition(":")[0] for place, _, _ in found} == {str(line)}
    return [said for _, _, said in found]


# -- what it becomes


def test_without_the_file_there_are_no_panels(files: Files) -> None:
    """Folders of before keep working."""
    generation = files.load(KEYS)
    assert generation.consensus is None
    assert not any(model.panel for model in generation.catalogue.values())


def test_seats_have_names_vendors_and_families_of_their_own(panels: Files) -> None:
    """An alias is its model; one that sits there again is numbered, spares after members."""
    quick = consensus_of(panels.load(KEYS)).modes["quick"]
    assert [(one.name, one.model, one.vendor, one.family) for one in quick.seats] == [
        ("small", "small", "openai", "small"),
        ("shared", "shared", "meta", "llama"),
        ("small#2", "small", "openai", "small"),
    ]
    assert [one.name for one in quick.spares] == ["shared#2"]
    assert quick.seats[1].weight == Fraction(5, 2)
    assert quick.synthesisers == quick.seats[:2]


def test_amounts_are_exact(panels: Files) -> None:
    """Dollars in nano-dollars, credits in thousandths, sats in msat."""
    modes = consensus_of(panels.load(KEYS)).modes
    assert (modes["quick"].budget, modes["quick"].price.usd) == (Nano(40_000_000), Nano(50_000_000))
    assert (modes["quick"].price.credits_milli, modes["quick"].price.msat) == (1500, None)
    assert modes["long"].price.msat == 500_000


def test_seats_can_do_what_their_models_can(panels: Files) -> None:
    """Images without a bound are as good as no sight."""
    panels.edit("policies/models.yaml", "    context: 1000\n", "    context: 1000\n    image_tokens_max: 85\n")
    panels.edit("policies/models.yaml", "    context: 8000\n", "    context: 8000\n    capabilities: [streaming]\n")
    small, shared, _ = consensus_of(panels.load(KEYS)).modes["quick"].seats
    assert (small.vision, small.tools, small.json_schema, small.context_tokens) == (True, True, True, 1000)
    assert (shared.vision, shared.tools, shared.json_schema, shared.context_tokens) == (False, False, False, 8000)


def test_every_mode_is_a_model_at_the_modes_price(panels: Files) -> None:
    """Served by everybody who may be called, each at its own list price."""
    generation = panels.load(KEYS)
    model = generation.models["consensus-quick"]
    assert model.rates is None and model.panel is consensus_of(generation).modes["quick"]
    assert model.operations == {"chat.completions", "orchestrate"}
    assert (model.context_tokens, model.output_tokens_default, model.output_tokens_max) == (180, 60, 80)
    assert (model.display_name, model.tags) == ("Quick", ("consensus",))
    known = {(one.model, one.upstream, one.upstream_model, one.context_tokens) for one in model.candidates}
    assert known == {
        ("small", "openai", "small", 1000), ("shared", "groq", "vendor/shared", 8000),
        ("shared", "openai", "shared", 8000),
    }  # fmt: skip
    plain = generation.models["shared"]
    assert [one.cost for one in model.candidates if one.model == "shared"] == [
        plain.list_rates(one) for one in plain.candidates
    ]


def test_auto_costs_what_its_second_mode_does_and_takes_what_both_take(panels: Files) -> None:
    """And is for who may call both."""
    generation = panels.load(KEYS)
    auto = generation.models["consensus-auto"].panel
    long = consensus_of(generation).modes["long"]
    assert auto is not None
    assert (auto.name, auto.price, auto.budget, auto.input_tokens_max) == ("long", long.price, long.budget, 100)
    assert generation.models["consensus-auto"].tiers == {"pro"}
    assert mode_of(consensus_of(generation), "consensus-auto") == "auto"


def test_domains_take_what_they_do_not_name_from_general(panels: Files) -> None:
    """Every domain and dimension is there, and each adds up to one."""
    shares = "{accuracy: 0.45, clarity: 0.05}"
    panels.append(FILE, f"weights:\n  dimensions:\n    legal: {shares}\n  calibration: [[0.1, 0.2], [0.9, 0.8]]\n")
    weights = consensus_of(panels.load(KEYS)).weights
    assert set(weights.dimensions) == set(DOMAINS)
    assert all(set(of) == set(DIMENSIONS) and sum(of.values()) == 1 for of in weights.dimensions.values())
    assert weights.dimensions["legal"]["clarity"] == Fraction(1, 20)
    assert weights.calibration[1] == (Fraction(9, 10), Fraction(4, 5))


def test_shares_may_be_fractions(panels: Files) -> None:
    """Two thirds have no end as a decimal."""
    panels.append(FILE, "rules: {plurality_small: 3/5, grace_seconds_max: 2}\n")
    rules = consensus_of(panels.load(KEYS)).rules
    assert (rules.plurality_small, rules.plurality_large, rules.grace_seconds_max) == (
        Fraction(3, 5), Fraction(4, 5), 2.0,
    )  # fmt: skip


# -- members that cannot be served


def test_a_spare_takes_the_place_of_who_has_no_provider(panels: Files) -> None:
    """One of another vendor first; a mode whose quorum still stands is served."""
    panels.edit("policies/models.yaml", "      - openai\n", "")
    panels.edit(FILE, "    members: [small, {model: shared, vendor: meta, family: llama, weight: 2.5}, tiny]\n",
                "    members: [small, small, shared]\n    vendors_min: 1\n")  # fmt: skip
    panels.edit(FILE, "    spares: [shared]\n", "    spares: [{model: small, vendor: other}]\n")
    generation = panels.load({"OPENAI_API_KEY": "k"})
    mode = consensus_of(generation).modes["quick"]
    assert [one.name for one in mode.seats] == ["small", "small#2", "small#3"]
    assert mode.spares == ()
    assert generation.models["consensus-quick"].panel == mode
    assert {one.upstream for one in generation.models["consensus-quick"].candidates} == {"openai"}


def test_a_mode_without_a_quorum_is_unavailable_and_says_what_to_set(panels: Files) -> None:
    """Known all the same; auto waits with it."""
    panels.edit("policies/models.yaml", "      - openai\n", "")
    generation = panels.load({"GROQ_API_KEY": "k"})
    assert "consensus-quick" not in generation.models and "consensus-auto" not in generation.models
    assert generation.catalogue["consensus-quick"].panel is not None
    assert generation.unavailable_models["consensus-quick"] == (
        "its members are of 1 vendor, and it needs 2: set OPENAI_API_KEY in the environment (small)"
    )
    assert generation.unavailable_models["consensus-auto"] == (
        "it waits for what makes consensus-quick and consensus-long available"
    )
    assert len(consensus_of(generation).modes["quick"].seats) == 3


# -- what is wrong with it


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("members: [small, shared]", "members: [smal, shared]",
         "modes.long.members[0]: there is no model 'smal' in models.yaml. Did you mean 'small'?"),
        ("synthesisers: [shared]", "synthesisers: [consensus-quick]",
         "modes.long.synthesisers[0]: 'consensus-quick' is a panel itself: a panel has no panels as members"),
        ("members: [small, shared]", "members: [small, consensus-auto]",
         "modes.long.members[1]: 'consensus-auto' is a panel itself: a panel has no panels as members"),
        ("default: quick", "default: quik", "default: there is no mode 'quik'. Did you mean 'quick'?"),
        ("auto: [quick, long]", "auto: [quick, lon]", "auto[1]: there is no mode 'lon'. Did you mean 'long'?"),
        ("auto: [quick, long]", "auto: [long, quick]",
         "auto[1]: the second is the dearer mode, in price and in budget: 'auto' costs as much"),
        ("auto: [quick, long]", "auto: [long, long]", "auto[1]: the second mode is another one than the first"),
        ("tiers: [pro]", "tiers: [por]",
         "modes.long.tiers[0]: there is no tier 'por' in tiers.yaml. Did you mean 'pro'?"),
        ("refine_rounds_max: 1", "reevaluate: true",
         "modes.long.reevaluate: nothing is refined here: set refine_rounds_max"),
        ("call_seconds: 25", "call_seconds: 61",
         "modes.long.deadlines.call_seconds: more than total_seconds, which is 60"),
        ("price: {usd: 0.35", "price: {usd: -0.35",
         "modes.long.price.usd: an amount is zero or more, not -0.35"),
        ("credits: 1.5", "credits: 1.2345",
         "modes.quick.price.credits: 1.2345 credits have more than 3 decimals"),
        ("weight: 2.5", "weight: 0", "modes.quick.members[1].weight: a weight is more than 0 and at most 100"),
        ("prefix: consensus-", "prefix: byo-",
         "prefix: names that begin with 'byo-' are kept for customers' own models"),
        ('"Judge. {shape}"', '"Judge."', "prompts.evaluate: the placeholder '{shape}' is missing"),
        ('"Judge. {shape}"', '"Judge {shap} {shape}"',
         "prompts.evaluate: unknown placeholder '{shap}'; here are {dimensions}{domain}{language}{shape}, and "
         "braces of the text itself are doubled. Did you mean 'shape'?"),
        ('"Judge. {shape}"', '"Judge {shape.__class__} {shape}"',
         "prompts.evaluate: unknown placeholder '{shape.__class__}'; here are "
         "{dimensions}{domain}{language}{shape}, and braces of the text itself are doubled"),
        ('"Judge. {shape}"', '"Judge { {shape}"', None),
    ],
)  # fmt: skip
def test_mistakes_are_told_at_their_place(panels: Files, old: str, new: str, said: str | None) -> None:
    """With file, line, column, key, and the near miss."""
    found = wrong(panels, old, new)
    assert len(found) == 1
    if said is None:
        assert "prompts.evaluate" in found[0] and "braces of the text itself" in found[0]
    else:
        assert found[0] == said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("evaluate: true", "evaluate: false",
         "modes.long.refine_rounds_max: needs 'evaluate: true': it works on what the members say of each other"),
        ("quorum: 2\n    evaluate", "quorum: 3\n    evaluate", "modes.long.quorum: more than its 2 members"),
        ("quorum: 2\n    evaluate", "quorum: 2\n    vendors_min: 3\n    evaluate",
         "modes.long.vendors_min: more than the vendors of its members (openai, groq): seat another, or say "
         "vendors_min: 2"),
        ("final: 60, final_max: 80}\n    input_tokens_max: 200", "final: 90, final_max: 80}\n    input_tokens_max: 200",
         "modes.long.tokens.final: more than final_max, which is 80"),
        ("{member: 50, evaluation: 40, check: 40, final: 60, final_max: 80}\n    input_tokens_max: 200",
         "{member: 501, evaluation: 40, check: 40, final: 60, final_max: 80}\n    input_tokens_max: 200",
         "modes.long.tokens.member: 'small' puts out at most 500 tokens (output_max)"),
        ("input_tokens_max: 200", "input_tokens_max: 900",
         "modes.long.input_tokens_max: 'small' takes 1000 tokens, and with the answers that it reads and writes it "
         "would need 1080"),
    ],
)  # fmt: skip
def test_numbers_go_together(panels: Files, old: str, new: str, said: str) -> None:
    """What one key says of another is told at the key that must change."""
    panels.edit(FILE, old, new)
    assert said in [one.split(": ", 1)[1] for one in panels.problems(KEYS)]


def test_a_budget_that_carries_no_run_is_told_what_it_would_take(panels: Files) -> None:
    """To the nano-dollar: with that much the file is in order."""
    panels.edit(FILE, "budget_usd: 0.04\n", "budget_usd: 0.000001\n")
    (said,) = panels.problems(KEYS)
    assert "modes.quick.budget_usd: 2 answers and a synthesis can cost " in said
    assert "where the question has 100 tokens: set budget_usd to that at least, or lower input_tokens_max" in said
    panels.edit(FILE, "budget_usd: 0.000001\n", f"budget_usd: {said.partition('can cost ')[2].split()[0]}\n")
    assert panels.load(KEYS).models["consensus-quick"].panel is not None


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("judges: 0.5", "weights.judges: judges, claims and agreement add up to 0.95, not to 1"),
        ("dimensions: {general: {accuracy: 0.5}}",
         "weights.dimensions.general: the shares of 'general' add up to 1.15, not to 1"),
        ("dimensions: {legal: {accuracy: 0.5}}",
         "weights.dimensions.legal: the shares of 'legal' add up to 1.15, with what is taken from general, not to 1"),
        ("dimensions: {legl: {accuracy: 0.5}}",
         "weights.dimensions.legl: there is no domain 'legl'. Did you mean 'legal'?"),
        ("dimensions: {legal: {acuracy: 0.5}}",
         "weights.dimensions.legal.acuracy: there is no dimension 'acuracy'. Did you mean 'accuracy'?"),
        ("judges: 1.5", "weights.judges: a share is from 0 to 1, not 1.5"),
        ("judges: 1/0", "weights.judges: a share from 0 to 1 is wanted here: 0.35, or 2/3"),
        ("calibration: [[0.1, 0.5], [0.2, 0.4]]",
         "weights.calibration[1]: calibration rises: this is not above the one before it"),
        ("calibration: [[0.2, 0.4], [0.2, 0.5]]",
         "weights.calibration[1]: calibration rises: this is not above the one before it"),
    ],
)  # fmt: skip
def test_shares_add_up_and_curves_rise(panels: Files, weights: str, said: str) -> None:
    """Exactly."""
    panels.append(FILE, f"weights:\n  {weights}\n")
    found = panels.problems(KEYS)
    assert [one.split(": ", 1)[1] for one in found] == [said]


def test_a_grace_has_its_bounds_in_order(panels: Files) -> None:
    """The least is not more than the most."""
    panels.append(FILE, "rules: {grace_seconds_min: 3, grace_seconds_max: 2}\n")
    (said,) = panels.problems(KEYS)
    assert said.endswith("rules.grace_seconds_min: more than grace_seconds_max, which is 2")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("  vectors:\n    candidates: [openai]\n    price: {input: 1}\n    context: 9\n    operations: [embeddings]\n",
         "'vectors' serves embeddings, and members are called by chat.completions"),
        ("  vectors:\n    lane: [small]\n    price: {input: 1, output: 1}\n",
         "'vectors' is a lane, which any of its members may serve: name one of them"),
        ("  vectors:\n    candidates: [openai]\n    price: {input: 1, output: 1}\n    context: 9000\n"
         "    capabilities: [tools]\n", "'vectors' does not stream, and members are listened to as they answer"),
    ],
)  # fmt: skip
def test_not_every_model_can_sit_on_a_panel(panels: Files, model: str, said: str) -> None:
    """It must answer a chat, stream, and be one model."""
    panels.append("policies/models.yaml", model)
    panels.edit(FILE, "members: [small, shared]", "members: [vectors, shared]")
    found = panels.problems(KEYS)
    assert [one.split(": ", 2)[2] for one in found] == [said]


def test_a_name_that_is_taken_is_told(panels: Files) -> None:
    """A panel never hides a model of models.yaml, nor one of its aliases."""
    panels.edit("policies/models.yaml", "aliases: [tiny]", "aliases: [tiny, consensus-long, consensus-auto]")
    assert [one.split(": ", 1)[1] for one in panels.problems(KEYS)] == [
        "auto: the name 'consensus-auto' is already taken by a model of models.yaml: rename one of them",
        "modes.long: the name 'consensus-long' is already taken by a model of models.yaml: rename one of them",
    ]


def test_auto_that_no_tier_may_ask_for_stops_the_start(panels: Files) -> None:
    """Modes for different tiers leave nobody for auto: it is refused, never open to everybody."""
    panels.edit(FILE, "    display_name: Quick\n", "    display_name: Quick\n    tiers: [standard]\n")
    assert any("no tier may ask for both modes, so nobody for 'auto'" in one for one in panels.problems(KEYS))


def test_auto_is_no_mode_of_its_own(panels: Files) -> None:
    """It is what the key above says."""
    text = CONSENSUS.replace("auto: [quick, long]\n", "").replace("  quick:", "  auto:").replace(": quick", ": auto")
    panels.write(FILE, text)
    assert any("'auto' is no mode of its own: set the key 'auto' above" in one for one in panels.problems(KEYS))


def test_rules_of_teams_name_panels_like_any_model(panels: Files) -> None:
    """In lists of allowed and of denied models; one that is not there is told."""
    panels.append("policies/teams.yaml", "    models: {deny: [consensus-long], allow: [consensus-quick, small]}\n")
    rules = panels.load(KEYS).teams["research"].rules
    assert rules is not None and "consensus-long" in rules.rules.models_denied
    panels.edit("policies/teams.yaml", "consensus-long", "consensus-lon")
    (said,) = panels.problems(KEYS)
    assert said.endswith("Did you mean 'consensus-long'?")


def test_a_file_that_is_broken_stops_the_start(panels: Files) -> None:
    """It may be absent, not half there."""
    panels.write(FILE, "modes: {}\n")
    assert panels.problems(KEYS)
