"""What a 402 offers: its headers and body, parsed once into typed offers. Bounded, and nothing in it is believed twice.

An offer that cannot be read is left out and named in `Challenge.problems`: the others may still be paid.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.ledger.payment_api import Unit
from proxy.payments.client import ecash
from proxy.payments.client.amounts import Amount
from proxy.payments.client.errors import BadOffer
from proxy.payments.client.invoices import Bolt11, readable

HEADER_CHARS_MAX: Final = 16_384
BODY_BYTES_MAX: Final = 1 << 20
CHALLENGES_MAX: Final = 8
ACCEPTS_MAX: Final = 16

_SCHEME: Final = re.compile(r"(?:^|,\s*)(L402|LSAT|Payment)\s+(?=[A-Za-z0-9_-]+\s*=)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"([^"]*)"|([^",\s]+))')
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_NETWORK: Final = re.compile(r"eip155:[1-9][0-9]{0,17}")
_AMOUNT: Final = re.compile(r"[1-9][0-9]{0,29}")

_MPP_REQUIRED: Final = frozenset({"id", "realm", "method", "intent", "request"})
_MPP_ECHOED: Final = _MPP_REQUIRED | {"expires", "digest", "opaque", "description"}

Headers = Sequence[tuple[str, str]]
"""Names in lower case, in the order they came; a name may repeat."""


@dataclass(frozen=True, slots=True)
class LightningOffer:
    """An invoice, and how its preimage is shown."""

    rail: str
    """l402 | mpp"""
    invoice: Bolt11
    token: str = field(default="", repr=False)
    """l402: the macaroon."""
    challenge: dict[str, str] = field(default_factory=dict)
    """mpp: its parameters, echoed."""

    @property
    def amount(self) -> Amount:
        return Amount(Unit.MSAT, self.invoice.msat)

    @property
    def detail(self) -> str:
        return f"invoice {self.invoice.payment_hash[:16]}..."

    def credential(self, preimage: str) -> tuple[str, str]:
        """The header field that shows the payment."""
        if self.rail == "l402":
            return "Authorization", f"L402 {self.token}:{preimage}"
        shown = {"challenge": self.challenge, "payload": {"preimage": preimage}}
        text = base64.urlsafe_b64encode(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).rstrip(b"=")
        return "Authorization", f"Payment {text.decode()}"


@dataclass(frozen=True, slots=True)
class X402Offer:
    """USDC by signed authorization (x402 version 2, scheme exact)."""

    network: str
    asset: str
    pay_to: str
    atomic: int
    seconds: int
    name: str
    version: str
    accepted: dict[str, Any] = field(repr=False)
    """The entry of `accepts` as it came, echoed."""
    resource: Any = field(default=None, repr=False)
    extensions: Any = field(default=None, repr=False)
    rail: str = "x402"

    @property
    def amount(self) -> Amount:
        return Amount(Unit.USDC, self.atomic)

    @property
    def detail(self) -> str:
        return f"{self.name} on {self.network} to {self.pay_to[:10]}..."


@dataclass(frozen=True, slots=True)
class CashuOffer:
    """Ecash in sats."""

    sats: int
    mints: tuple[str, ...]
    """() where any is taken."""
    rail: str = "cashu"

    @property
    def amount(self) -> Amount:
        return Amount.sats(self.sats)

    @property
    def detail(self) -> str:
        return f"ecash of {', '.join(self.mints)}" if self.mints else "ecash"


Offer = LightningOffer | X402Offer | CashuOffer


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 402, read."""

    offers: tuple[Offer, ...]
    body: dict[str, Any]
    route_model: str | None
    """What `auto` was routed to: asked for by name when it is paid."""
    problems: tuple[str, ...]
    """Offers that could not be read, in words."""


def read_challenge(headers: Headers, raw: bytes) -> Challenge:
    """Whatever a 402 offers. Never raises: what cannot be read is a problem."""
    offers: list[Offer] = []
    problems: list[str] = []
    for read in (_lightning, _x402, _cashu):
        offers.extend(read(headers, _json(raw), problems))
    return Challenge(tuple(offers), _json(raw), _one(headers, "x-route-model"), tuple(problems))


def _json(raw: bytes) -> dict[str, Any]:
    if len(raw) > BODY_BYTES_MAX:
        return {}
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _all(headers: Headers, name: str) -> list[str]:
    return [value for key, value in headers if key == name and len(value) <= HEADER_CHARS_MAX][:CHALLENGES_MAX]


def _one(headers: Headers, name: str) -> str | None:
    found = _all(headers, name)
    return found[0] if found else None


