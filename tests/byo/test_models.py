"""From a registration to what the chain serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.byo.models import CONNECTIONS_MAX, Unusable, model_of
from proxy.byo.registrations import Registration
from proxy.catalogue import Model
from proxy.config.schema import Generation
from proxy.upstreams.api import Probe, Upstream
from tests.byo.making import LIST, OPENAI, SECRET, configured, wanted
from tests.support.fakes import model as catalogue_model


def registered(under: Generation, **changes: Any) -> Registration:
    """As the store would make it."""
    one = wanted(under, **changes)
    return Registration(
        "0123456789ab", "red", one.alias, one.upstream, one.base_url, one.model, one.operations,
        one.credential_header, "NARY", 1_700_000_000_000,
    )  # fmt: skip


def endpoint_of(made: Model) -> Upstream:
    found = made.candidates[0].endpoint
    if found is None:
        raise LookupError(made.name)
    return found


def test_it_is_charged_nothing_and_costs_at_list_what_the_catalogue_says() -> None:
    """Limits are the catalogue's, too."""
    under = configured()
    made = model_of(registered(under), SECRET, under)
    assert (made.name, made.byo, made.operations) == ("byo-gpt", True, {"chat.completions", "embeddings"})
    assert made.rates is not None and made.rates.free
    assert made.list_rates(made.candidates[0]) == LIST
    assert (made.context_tokens, made.output_tokens_max, made.encoding) == (128_000, 16_000, "o200k_base")
    assert made.candidates[0].upstream_model == "gpt-4o"


@pytest.mark.parametrize("changes", [{"model": "gpt-unheard-of"}, {"base_url": "https://llm.example.com/v1"}])
def test_an_unknown_model_has_no_list_price(changes: dict[str, Any]) -> None:
    """None, never 0: a cap on list cost cannot count it."""
    under = configured()
    made = model_of(registered(under, **changes), SECRET, under)
    assert made.list_rates(made.candidates[0]) is None
    assert made.rates is not None and made.rates.free


def test_a_lane_of_the_catalogue_prices_nothing() -> None:
    """Its candidates are other models'."""
    under = configured()
    lane = catalogue_model("auto", candidates=under.catalogue["gpt-4o"].candidates, lane=True)
    under = replace(under, catalogue={"auto": lane})
    made = model_of(registered(under), SECRET, under)
    assert made.list_rates(made.candidates[0]) is None


def test_a_configured_upstream_gets_the_customers_key_and_nothing_of_the_operators_account() -> None:
    """Not its key, not its organisation, no probe with somebody's key, no partner's account."""
    upstream = replace(OPENAI, partner="ann", probe=Probe())
    under = configured(upstream=upstream)
    endpoint = endpoint_of(model_of(registered(under), SECRET, under))
    assert endpoint.key == SECRET
    assert endpoint.headers == (("openai-beta", "assistants=v2"),)
    assert (endpoint.partner, endpoint.probe, endpoint.public_only) == (None, None, False)
    assert (endpoint.base_url, endpoint.output_field) == (OPENAI.base_url, "max_completion_tokens")


def test_each_registration_is_an_upstream_of_its_own() -> None:
    """Connections and circuits of one customer are not another's; no configured name looks like it."""
    under = configured()
    one = registered(under)
    first, second = (model_of(r, SECRET, under) for r in (one, replace(one, id="ba9876543210", team="blue")))
    assert endpoint_of(first).name == first.candidates[0].upstream == "byo:0123456789ab"
    assert endpoint_of(second).name == "byo:ba9876543210"


def test_a_rotated_key_begins_anew() -> None:
    """What failed with the old key opened no circuit of the new one, and left it no connection."""
    under = configured()
    one = replace(registered(under), rotated_ms=1_700_000_060_000)
    assert endpoint_of(model_of(one, SECRET, under)).name == "byo:0123456789ab.1700000060000"


def test_a_base_url_is_dialled_under_guard() -> None:
    """And few connections; what it may be told of us is that we are a proxy."""
    under = configured()
    endpoint = endpoint_of(model_of(registered(under, base_url="https://llm.example.com/v1"), SECRET, under))
    assert endpoint.public_only
    assert endpoint.connections_max == CONNECTIONS_MAX
    assert endpoint.headers == (("via", "1.1 tollway"),)
    assert (endpoint.credential_header, endpoint.credential_scheme) == ("authorization", "Bearer")


def test_a_listed_host_is_dialled_without_guard() -> None:
    """As long as it is listed."""
    under = configured(allow_private=frozenset({"127.0.0.1:8000"}))
    one = registered(under, base_url="http://127.0.0.1:8000/v1")
    assert not endpoint_of(model_of(one, SECRET, under)).public_only
    with pytest.raises(Unusable, match="no longer allowed"):
        model_of(one, SECRET, configured())


def test_anthropics_format_takes_the_bare_key_and_a_version() -> None:
    """As its servers ask for it."""
    under = configured()
    one = registered(under, base_url="https://llm.example.com", operations=["messages"], credential_header="x-api-key")
    endpoint = endpoint_of(model_of(one, SECRET, under))
    assert (endpoint.credential_header, endpoint.credential_scheme) == ("x-api-key", "")
    assert ("anthropic-version", "2023-06-01") in endpoint.headers


@pytest.mark.parametrize(
    "moved", ["https://evil.example.com/v1", "http://api.openai.com/v1", "https://api.openai.com:8443/v1"]
)
def test_a_key_does_not_follow_an_upstream_to_another_host(moved: str) -> None:
    """It was given for the one that was there."""
    under = configured()
    later = configured(upstream=replace(OPENAI, base_url=moved))
    with pytest.raises(Unusable, match="another host"):
        model_of(registered(under), SECRET, later)


def test_another_path_of_the_same_host_is_followed() -> None:
    """The provider is still who it was."""
    under = configured()
    later = configured(upstream=replace(OPENAI, base_url="https://api.openai.com/v2"))
    assert endpoint_of(model_of(registered(under), SECRET, later)).base_url == "https://api.openai.com/v2"


def test_an_upstream_that_is_offered_no_more_is_unusable() -> None:
    """Taken out of the configuration, or out of what customers may use."""
    under = configured()
    one = registered(under)
    for later in (replace(under, upstreams={}), replace(under, byo=replace(under.byo, upstreams=()))):
        with pytest.raises(Unusable, match="no longer offered"):
            model_of(one, SECRET, later)


def test_an_upstream_without_the_operators_key_serves_customers() -> None:
    """It is configured, and the key is theirs."""
    under = configured(upstream=replace(OPENAI, key=None))
    under = replace(under, upstreams={}, keyless_upstreams=under.upstreams)
    assert endpoint_of(model_of(registered(under), SECRET, under)).key == SECRET


def test_the_secret_is_in_no_repr() -> None:
    """Of the model, its candidate, its upstream."""
    under = configured()
    made = model_of(registered(under, base_url="https://llm.example.com/v1"), SECRET, under)
    assert SECRET not in repr(made)
    assert SECRET not in repr(endpoint_of(made))
