"""Part 8, payment: CPU of looking at a payment, of paying from a balance, and of a whole 402, in this process.

Credentials come from the rails' own offers and a payer's own wallet. The ledger is a real file, and its thread counts;
no node, mint or facilitator is asked, for what they take is theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import orjson

from bench import tollway
from bench.figures import median
from bench.process import free_port
from bench.upstream import ANSWER, NO_HEADERS
from bench.wire import Endpoint
from proxy.assembly import build_plugins
from proxy.chain import compose
from proxy.clock import SystemClock
from proxy.config.load import load_generation
from proxy.exchange import Exchange, Finish, ListenerKind, Origin, Request, Response
from proxy.headers import Headers
from proxy.keys import KeyStore
from proxy.ledger.payment_api import BalanceKind, NewBalance, Proof, Unit
from proxy.ledger.store import SqliteLedger
from proxy.operations import CHAT
from proxy.payments.api import Ask
from proxy.payments.cashu import blinding
from proxy.payments.cashu.tokens import encode_token, parse_token
from proxy.payments.client.evm import sign
from proxy.payments.client.offers import X402Offer, read_challenge
from proxy.payments.credentials import presented
from proxy.payments.lightning.dev import DevWallet
from proxy.payments.rails import Rails, build_rails
from proxy.payments.tokens import digest_of, token_for
from proxy.serving import tune_collector
from proxy.state import Counters
from proxy.telemetry.log import get_logger
from proxy.telemetry.metrics import Metrics
from proxy.upstreams.health import UpstreamStates

ROUNDS: Final = 7
AT_ONCE: Final = 16
"""Exchanges that are under way together where the ledger takes part: it writes many in one go, as in service."""
CALLS: Final = 400
"""In a round, of each kind, in turn."""
NOTES: Final = 4
SATS: Final = 8
PAYER_KEY: Final = "0x" + "11" * 32
PAYMENTS: Final = {
    "secret": "5e" * 32,
    "lightning": {"backend": "dev", "development": True},
    "x402": {
        "pay_to": "0x00000000000000000000000000000000000000aa",
        "facilitator": "https://facilitator.invalid",
    },
}
_ANSWER: Final = orjson.dumps(ANSWER)


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


async def _upstream(exchange: Exchange) -> Response:
    if exchange.route is not None:
        exchange.route.current.status, exchange.route.current.outcome = 200, "served"
    return Response(200, Headers({"content-type": "application/json"}), _ANSWER)


class _OneInvoice:
    """The node's first invoice, given to all who ask: what a 402 takes beside the node and the invoice's row."""

    def __init__(self, invoices: Any) -> None:
        self._invoices = invoices
        self._made: Any = None

    async def issue(self, **asked: Any) -> Any:
        if self._made is None:
            self._made = await self._invoices.issue(**asked)
        return self._made


class _Shop:
    """The shipped chain with rails, behind it nothing."""

    def __init__(self, folder: Path) -> None:
        config = tollway.write_configuration(folder, free_port(), free_port(), change=_with_payments)
        keys, database = tollway.make_keys(config)
        self.key = keys[0]
        self.clock = SystemClock()
        self.generation = load_generation(config)
        if self.generation.payments is None:
            raise RuntimeError("no rail is on")
        log = get_logger()
        self.ledger = SqliteLedger.open(database, self.clock, log)
        self.rails: Rails = build_rails(
            self.generation.payments, state=self.generation.state, ledger=self.ledger, clock=self.clock, log=log
        )
        self.rails = replace(self.rails, invoices=_OneInvoice(self.rails.invoices))
        self.wallet = DevWallet(self.rails.keys, self.generation.state, self.clock)
        services = SimpleNamespace(
            clock=self.clock, log=log, ledger=self.ledger, keys=KeyStore(database, self.clock),
            metrics=Metrics(models=self.generation.models, teams=self.generation.teams),
            counters=Counters(self.clock), upstreams=SimpleNamespace(), states=UpstreamStates(self.clock),
            byo=SimpleNamespace(model=lambda *_: None), generation=self.generation, rails=self.rails,
            webhooks=None, inward=None, once=SimpleNamespace(ready=False), conversations=None,
        )  # fmt: skip
        self._call = compose(build_plugins(self.generation, services), _upstream, log)
        self._body = Endpoint("bench", 1, tollway.MODEL, NO_HEADERS).requests()[0].partition(b"\r\n\r\n")[2]
        self._number = 0

    async def one(self, **headers: str) -> tuple[Exchange, Response]:
        """One whole exchange: in, through, out, settled."""
        self._number += 1
        fields = {
            "content-type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        exchange = Exchange(
            request_id=f"bench-{self._number}",
            origin=Origin("api", ListenerKind.REVERSE, "203.0.113.9", loopback=False),
            request=Request(
                method="POST", path="/v1/chat/completions", headers=Headers(fields), authority="shop.example",
                scheme="https", reader=_Body(self._body),
            ),
            operation=CHAT, generation=self.generation, started=self.clock.monotonic(), started_ms=self.clock.now_ms(),
        )  # fmt: skip
        response = await self._call(exchange)
        exchange.status = response.status
        for closing in exchange.before_finish:
            await closing()
        if raised := exchange.finish(Finish.SERVED):
            raise raised[0]
        return exchange, response


def _fields(headers: dict[str, str]) -> dict[str, str]:
    """Header fields by their Python names."""
    return {name.replace("_", "-"): text for name, text in headers.items()}


def _with_payments(config: dict[str, Any], _models: dict[str, Any]) -> None:
    config["payments"] = PAYMENTS
    # A twin would be answered from memory.
    config["chain"] = [link for link in config["chain"] if link != "dedup"]


Measured = Callable[[], Awaitable[Any]]


async def _checks(shop: _Shop) -> dict[str, Measured]:
    """Looking at each rail's payment."""
    exchange, challenge = await shop.one()
    ask = exchange.ask
    if ask is None or challenge.status != 402:
        raise RuntimeError(f"no price was asked for: {challenge.status} {challenge.body.decode()}")
    told = orjson.loads(challenge.body)
    l402 = f"L402 {told['macaroon']}:{shop.wallet.pay(told['invoice'])}"
    fields = [(name.lower(), value) for name, value in challenge.headers.items()]
    offers = read_challenge(fields, challenge.body).offers
    offer = next(one for one in offers if isinstance(one, X402Offer))
    signed = sign(offer, PAYER_KEY, shop.clock.now_ms() // 1000)
    token = await _funded(shop)
    return {
        "l402_us": _check(shop, ask, authorization=l402),
        "x402_us": _check(shop, ask, payment_signature=signed),
        "balance_check_us": _check(shop, ask, authorization=f"Bearer {token}"),
        "cashu_us": _ecash(),
        "challenge_us": shop.one,
        "with_key_us": _together(lambda: shop.one(authorization=f"Bearer {shop.key}")),
        "with_balance_us": _together(lambda: shop.one(authorization=f"Bearer {token}")),
    }


def _together(call: Measured) -> Measured:
    """AT_ONCE of them at a time."""

    async def calls() -> None:
        await asyncio.gather(*[call() for _ in range(AT_ONCE)])

    return calls


def _check(shop: _Shop, ask: Ask, **headers: str) -> Measured:
    fields = Headers(_fields(headers))

    async def check() -> None:
        found = presented(fields, key_prefix="lld_")
        rail = None if found is None else shop.rails.taking(found.credential)
        if found is None or rail is None:
            raise RuntimeError("the payment was not recognised")
        await rail.check(found, ask)

    return check


async def _funded(shop: _Shop) -> str:
    """A balance that lasts for the whole run."""
    token = token_for(shop.rails.keys, "bench")
    proof = Proof("lightning", "b" * 64, Unit.MSAT, 10**15, settled=True)
    lease = await shop.ledger.lease(proof, "bench")
    life = 10**12
    await shop.ledger.fund(lease, NewBalance(digest_of(token), BalanceKind.BOUGHT, life, life))
    return token


def _ecash() -> Measured:
    """Four notes of a mint of our own, with the proof of each signature."""
    from cashu.core.crypto.b_dhke import step2_bob
    from cashu.core.crypto.secp import PrivateKey

    keyset, private = "00" + "ab" * 7, PrivateKey()
    public = private.public_key
    notes = []
    for _ in range(NOTES):
        output = blinding.new_output(keyset, SATS)
        signature, e, s = step2_bob(blinding.point(output.blinded), private)
        signed = blinding.BlindSignature(keyset, SATS, signature.format().hex(), e.to_hex(), s.to_hex())
        notes.append(blinding.unblind(output, signed, public))
    token = encode_token("https://mint.example.com", notes)

    async def read() -> None:
        found = parse_token(token, notes_max=20)
        if not all(blinding.genuine(note, public) for note in found.notes):
            raise RuntimeError("a genuine note was refused")

    return read


async def _measured(folder: Path) -> dict[str, float]:
    shop = _Shop(folder)
    kinds = await _checks(shop)
    samples: dict[str, list[float]] = {name: [] for name in kinds}
    for name, call in kinds.items():
        await _block(name, call, CALLS // 4)
    # As a server does once it has started.
    tune_collector()
    for _ in range(ROUNDS):
        for name, call in kinds.items():
            samples[name].append(await _block(name, call, CALLS))
    await shop.ledger.close()
    cost = {name: round(median(each), 1) for name, each in samples.items()}
    return cost | {"balance_added_us": round(cost["with_balance_us"] - cost["with_key_us"], 1)}


async def _block(name: str, call: Measured, count: int) -> float:
    """CPU microseconds of each of `count` calls."""
    turns = count // AT_ONCE if name.startswith("with_") else count
    begun = time.process_time()
    for _ in range(turns):
        await call()
    return 1e6 * (time.process_time() - begun) / count


def measure(folder: Path) -> dict[str, Any]:
    """Microseconds of CPU."""
    figures: dict[str, Any] = {"errors": 0, **asyncio.run(_measured(folder))}
    print(f"  {figures}", flush=True)
    return {"gateways": {"tollway": figures}}
