"""The most an exchange can cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from plugins.pricing.plugin import PricingPlugin
from proxy.catalogue import Candidate
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.operations import EMBEDDINGS
from proxy.plugin import PluginSettings
from proxy.policy.callers import merged
from proxy.policy.rules import Policy, Rules, ScopedRules
from proxy.pricing.rates import Rates
from tests.support.fakes import CHAT_BODY, Rest, exchange, generation, identity, model
from tests.support.panels import mode, panel_model
from tests.support.rules import scoped


def resolved(body: dict[str, Any] | None = None, *, own: bool = False, **changes: Any) -> Exchange:
    """An exchange that has come as far as RESOLVE."""
    seen = exchange(body=body, under=generation(models={"gpt-4o": model(**changes)}))
    seen.identity = identity(provider_credential=own)
    seen.call = DIALECTS["openai.chat"].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.model = seen.generation.models["gpt-4o"]
    return seen


async def price(seen: Exchange) -> None:
    await PricingPlugin(PluginSettings(), SimpleNamespace())(seen, Rest())  # type: ignore[arg-type]


async def test_quote_bounds_input_by_bytes_and_output_by_its_limit() -> None:
    """At 2.50 and 10 USD a million, in nano-dollars."""
    seen = resolved({**CHAT_BODY, "max_tokens": 70, "n": 3})
    await price(seen)
    assert seen.quote is not None
    assert (seen.quote.output_tokens, seen.quote.choices) == (70, 3)
    assert seen.quote.charged == seen.quote.input_tokens * 2_500 + 210 * 10_000
    assert seen.quote.list == seen.quote.charged


@pytest.mark.parametrize(("asked", "granted"), [(None, 1000), (50, 50), (99_999, 16_000)])
async def test_output_limit_is_the_clients_up_to_the_models(asked: int | None, granted: int) -> None:
    """Absent: the catalogue's default; beyond the model: lowered."""
    seen = resolved({**CHAT_BODY, **({} if asked is None else {"max_completion_tokens": asked})})
    await price(seen)
    assert seen.quote is not None and seen.quote.output_tokens == granted


async def test_model_without_a_price_is_refused_never_free() -> None:
    """Whatever the configuration let through."""
    with pytest.raises(Refusal) as refused:
        await price(resolved(rates=None))
    assert refused.value.code == "model_not_available"


async def test_own_provider_key_is_quoted_nothing_and_its_list_cost() -> None:
    """Charged 0; unpriced models pass with an unknown list cost."""
    seen = resolved(own=True)
    await price(seen)
    assert seen.quote is not None and seen.quote.charged == 0 and (seen.quote.list or 0) > 0
    unpriced = resolved(own=True, rates=None)
    await price(unpriced)
    assert unpriced.quote is not None and unpriced.quote.list is None and not unpriced.quote.bounded


def lane(*candidates: Candidate, **changes: Any) -> dict[str, Any]:
    return {"candidates": candidates, "lane": True, "encoding": None, **changes}


async def test_admissible_candidates_stand_in_the_quote() -> None:
    """Those that can do what the call needs, in the file's order."""
    able, unable = Candidate("a", "m"), Candidate("b", "m", capabilities=frozenset())
    seen = resolved({**CHAT_BODY, "stream": True}, **lane(unable, able))
    await price(seen)
    assert seen.quote is not None and seen.quote.candidates == (able,)
    with pytest.raises(Refusal) as refused:
        await price(resolved({**CHAT_BODY, "stream": True}, **lane(unable)))
    assert (refused.value.status, refused.value.param) == (400, "stream")


async def test_denied_members_are_not_admissible() -> None:
    """A rule against a model counts where a lane would serve it, too."""
    seen = resolved(**lane(Candidate("a", "m", model="cheap"), Candidate("b", "m", model="good")))
    rules = ScopedRules("team", "default", Rules(models_denied=("cheap",)))
    seen.policy = Policy((rules,), restricts_models=True)
    await price(seen)
    assert seen.quote is not None and [one.model for one in seen.quote.candidates] == ["good"]


