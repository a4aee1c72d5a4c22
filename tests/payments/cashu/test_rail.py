"""What the rail offers, and what it refuses before anybody is asked."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.ledger.payment_api import OnFailure, Unit
from proxy.payments.cashu.rail import CashuRail
from proxy.payments.cashu.tokens import Dleq, Note, encode_token
from proxy.payments.settings import Cashu, Mint
from tests.payments.cashu.desk import Desk, ask, presented
from tests.peers.mint.scripted import Fault, ScriptedMint
from tests.support.fakes import FakeClock, Log


async def refused(desk: Desk, token: str, msat: int | None = 30_000, **changes: Any) -> Refusal:
    asked = len(desk.log.events)
    with pytest.raises(Refusal) as caught:
        await desk.rail.check(presented(token), ask(msat, **changes))
    assert len(desk.log.events) == asked
    assert token not in str(caught.value)
    return caught.value


async def test_offer_is_a_payment_request_and_a_member_of_the_body(scripted: ScriptedMint, desk: Desk) -> None:
    """NUT-24's header, and the price in sats, rounded up."""
    offer = desk.rail.offer(ask(41_001), None)
    assert offer is not None
    ((name, value),) = offer.headers
    body = value.removeprefix("creqA")
    request = cbor2.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert (name, request) == ("X-Cashu", {"a": 42, "u": "sat", "m": [scripted.url]})
    assert offer.members["cashu"]["price_sats"] == 42
    assert offer.members["cashu"]["unit"] == "sat"
    assert scripted.url in offer.members["cashu"]["description"]


async def test_floor_is_part_of_the_offer(desk: Desk) -> None:
    """Twenty-one sats at least."""
    assert desk.rail.price_sats(ask(1)) == 21
    assert desk.rail.price_sats(ask(21_001)) == 22


async def test_nothing_is_offered_that_could_not_be_taken(tmp_path: Path, desk: Desk) -> None:
    """No price of bitcoin, a stream, a mint that was never reached."""
    assert desk.rail.offer(ask(None), None) is None
    assert desk.rail.offer(ask(stream=True), None) is None
    rail = CashuRail(Cashu((Mint("https://mint.invalid"),)), desk.ledger, desk.clock, desk.log)
    assert rail.offer(ask(), None) is None
    await rail.stop()


async def test_mint_that_went_away_is_not_on_offer_until_it_is_back(scripted: ScriptedMint, desk: Desk) -> None:
    """Its keysets are read anew every few minutes; while that fails nobody is sent to it."""
    mint = desk.rail._mints[scripted.url]
    scripted.faults["/v1/keysets"] = Fault.CUT_BEFORE
    desk.clock.advance(400)
    assert desk.rail.offer(ask(), None) is not None
    await mint.read_within(5)
    assert desk.rail.offer(ask(), None) is None
    scripted.faults.clear()
    desk.clock.advance(10)
    assert desk.rail.offer(ask(), None) is None
    await mint.read_within(5)
    assert desk.rail.offer(ask(), None) is not None


async def test_rail_is_ready_once_it_has_started(scripted: ScriptedMint, desk: Desk) -> None:
    """The first 402 has its offer."""
    rail = CashuRail(desk.settings, desk.ledger, desk.clock, desk.log)
    await rail.start()
    assert rail.offer(ask(), None) is not None
    await rail.stop()


async def test_good_token_makes_a_tender(scripted: ScriptedMint, desk: Desk) -> None:
    """Its proof is that of its secrets, is bound to the request, and goes back as ecash where nothing is served."""
    notes = scripted.minted(32, 8)
    asked = len(scripted.calls)
    wanted = ask(30_500)
    tender = await desk.rail.check(presented(encode_token(scripted.url, notes)), wanted)
    proof = tender.proof
    assert proof is not None
    assert (tender.unit, tender.amount, tender.request_digest) == (Unit.MSAT, 31_000, wanted.request_digest)
    assert (proof.rail, proof.amount, proof.settled, proof.binding) == ("cashu", 40_000, False, wanted.request_digest)
    assert proof.on_failure is OnFailure.RETURN
    rewrapped = encode_token(
        scripted.url + "/", [replace(n, keyset=n.keyset[:16]) for n in reversed(notes)], dleq=False
    )
    again = await desk.rail.check(presented(rewrapped), wanted)
    shown = await desk.rail.shown(presented(rewrapped))
    assert again.proof is not None
    assert proof.key == again.proof.key == shown.key
    assert len(scripted.calls) == asked
    assert notes[0].secret not in repr(tender)


