"""Nothing that has a price is had without paying it, by no spelling, and no payment goes further than to us."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from proxy.ledger.payment_states import PaymentState
from proxy.payments.cashu.tokens import parse_token
from proxy.payments.x402.payload import read
from tests.peers.behaviour import Behaviour
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.raw import Raw, request
from tests.support.ways_to_pay import (
    BALANCE,
    EVERY_WAY,
    FEE_SATS,
    AfterFailure,
    Cashu,
    Counterparts,
    Paid,
    Way,
    books,
    refund,
    selling,
    ways,
)

PRICED: Final[dict[str, dict[str, Any]]] = {
    CHAT: body("hi"),
    "/v1/chat/completions/gpt-4o": body("hi"),
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "hi"},
    "/v1/messages": body("hi", model="claude-sonnet"),
    "/v1/responses": {"model": "gpt-5", "input": "hi", "max_output_tokens": 50},
}
NOT_SERVED: Final = frozenset({400, 401, 402, 404, 405, 409, 413, 421, 501})
PROOFS: Final = [param for param in EVERY_WAY if param.values != ("balance",)]


@pytest.fixture(scope="module")
def all_ways(counterparts: Counterparts) -> dict[str, Way]:
    """By name."""
    return ways(counterparts)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, all_ways: dict[str, Way]) -> Iterator[PaidWorld]:
    """One proxy for the whole file; its HTTP proxy takes clients' own provider keys."""
    listeners = {"capture": {"default_team": "default"}}
    with selling(tmp_path_factory.mktemp("gate"), *all_ways.values(), leases_max=100, listeners=listeners) as made:
        yield made
        made.world.gateway.cli("ledger", "audit")


@pytest.fixture
def shop(running: PaidWorld) -> Iterator[PaidWorld]:
    """Its books proven after each test."""
    running.world.provider.reset()
    yield running
    books(running).until_ended()
    books(running).prove()


def spellings(path: str) -> list[str]:
    """What somebody on the way, or the provider, could take for this path."""
    head, _, tail = path.rpartition("/")
    letter = f"%{ord(tail[0]):02x}"
    return [
        f"{path}/", f"{path}//", f"/{path}", f"{head}//{tail}", f"{head}/./{tail}", f"{head}/x/../{tail}",
        f"{head}%2F{tail}", f"{head}%2f{tail}", f"{head}%252F{tail}", f"{head}%25252F{tail}", f"{head}%5C{tail}",
        f"{head}\\{tail}", f"{head}%c0%af{tail}", f"{head}%ef%bc%8f{tail}", f"{head}/{letter}{tail[1:]}",
        f"{head}/%25{letter[1:]}{tail[1:]}", path.upper(), path.replace("/v1", "/V1"), f"{path};x=1",
        f"{head};a/{tail}",
        f"{path}%", f"{path}%0", f"{path}%zz", f"{path}%00", f"{path}%20", f"{path}%0d%0a", f"{path}%3f", f"{path}%23",
        f"{path}.", f"{path}/.", f"{path}/..", f"{path}/../{tail}", f"{path}.json", f"/.{path}", f"/x/..{path}",
        f"/v1{path}", f"{path}#x", f"{path}/%2e%2e/{tail}", f"{head}/{tail}%c2%a0",
    ]  # fmt: skip


@pytest.mark.parametrize("path", PRICED)
def test_no_spelling_of_a_priced_path_is_served(shop: PaidWorld, all_ways: dict[str, Way], path: str) -> None:
    """Neither free, nor for a payment that was made for the plain one, which is as good as before in the end."""
    asked = PRICED[path]
    paid = all_ways["l402"].pay(shop, asked, path)
    with_it = tuple(f"{name}: {value}" for name, value in paid.headers.items())
    for spelling in spellings(path):
        for headers in ((), with_it):
            with Raw(shop.world.gateway.address("api")) as connection:
                connection.send(request(asked, path=spelling, headers=headers))
                answer = connection.answer()
            assert answer.status in NOT_SERVED, spelling
    assert shop.world.provider.requests == []
    served(shop, paid, asked, path)


