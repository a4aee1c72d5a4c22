"""What an invoice buys: the request that was quoted, and everything that costs no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.payments.l402.terms import Terms
from proxy.pricing.money import Nano
from tests.support.lightning import PRICE, asked

QUOTED = asked()
TERMS = Terms.of(QUOTED)
OTHER = b'{"model":"gpt-4o","other":1}'


def test_terms_survive_the_ledger() -> None:
    """What is kept with the invoice is what was quoted."""
    assert Terms.parse(TERMS.json()) == TERMS
    items = Terms.of(asked(input_items=5))
    assert Terms.parse(items.json()).limits.input_items == 5


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "{}", '{"v":2}', '{"v":1}', '{"v":1,"limits":{}}', TERMS.json()[:-1] + ',"x":1}']
)
def test_terms_of_another_make_are_refused(text: str) -> None:
    """Nobody guesses what was sold."""
    with pytest.raises(ValueError, match=r".*"):
        Terms.parse(text)


def test_same_request_is_covered_however_its_input_is_counted() -> None:
    """Where counting is too dear at the moment, the input is bounded by its bytes: it is the same request still."""
    TERMS.covers(asked(input_tokens=9999, input_chars=9999, usd=Nano(PRICE.usd * 100)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"output_tokens": 10, "max_tokens": 10, "usd": Nano(1)},
        {"input_tokens": 1, "input_chars": 1},
        {"output_tokens": 50, "max_tokens": 25},
    ],
)
def test_request_that_costs_no_more_is_covered(changes: dict[str, Any]) -> None:
    """Another body, not larger in anything."""
    TERMS.covers(asked(OTHER, **changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "/v1/embeddings"}, "Path mismatch"),
        ({"method": "GET"}, "Path mismatch"),
        ({"model": "gpt-4o-mini"}, "Model mismatch"),
        ({"output_tokens": 51}, "max_tokens exceeds paid amount"),
        ({"output_tokens": 100, "max_tokens": 50}, "max_tokens exceeds paid amount"),
        ({"input_tokens": 13}, "Input exceeds paid amount"),
        ({"input_chars": 61}, "Input exceeds paid amount"),
        ({"usd": Nano(PRICE.usd + 1)}, "Input exceeds paid amount"),
    ],
)
def test_request_that_costs_more_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Another path, model, more choices, a larger input, or features that cost more: with the published reasons."""
    with pytest.raises(Refusal) as caught:
        TERMS.covers(asked(OTHER, **changes))
    assert (caught.value.code, caught.value.status) == ("invalid_payment", 401)
    assert caught.value.message.startswith(reason)


@pytest.mark.parametrize("changes", [{"output_tokens": 51}, {"model": "gpt-4o-mini"}])
def test_same_body_buys_no_other_model_or_longer_answer(changes: dict[str, Any]) -> None:
    """A body without max_tokens, whose default has grown; an alias that stands for another model by now."""
    with pytest.raises(Refusal):
        TERMS.covers(asked(**changes))


def test_more_items_are_refused() -> None:
    """Of an embeddings request, without tolerance."""
    terms = Terms.of(asked(input_items=2))
    terms.covers(asked(OTHER, input_items=2))
    with pytest.raises(Refusal, match="Input exceeds paid amount: 2 items"):
        terms.covers(asked(OTHER, input_items=3))


def test_price_change_does_not_void_a_quote() -> None:
    """Dollars are compared only where the operator's rates are what they were."""
    TERMS.covers(asked(OTHER, price=replace(PRICE, usd=Nano(PRICE.usd * 3), rates_digest="rates-2")))