async def test_stream_is_refused(scripted: ScriptedMint, desk: Desk) -> None:
    """400 cashu_no_stream, before the token is looked at."""
    assert (await refused(desk, "junk", stream=True)).code == "cashu_no_stream"


async def test_version_3_is_refused(desk: Desk) -> None:
    """400 with what to send instead."""
    error = await refused(desk, "cashuAeyJ0b2tlbiI6W119")
    assert (error.code, error.status) == ("cashu_bad_token", 400)
    assert "cashuB" in error.message


async def test_twenty_notes_pay_and_twenty_one_do_not(scripted: ScriptedMint, desk: Desk) -> None:
    """400 cashu_too_many_proofs."""
    notes = scripted.minted(*[2] * 21)
    assert (await refused(desk, encode_token(scripted.url, notes))).code == "cashu_too_many_proofs"
    assert (await desk.buy(encode_token(scripted.url, notes[:20]))).payment.captured == 30_000


@pytest.mark.parametrize("unit", ["usd", "msat", "SAT", ""])
async def test_other_units_are_refused(scripted: ScriptedMint, desk: Desk, unit: str) -> None:
    """400 cashu_wrong_unit."""
    token = encode_token(scripted.url, scripted.minted(64), unit=unit)
    assert (await refused(desk, token)).code == "cashu_wrong_unit"


@pytest.mark.parametrize(
    "url",
    [
        "https://mint.evil.test",
        "http://127.0.0.1:1",
        "http://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]",
        "http://localhost:{port}",
        "http://user@127.0.0.1:{port}",
        "http://127.0.0.1:{port}/sub",
        "http://127.0.0.1:{port}@evil.test",
        "http://127.0.0.1.evil.test:{port}",
        "https://127.0.0.1:{port}",
        "http://2130706433:{port}",
        "http://127.1:{port}",
        "file:///etc/passwd",
        "",
    ],
)
async def test_foreign_mints_are_refused(scripted: ScriptedMint, desk: Desk, url: str) -> None:
    """Scheme, host, port and path are compared exactly; nothing a token names is ever dialled."""
    asked = len(scripted.calls)
    token = encode_token(url.format(port=scripted.url.rpartition(":")[2]), scripted.minted(64))
    error = await refused(desk, token)
    assert error.code == "cashu_mint_not_allowed"
    assert scripted.url in error.message
    assert len(scripted.calls) == asked


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "https://169.254.169.254", "https://[::1]:1"])
async def test_listed_mint_on_a_private_address_is_not_dialled(desk: Desk, url: str) -> None:
    """Unless its entry says that it is for development: nothing is sent, nothing on offer."""
    rail = CashuRail(Cashu((Mint(url),)), desk.ledger, FakeClock(), log := Log())
    mint = rail._mints[url]
    assert mint.read_soon()
    assert mint._reading is not None
    await mint._reading
    assert log.names() == ["cashu_mint_unreachable"]
    assert "not a public address" in str(log.events)
    assert rail.offer(ask(), None) is None
    token = encode_token(url, [Note("00" * 8, 64, "5" * 64, b"\x02" + b"\x01" * 32)])
    with pytest.raises(Refusal) as error:
        await rail.check(presented(token), ask())
    assert error.value.code == "payment_unavailable"
    await rail.stop()


async def test_underpayment_is_told_with_the_price(scripted: ScriptedMint, desk: Desk) -> None:
    """402 cashu_underpayment."""
    error = await refused(desk, scripted.notes(16, 8))
    assert (error.code, error.status) == ("cashu_underpayment", 402)
    assert error.details == {"price_sats": 30, "token_sats": 24}


async def test_fee_counts_before_the_price(tmp_path: Path) -> None:
    """402 cashu_underpayment_after_fees, of every note that is spent."""
    async with ScriptedMint(fee_ppk=600) as dear, Desk(tmp_path, dear.url) as desk:
        error = await refused(desk, dear.notes(16, 16), msat=31_000)
        assert (error.code, error.status) == ("cashu_underpayment_after_fees", 402)
        assert error.details == {"price_sats": 31, "token_sats": 32, "fee_sats": 2}
        assert (await desk.buy(dear.notes(32))).payment.fee == 1_000