@pytest.mark.parametrize("path", PRICED)
def test_no_other_way_to_ask_is_free(shop: PaidWorld, path: str) -> None:
    """Methods, overriding of methods and addresses, a query, an authority of another's, an absolute target."""
    asked = PRICED[path]
    host = shop.url.removeprefix("http://")
    tried: list[bytes] = [
        request(asked, path=path),
        request(asked, path=f"{path}?stream=false"),
        request(asked, path=f"{path}?api_key=sk-something"),
        *[request(asked, path=path, method=method) for method in ("GET", "PUT", "PATCH", "DELETE", "HEAD", "post")],
        request(asked, path=f"http://{host}{path}"),
        request(asked, path=f"http://api.openai.com{path}"),
        *[
            request(asked, path=where, headers=(header,))
            for where, header in [
                ("/v1/models", f"X-Original-URL: {path}"),
                ("/v1/models", f"X-Rewrite-URL: {path}"),
                (path, "X-HTTP-Method-Override: OPTIONS"),
                (path, "X-Forwarded-For: 127.0.0.1"),
                (path, "Forwarded: for=127.0.0.1;host=api.openai.com"),
                (path, "Authorization: Bearer sk-dummy"),
                (path, "Authorization: Basic Zm9vOmJhcg=="),
                (path, "Authorization: L402"),
                (path, "Authorization: Payment e30"),
                (path, "Authorization: Bearer bal_"),
                (path, "Payment-Signature: e30="),
                (path, "X-PAYMENT: e30="),
                (path, "X-Cashu: cashuB"),
                (path, "Payment-Response: eyJzdWNjZXNzIjp0cnVlfQ=="),
                (path, "X-Payment-Id: pay_" + "0" * 32),
                (path, "X-Dedup: hit"),
            ]
        ],
    ]
    for raw in tried:
        with Raw(shop.world.gateway.address("api")) as connection:
            connection.send(raw)
            answer = connection.head()
        # Models alone are listed for nothing; a body that comes with it is not looked at.
        assert answer.status in NOT_SERVED or b" /v1/models " in raw, raw
    assert shop.world.provider.requests == []


def served(shop: PaidWorld, paid: Paid, asked: dict[str, Any], path: str = CHAT) -> httpx.Response:
    """It buys this."""
    with shop.client() as client:
        answer = client.post(path, json=asked, headers=paid.headers)
    assert answer.status_code == 200, answer.text
    return answer


TOKENS: Final = 3000
"""So many that their price is well above every floor."""


def large(**more: Any) -> dict[str, Any]:
    """The request that is paid for, but for `more`."""
    return body("x" * 40, **{"max_tokens": TOKENS, **more})


OTHERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "another path": ("/v1/responses", {"model": "gpt-5", "input": "x" * 40, "max_output_tokens": 50}),
    "another path of the model's": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x" * 40}),
    "another model": (CHAT, large(model="fallback")),
    "a model in the path": ("/v1/chat/completions/fallback", large()),
    "a longer answer": (CHAT, large(max_tokens=6000)),
    "a longer input": (CHAT, {**large(), "messages": [{"role": "user", "content": "x " * 4000}]}),
    "two answers": (CHAT, large(n=2)),
    "the best of twenty": (CHAT, large(best_of=20)),
    "a limit spelt otherwise": (CHAT, {**large(max_completion_tokens=6000), "max_tokens": None}),
    "a document within": (
        CHAT,
        {**large(), "messages": [{"role": "user", "content": [{"type": "text", "text": "x " * 9000}]}]},
    ),
    "tools": (CHAT, large(tools=[{"type": "function", "function": {"name": "f", "description": "x " * 9000}}])),
}
DEARER: Final = {"a longer answer", "two answers", "the best of twenty", "a longer input", "a limit spelt otherwise"}
"""What ecash of the right worth does not buy: it is tied to no request before it is swapped."""


