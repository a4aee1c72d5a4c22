"""A request as its payer's rails see it."""

from __future__ import annotations

from proxy.client_addresses import parse
from proxy.dialects import DIALECTS
from proxy.payments.api import Price
from proxy.payments.asking import ask_of
from proxy.payments.settings import Payments
from proxy.pricing.money import ZERO
from tests.support.fakes import exchange, origin

PRICE = Price(ZERO, ZERO, 1000, 1, 1, 0, 1, 1, "")


def client_of(peer: str, told: str | None = None) -> str:
    """Under whom invoices are counted."""
    seen = exchange(at=origin(peer=peer, loopback=False))
    seen.call = DIALECTS["openai.chat"].parse(b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}')
    seen.model = seen.generation.models["gpt-4o"]
    seen.client_address = None if told is None else parse(told)
    return ask_of(seen, PRICE, Payments(), 0).client


def test_invoices_are_counted_by_the_clients_address() -> None:
    """The one that a trusted front names, where a plugin looked; an IPv6 subscriber's are counted together."""
    assert client_of("10.0.0.1", told="203.0.113.9") == "203.0.113.9"
    assert client_of("2001:db8::1") == client_of("2001:db8::2") == "2001:db8::/64"


def test_clients_are_told_apart_where_no_plugin_looks_for_addresses() -> None:
    """Else one of them, with as many unpaid invoices as one may have, would leave none for anybody."""
    assert client_of("192.0.2.1") == "192.0.2.1"