def _challenges(lines: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Scheme and parameters of every challenge, also of several in one line."""
    for line in lines:
        found = list(_SCHEME.finditer(line))
        for at, match in enumerate(found[:CHALLENGES_MAX]):
            end = found[at + 1].start() if at + 1 < len(found) else len(line)
            pairs = _PARAMETER.finditer(line, match.end(), end)
            yield match[1].lower(), {pair[1].lower(): pair[2] if pair[2] is not None else pair[3] for pair in pairs}


def _lightning(headers: Headers, _: dict[str, Any], problems: list[str]) -> Iterator[Offer]:
    for scheme, parameters in _challenges(_all(headers, "www-authenticate")):
        try:
            if scheme == "payment":
                if (parameters.get("method"), parameters.get("intent")) == ("lightning", "charge"):
                    yield _mpp(parameters)
            else:
                yield _l402(parameters)
        except BadOffer as error:
            problems.append(f"{'mpp' if scheme == 'payment' else 'l402'}: {error}")


def _l402(parameters: dict[str, str]) -> LightningOffer:
    token = parameters.get("macaroon") or parameters.get("token") or ""
    if not token or "invoice" not in parameters:
        raise BadOffer("there is no macaroon or no invoice")
    invoice = readable(parameters["invoice"])
    try:
        raw = base64.b64decode(token, validate=True)
    except ValueError as error:
        raise BadOffer("the macaroon is no base64") from error
    if bytes.fromhex(invoice.payment_hash) not in raw:
        raise BadOffer("the macaroon is not for this invoice: paying it would buy nothing")
    return LightningOffer("l402", invoice, token)


def _mpp(parameters: dict[str, str]) -> LightningOffer:
    if not parameters.keys() >= _MPP_REQUIRED:
        raise BadOffer("a parameter is missing")
    echoed = {name: value for name, value in parameters.items() if name in _MPP_ECHOED}
    try:
        request = orjson.loads(base64.urlsafe_b64decode(echoed["request"] + "=" * (-len(echoed["request"]) % 4)))
        text = request["methodDetails"]["invoice"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadOffer("its request names no invoice") from error
    return LightningOffer("mpp", readable(text), challenge=echoed)


def _x402(headers: Headers, _: dict[str, Any], problems: list[str]) -> Iterator[Offer]:
    value = _one(headers, "payment-required")
    if value is None:
        return
    try:
        envelope = orjson.loads(base64.b64decode(value, validate=True))
    except ValueError:
        problems.append("x402: Payment-Required is no JSON in base64")
        return
    accepts = envelope.get("accepts") if isinstance(envelope, dict) else None
    if not isinstance(accepts, list) or envelope.get("x402Version") != 2:
        problems.append("x402: the envelope is not one of version 2")
        return
    for entry in accepts[:ACCEPTS_MAX]:
        try:
            yield _accepted(entry, envelope)
        except BadOffer as error:
            problems.append(f"x402: {error}")


def _accepted(entry: Any, envelope: dict[str, Any]) -> X402Offer:
    if not isinstance(entry, dict) or entry.get("scheme") != "exact":
        raise BadOffer("the scheme is not exact")
    extra = entry.get("extra") or {}
    texts = [entry.get("network"), entry.get("asset"), entry.get("payTo"), entry.get("amount")]
    shapes = (_NETWORK, _ADDRESS, _ADDRESS, _AMOUNT)
    fits = all(isinstance(text, str) and shape.fullmatch(text) for text, shape in zip(texts, shapes, strict=True))
    seconds = entry.get("maxTimeoutSeconds")
    named = isinstance(extra, dict) and isinstance(extra.get("name"), str) and isinstance(extra.get("version"), str)
    if not fits or not named or not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
        raise BadOffer("network, asset, payTo, amount, maxTimeoutSeconds or extra is missing or malformed")
    network, asset, pay_to, amount = (str(text) for text in texts)
    return X402Offer(
        network, asset, pay_to, int(amount), seconds, extra["name"], extra["version"],
        entry, envelope.get("resource"), envelope.get("extensions"),
    )  # fmt: skip


def _cashu(headers: Headers, body: dict[str, Any], problems: list[str]) -> Iterator[Offer]:
    value = _one(headers, "x-cashu")
    try:
        if value is not None:
            yield CashuOffer(*ecash.read_request(value))
            return
        told = body.get("cashu")
        if isinstance(told, dict):
            sats = told.get("price_sats")
            if told.get("unit") != "sat" or not isinstance(sats, int) or isinstance(sats, bool) or sats < 1:
                raise BadOffer("price_sats or unit is missing or malformed")
            yield CashuOffer(sats, ())
    except BadOffer as error:
        problems.append(f"cashu: {error}")