@pytest.mark.parametrize("name", PROOFS)
def test_a_payment_for_one_request_pays_for_no_other(shop: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """Whatever would cost more, or is something else: refused, nothing burnt, and its own request is served."""
    way, asked = all_ways[name], large()
    if isinstance(way, Cashu):
        way = Cashu(way.counterparts, over_sats=FEE_SATS)
    paid = way.pay(shop, asked)
    with shop.client() as client:
        if name == "x402":
            # An authorization names no request: it is tied to the one that it is first shown with.
            shop.world.provider.script(*[Behaviour(status=500)] * 2)
            assert client.post(CHAT, json=asked, headers=paid.headers).status_code == 502
            shop.world.provider.reset()
        for what, (path, other) in OTHERS.items():
            if name == "cashu" and what not in DEARER:
                continue
            answer = client.post(path, json=other, headers=paid.headers)
            assert 400 <= answer.status_code < 500, f"{what}: {answer.status_code}"
            assert shop.world.provider.requests == [], what
    served(shop, paid, asked)
    (sent,) = shop.world.provider.requests
    assert sent.json().get("n", 1) == 1
    assert sent.json()["max_tokens"] == TOKENS
    books(shop).until_ended()
    assert books(shop).newest().state is PaymentState.BURNT


def test_what_is_paid_for_is_all_that_the_provider_is_asked_for(shop: PaidWorld, all_ways: dict[str, Way]) -> None:
    """Without a limit of the client's own, the model's usual one was priced: that goes out, as the upstream has it."""
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    served(shop, all_ways["l402"].pay(shop, asked), asked)
    (sent,) = shop.world.provider.requests
    assert sent.json()["max_completion_tokens"] == 1000


@pytest.mark.parametrize("name", EVERY_WAY)
def test_no_cache_may_keep_what_was_paid_for(shop: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """The offer, the answer, the same one again, the failure and the refund: none is stored on the way."""
    way, asked = all_ways[name], body(f"{name} in a cache")
    offer = way.challenge(shop, asked)
    paid = way.pay(shop, asked)
    shop.world.provider.script(*[Behaviour(status=500)] * 2)
    with shop.client() as client:
        failed = client.post(CHAT, json=asked, headers=paid.headers)
        if way.after_failure is AfterFailure.BACK:
            paid = way.pay(shop, asked)
        answers = [
            offer,
            failed,
            client.post(CHAT, json=asked, headers=paid.headers),
            client.post(CHAT, json=asked, headers=paid.headers),
            client.post(CHAT, json=body("other"), headers=paid.headers),
            refund(shop, paid),
            refund(shop, way.pay(shop, asked)),
            client.post(BALANCE, json={"sats": 200}),
            client.post(BALANCE, json={"action": "status"}, headers=paid.headers),
        ]
        if way.streams:
            paid = way.pay(shop, body("streamed", stream=True))
            answers.append(client.post(CHAT, json=body("streamed", stream=True), headers=paid.headers))
    assert [answer.status_code for answer in answers[:4]] == [402, 502, 200, 200]
    for number, answer in enumerate(answers):
        if answer.request.url.path != CHAT and answer.status_code not in (200, 402):
            continue  # A refusal that says nothing about anybody.
        assert answer.headers["cache-control"] == "no-store", (number, answer.status_code, answer.text[:200])
        assert not answer.headers.keys() & {"age", "etag", "expires", "last-modified"}


# -- what was paid with stays here


def secrets_of(paid: Paid) -> list[str]:
    """Everything in a payment that is as good as money, or was meant for us alone."""
    (value,) = paid.headers.values()
    scheme, _, rest = value.partition(" ")
    if scheme == "L402":
        macaroon, _, preimage = rest.partition(":")
        return [macaroon, preimage, macaroon[-60:]]
    if scheme == "Payment":
        shown = json.loads(base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)))
        return [rest, shown["payload"]["preimage"], shown["challenge"]["id"]]
    if scheme == "Bearer":
        return [rest]
    if "x-cashu" in paid.headers:
        return [value, *[note.secret for note in parse_token(value, notes_max=20).notes]]
    return [value, read(value, version=2).signature.hex()]


def test_nothing_that_was_paid_with_stands_anywhere(shop: PaidWorld, all_ways: dict[str, Way]) -> None:
    """Not in what the provider gets, not in a log: neither served, nor failed, nor refunded, nor wrong."""
    secrets: list[str] = []
    with shop.client() as client:
        for way in all_ways.values():
            for text in ("served", "failed", "wrong"):
                asked = body(f"{way.name} {text}")
                paid = way.pay(shop, asked)
                secrets += secrets_of(paid)
                if text == "failed":
                    shop.world.provider.script(*[Behaviour(status=500)] * 2)
                sent = body("y " * 5000, max_tokens=9000) if text == "wrong" else asked
                client.post(CHAT, json=sent, headers={**paid.headers, "x-note": "kept out"})
                told = refund(shop, paid).json()
                secrets += [told[name] for name in ("token", "cashu") if name in told]
                (header,) = paid.headers.values()
                client.post(CHAT, json=asked, headers={next(iter(paid.headers)): header[:-7] + "AAAAAAA"})
    assert len(secrets) > 40
    books(shop).until_ended()
    upstream = [b"\n".join([*[b"%s: %s" % pair for pair in one.headers], one.body]) for one in seen(shop)]
    assert len(upstream) > 5
    names = {name.lower() for one in seen(shop) for name, _ in one.headers}
    assert not names & {b"payment-signature", b"x-payment", b"x-cashu", b"x-note", b"payment-response"}
    folder = shop.world.gateway.folder
    written = [folder / "serve.log", folder / "var" / "audit.jsonl"]
    texts = [path.read_bytes() for path in written] + upstream
    for secret in secrets:
        for text in texts:
            assert secret.encode() not in text
    tokens = [secret.encode() for secret in secrets if secret.startswith("bal_")]
    assert tokens
    for path in (folder / "var").glob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [token for token in tokens if token in content], path


def seen(shop: PaidWorld) -> list[Any]:
    """What the provider was asked."""
    return shop.world.provider.requests


def test_a_balance_is_no_key_of_a_provider(shop: PaidWorld, all_ways: dict[str, Way]) -> None:
    """Sent to a provider's own address through us, where own keys pass, it goes to nobody."""
    paid = all_ways["balance"].pay(shop, body())
    context = ssl.create_default_context(cafile=str(shop.world.proxy_ca))
    with httpx.Client(proxy=shop.world.gateway.url("capture"), verify=context, timeout=20) as client:
        for path in ("/v1/chat/completions", "/v1/files"):
            answer = client.post(f"https://api.openai.com{path}", json=body(), headers=paid.headers)
            assert 400 <= answer.status_code < 500
    assert seen(shop) == []