async def test_no_price_of_bitcoin_is_no_fault_of_the_payer(scripted: ScriptedMint, desk: Desk) -> None:
    """503, to be tried again."""
    error = await refused(desk, scripted.notes(64), msat=None)
    assert (error.code, error.retry_after_seconds) == ("payment_unavailable", 10)


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_forged_note_spoils_the_token(scripted: ScriptedMint, desk: Desk, at: int) -> None:
    """Wherever it stands, and whether or not those before it bring a proof."""
    notes = [replace(note, dleq=None) for note in scripted.minted(16, 16, 16)]
    notes[at] = replace(notes[at], dleq=Dleq(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32))
    error = await refused(desk, encode_token(scripted.url, notes))
    assert (error.code, "DLEQ" in error.message) == ("cashu_bad_token", True)


async def test_many_proofs_are_all_looked_at(scripted: ScriptedMint, desk: Desk) -> None:
    """The last of twenty as well."""
    notes = scripted.minted(*[2] * 20)
    notes[-1] = replace(notes[-1], dleq=notes[0].dleq)
    assert (await refused(desk, encode_token(scripted.url, notes))).code == "cashu_bad_token"


async def test_locked_notes_are_refused(scripted: ScriptedMint, desk: Desk) -> None:
    """NUT-10: nobody here could unlock them."""
    (note,) = scripted.minted(64)
    for secret in ('["P2PK",{"nonce":"00","data":"02"}]', ' ["HTLC",{}]'):
        error = await refused(desk, encode_token(scripted.url, [replace(note, secret=secret, dleq=None)]))
        assert "locked" in error.message


async def test_amount_without_a_key_is_refused(scripted: ScriptedMint, desk: Desk) -> None:
    """The mint signs no such note."""
    (note,) = scripted.minted(64)
    error = await refused(desk, encode_token(scripted.url, [replace(note, amount=1 << 25, dleq=None)]))
    assert error.code == "cashu_bad_token"


async def test_fortunes_are_refused(scripted: ScriptedMint, desk: Desk) -> None:
    """A whole bitcoin is not swapped for an answer."""
    (note,) = scripted.minted(64)
    error = await refused(desk, encode_token(scripted.url, [replace(note, amount=1 << 40, dleq=None)]))
    assert "100000000 sats" in error.message


async def test_unknown_keyset_is_looked_for_once(scripted: ScriptedMint, desk: Desk) -> None:
    """It may be new: the keysets are read anew beside the answer 503; known to be unknown it is 400."""
    scripted.rotate()
    fresh = scripted.notes(64)
    desk.clock.advance(10)
    error = await refused(desk, fresh)
    assert (error.code, error.status) == ("payment_unavailable", 503)
    mint = desk.rail._mints[scripted.url]
    assert mint._reading is not None
    await mint._reading
    await desk.rail.check(presented(fresh), ask())
    (note,) = scripted.minted(64)
    stray = encode_token(scripted.url, [replace(note, keyset="00" + "11" * 7, dleq=None)])
    assert (await refused(desk, stray)).code == "cashu_bad_token"
    listed = scripted.calls.count("/v1/keysets")
    for _ in range(20):
        await refused(desk, stray)
    assert scripted.calls.count("/v1/keysets") == listed


async def test_nothing_heavy_is_loaded_where_the_rail_is_off() -> None:
    """Neither by the configuration nor by what builds the rails."""
    program = (
        "import sys, proxy.config.payments, proxy.payments.rails, proxy.payments.cashu.urls\n"
        "print([name for name in ('cashu', 'coincurve', 'cbor2') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@given(
    st.one_of(
        st.text(max_size=120),
        st.binary(max_size=200).map(lambda raw: "cashuB" + base64.urlsafe_b64encode(raw).decode()),
    )
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_junk_is_only_ever_refused(desk: Desk, text: str) -> None:
    """No other exception leaves `check` or `shown`."""
    with pytest.raises(Refusal):
        await desk.rail.check(presented(text), ask())
    with pytest.raises(Refusal):
        await desk.rail.shown(presented(text))
