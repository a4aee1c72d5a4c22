"""The four backends with a REST API, over real sockets, against their vendors' published answers."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import ipaddress
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.clock import SystemClock
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.api import Node, NodeFailure
from proxy.payments.lightning.nodes import NodeMisconfigured, build_node
from proxy.payments.settings import Lightning
from tests.peers.lightning.cln import ClnPeer
from tests.peers.lightning.lnbits import LnbitsPeer
from tests.peers.lightning.lnd import LndPeer
from tests.peers.lightning.node import NodePeer
from tests.peers.lightning.phoenixd import PhoenixdPeer

PEERS: dict[str, type[NodePeer]] = {"lnd": LndPeer, "cln": ClnPeer, "lnbits": LnbitsPeer, "phoenixd": PhoenixdPeer}
every = pytest.mark.parametrize("backend", PEERS)


def built(backend: str, peer: NodePeer, **more: Any) -> Node:
    settings = Lightning(backend, url=peer.url, credential=more.pop("credential", peer.credential), **more)
    return build_node(settings, DerivedKeys(b"s" * 32), Path("/nowhere"), SystemClock())


async def attempt(backend: str, prepare: Callable[[NodePeer], None], **more: Any) -> tuple[str, NodePeer]:
    """The failure of making an invoice."""
    async with PEERS[backend]() as peer:
        prepare(peer)
        node = built(backend, peer, **more)
        try:
            with pytest.raises(NodeFailure) as caught:
                await node.create_invoice(msat=21_000, memo="m", seconds=300)
        finally:
            await node.aclose()
    return caught.value.detail, peer


@every
async def test_an_invoice_is_made_paid_and_known(backend: str) -> None:
    """And its preimage is told once it is paid, not before."""
    async with PEERS[backend]() as peer:
        node = built(backend, peer)
        made = await node.create_invoice(msat=21_000, memo="gpt-4o inference é", seconds=300)
        assert node.name == backend
        assert peer.invoices[made.payment_hash].memo == "gpt-4o inference é"
        assert (peer.invoices[made.payment_hash].msat, peer.invoices[made.payment_hash].seconds) == (21_000, 300)
        assert made.bolt11.startswith("lnbcrt210n1")
        before = await node.lookup(made.payment_hash)
        assert (before.paid, before.preimage) == (False, None)
        preimage = peer.pay(made.payment_hash)
        after = await node.lookup(made.payment_hash)
        assert (after.paid, after.preimage) == (True, preimage)
        await node.aclose()


@every
async def test_two_invoices_are_two(backend: str) -> None:
    """Though everything asked for is the same."""
    async with PEERS[backend]() as peer:
        node = built(backend, peer)
        made = {(await node.create_invoice(msat=1000, memo="m", seconds=300)).payment_hash for _ in range(2)}
        assert len(made) == 2
        await node.aclose()


@every
async def test_a_wrong_credential_is_told_without_it(backend: str) -> None:
    """The node's own words help the operator."""
    wrong = "deadbeef" * 8
    words, _ = await attempt(backend, lambda peer: None, credential=wrong)
    assert words.startswith(f"{backend}: status ")
    assert wrong not in words


@every
@pytest.mark.parametrize("lie", ["amount", "no amount", "hash", "life", "clock", "junk"])
async def test_invoices_that_are_not_what_was_asked_for_are_refused(backend: str, lie: str) -> None:
    """The invoice itself is read, whatever the node says beside it."""
    words, _ = await attempt(backend, lambda peer: setattr(peer, "lie", lie))
    expected = {"amount": "over 20000 msat", "no amount": "over 0 msat", "hash": "another payment hash",
                "life": "ends in", "clock": "clock", "junk": "cannot be read"}  # fmt: skip
    assert expected[lie] in words


@every
async def test_a_preimage_of_another_hash_is_refused(backend: str) -> None:
    """It would be handed to a payer as proof."""
    async with PEERS[backend]() as peer:
        node = built(backend, peer)
        made = await node.create_invoice(msat=21_000, memo="m", seconds=300)
        peer.pay(made.payment_hash)
        peer.lie = "preimage"
        with pytest.raises(NodeFailure, match="not this invoice's"):
            await node.lookup(made.payment_hash)
        await node.aclose()


@every
@pytest.mark.parametrize("fault", ["broken", "junk", "list", "empty", "huge", "redirect"])
async def test_answers_that_are_none_are_failures(backend: str, fault: str) -> None:
    """Error statuses, pages, other JSON, too much, redirects; an error that repeats our headers leaks nothing."""
    words, peer = await attempt(backend, lambda peer: setattr(peer, "fault", fault))
    assert words.startswith(f"{backend}: ")
    assert peer.credential not in words
    assert base64.b64encode(f":{peer.credential}".encode()).decode() not in words
    assert len(words) < 400


@every
async def test_a_hung_node_fails_in_time(backend: str) -> None:
    """Both ways of asking."""
    words, _ = await attempt(backend, lambda peer: setattr(peer, "fault", "hang"), timeout_seconds=0.1)
    assert "no whole answer within 0.1 s" in words


@every
async def test_a_node_that_is_down_fails(backend: str) -> None:
    """Nothing listens there."""
    async with PEERS[backend]() as peer:
        node = built(backend, peer)
    with pytest.raises(NodeFailure, match="ConnectError"):
        await node.lookup("ab" * 32)
    await node.aclose()