async def test_long_input_goes_to_those_that_take_it_by_count() -> None:
    """Where bytes do not fit, tokens are counted once; what the largest does not take is refused."""
    small, large = Candidate("a", "m", context_tokens=2_000), Candidate("b", "m", context_tokens=7_000)
    for body, admitted in (
        ({**CHAT_BODY, "max_tokens": 10, "messages": [{"role": "user", "content": " " * 20_000}]}, (small, large)),
        ({**CHAT_BODY, "max_tokens": 10, "messages": [{"role": "user", "content": "one two " * 2_500}]}, (large,)),
    ):
        seen = resolved(body, **lane(small, large, context_tokens=7_000))
        await price(seen)
        assert seen.quote is not None and seen.quote.candidates == admitted
    body = {**CHAT_BODY, "messages": [{"role": "user", "content": "one two " * 5_000}]}
    with pytest.raises(Refusal) as refused:
        await price(resolved(body, **lane(small, large, context_tokens=7_000)))
    assert (refused.value.code, "takes 7000" in refused.value.message) == ("context_length_exceeded", True)


async def test_a_customers_own_model_needs_no_price() -> None:
    """Charged nothing; its list cost is said where it is known."""
    seen = resolved(rates=Rates(0, 0), byo=True)
    await price(seen)
    assert seen.quote is not None and (seen.quote.charged, seen.quote.list) == (0, None)


async def test_every_input_of_an_embeddings_request_has_the_context_for_itself() -> None:
    """A batch may be longer than the context, none of its inputs may."""
    for given, fits in (
        (["one two " * 100] * 50, True),
        (["one two " * 1_500], False),
        ("one two " * 1_500, False),
        ([[1] * 900] * 20, True),
        ([[1] * 1_100], False),
        ([1] * 1_100, False),
    ):
        seen = exchange(operation=EMBEDDINGS, body={"model": "gpt-4o", "input": given})
        seen.identity, seen.model = identity(), model(context_tokens=1_000)
        seen.call = DIALECTS["openai.embeddings"].parse(await seen.request.body(1 << 20))
        if fits:
            await price(seen)
            assert seen.quote is not None
        else:
            with pytest.raises(Refusal) as refused:
                await price(seen)
            assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


async def test_input_beyond_the_context_is_refused_by_count_not_by_bytes() -> None:
    """Many bytes may be few tokens; many tokens are refused before they cost."""
    spaces = {**CHAT_BODY, "messages": [{"role": "user", "content": " " * 20_000}]}
    words = {**CHAT_BODY, "messages": [{"role": "user", "content": "one two " * 2_500}]}
    fits = resolved(spaces, context_tokens=2_000)
    await price(fits)
    assert fits.quote is not None
    with pytest.raises(Refusal) as refused:
        await price(resolved(words, context_tokens=2_000))
    assert refused.value.code == "context_length_exceeded"
    own = resolved(words, own=True, context_tokens=2_000)
    await price(own)
    assert own.quote is not None


def of_panel(*denied: str, allowed: tuple[str, ...] | None = None, **body: Any) -> Exchange:
    """A call to a panel of a caller whose team denies or allows models."""
    panel = panel_model(mode(spares=()))
    seen = exchange(body={**CHAT_BODY, **body}, under=generation(models={panel.name: panel}))
    seen.identity, seen.model = identity(), panel
    seen.call = DIALECTS["openai.chat"].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.policy = merged([scoped("team", models_denied=denied, models_allowed=allowed)], "standard")
    return seen


async def test_a_panel_is_quoted_at_its_price_with_the_members_that_rules_leave() -> None:
    """A list of denied models takes members out; one of allowed models names the panel alone."""
    seen = of_panel("c", allowed=("consensus-*",))
    await price(seen)
    assert seen.quote is not None
    assert (seen.quote.charged, seen.quote.list) == (50_000_000, 40_000_000)
    assert [one.model for one in seen.quote.candidates] == ["a", "b"]


async def test_a_panel_of_too_few_permitted_members_is_refused() -> None:
    """Nothing is quoted."""
    seen = of_panel("b", "c")
    with pytest.raises(Refusal) as refused:
        await price(seen)
    assert refused.value.code == "model_not_allowed" and seen.quote is None