@every
async def test_an_invoice_that_the_node_does_not_know_is_a_failure(backend: str) -> None:
    """It is not 'unpaid': nobody knows."""
    async with PEERS[backend]() as peer:
        node = built(backend, peer)
        with pytest.raises(NodeFailure):
            await node.lookup("ab" * 32)
        assert len(peer.requests) == 1
        for junk in ("", "../admin", "AB" * 32, "ab" * 31):
            with pytest.raises(NodeFailure, match="64 hex digits"):
                await node.lookup(junk)
        assert len(peer.requests) == 1
        await node.aclose()


@every
async def test_an_answer_about_another_invoice_is_refused(backend: str) -> None:
    """Where the answer says which it is about (LNbits' does not)."""
    if backend == "lnbits":
        return
    async with PEERS[backend]() as peer:
        node = built(backend, peer)
        made = await node.create_invoice(msat=21_000, memo="m", seconds=300)
        other = dataclasses.replace(peer.invoices[made.payment_hash], payment_hash="cd" * 32, paid=True)
        peer.invoices[made.payment_hash] = other
        with pytest.raises(NodeFailure, match="another invoice"):
            await node.lookup(made.payment_hash)
        await node.aclose()


async def test_lnd_is_asked_in_its_own_form() -> None:
    """64-bit integers as text."""
    async with LndPeer() as peer:
        node = built("lnd", peer)
        await node.create_invoice(msat=21_000, memo="m", seconds=300)
        assert peer.requests[0][:2] == ("POST", "/v1/invoices")
        assert json.loads(peer.requests[0][2]) == {"value_msat": "21000", "memo": "m", "expiry": "300"}
        await node.aclose()


async def test_phoenixd_is_asked_by_a_form_in_sats() -> None:
    """Every field escaped."""
    async with PhoenixdPeer() as peer:
        node = built("phoenixd", peer)
        await node.create_invoice(msat=21_000, memo="a&b=c", seconds=300)
        form = {"description": ["a&b=c"], "amountSat": ["21"], "expirySeconds": ["300"]}
        assert parse_qs(peer.requests[0][2]) == form
        await node.aclose()


async def test_lnbits_before_1_0_and_payments_within() -> None:
    """The invoice's older name; and a payment within LNbits has no preimage to show."""
    async with LnbitsPeer() as peer:
        peer.invoice_member = "payment_request"
        peer.internal = True
        node = built("lnbits", peer)
        made = await node.create_invoice(msat=21_000, memo="m", seconds=300)
        peer.pay(made.payment_hash)
        status = await node.lookup(made.payment_hash)
        assert (status.paid, status.preimage) == (True, None)
        await node.aclose()


@pytest.mark.parametrize("credential", ["", "not hex", "0201036c6e6"])
def test_a_macaroon_must_be_hex(credential: str) -> None:
    """Told at start, without repeating it."""
    settings = Lightning("lnd", url="https://localhost:8080", credential=credential)
    with pytest.raises(NodeMisconfigured, match="macaroon in hex") as caught:
        build_node(settings, DerivedKeys(b"s" * 32), Path("/nowhere"), SystemClock())
    assert not credential or credential not in str(caught.value)


@every
def test_settings_that_cannot_work_stop_the_start(backend: str) -> None:
    """A URL that is none, plain http to the world, a credential with line ends, a CA file that is not there."""
    good = Lightning(backend, url="https://localhost:1", credential="ab" * 32)
    for bad in (
        {"url": "localhost:8080"}, {"url": "http://node.example", "private": False}, {"credential": "ab\r\nx: y"},
        {"ca_file": Path("/nowhere/tls.cert")},
    ):  # fmt: skip
        settings = dataclasses.replace(good, **bad)
        with pytest.raises(NodeMisconfigured, match=r"payments\.lightning: "):
            build_node(settings, DerivedKeys(b"s" * 32), Path("/nowhere"), SystemClock())


def test_an_unknown_backend_stops_the_start() -> None:
    """By name."""
    with pytest.raises(NodeMisconfigured, match="no backend 'eclair'"):
        build_node(Lightning("eclair"), DerivedKeys(b"s" * 32), Path("/nowhere"), SystemClock())


async def test_lnds_own_certificate_is_trusted_by_its_file_alone(tmp_path: Path) -> None:
    """tls.cert is self-signed, for localhost and 127.0.0.1."""
    context, ca_file = self_signed(tmp_path)
    async with LndPeer(tls=context) as peer:
        node = built("lnd", peer, ca_file=ca_file)
        assert (await node.create_invoice(msat=21_000, memo="m", seconds=300)).bolt11
        await node.aclose()
        stranger = built("lnd", peer)
        with pytest.raises(NodeFailure, match="certificate is not trusted"):
            await stranger.create_invoice(msat=21_000, memo="m", seconds=300)
        await stranger.aclose()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """As LND makes its own: ECDSA, a CA that signs itself, without key identifiers."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "lnd autogenerated cert"),
                      x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])  # fmt: skip
    names = [x509.DNSName("alice"), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=400))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = folder / "tls.cert", folder / "tls.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    return context, cert_file
