"""The node and the wallet for development."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.api import NodeFailure
from proxy.payments.lightning.dev import DevWallet, NotPayable
from proxy.payments.lightning.nodes import NodeMisconfigured, build_node
from proxy.payments.lightning.reading import read_invoice
from proxy.payments.settings import Lightning
from tests.support.fakes import FakeClock

KEYS = DerivedKeys(b"s" * 32)
SETTINGS = Lightning("dev", development=True)


async def test_an_invoice_is_paid_by_the_wallet_of_another_process(tmp_path: Path) -> None:
    """All they share is the secret and the state folder."""
    clock = FakeClock()
    made = await build_node(SETTINGS, KEYS, tmp_path, clock).create_invoice(msat=21_000, memo="m", seconds=300)
    other = build_node(SETTINGS, KEYS, tmp_path, clock)
    assert not (await other.lookup(made.payment_hash)).paid
    preimage = DevWallet(KEYS, tmp_path, clock).pay(made.bolt11)
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == made.payment_hash
    assert DevWallet(KEYS, tmp_path, clock).pay(made.bolt11) == preimage
    status = await other.lookup(made.payment_hash)
    assert (status.paid, status.preimage) == (True, preimage)
    files = list((tmp_path / "lightning-dev").iterdir())
    assert [file.name for file in files] == [made.payment_hash]
    assert files[0].stat().st_mode & 0o777 == 0o600


async def test_invoices_say_what_was_asked_for_and_no_real_wallet_pays_them(tmp_path: Path) -> None:
    """On the regression test network, whole by BOLT 11."""
    clock = FakeClock()
    made = await build_node(SETTINGS, KEYS, tmp_path, clock).create_invoice(msat=1_234_000, memo="é", seconds=77)
    read = read_invoice(made.bolt11)
    assert made.bolt11.startswith("lnbcrt12340n1")
    assert (read.msat, read.payment_hash) == (1_234_000, made.payment_hash)
    assert made.expires_ms == read.expires_ms == clock.now_ms() + 77_000


async def test_invoices_that_have_ended_or_are_anothers_are_not_paid(tmp_path: Path) -> None:
    """And say why."""
    clock = FakeClock()
    node = build_node(SETTINGS, KEYS, tmp_path, clock)
    made = await node.create_invoice(msat=21_000, memo="m", seconds=300)
    with pytest.raises(NotPayable, match="not of the dev node"):
        DevWallet(DerivedKeys(b"t" * 32), tmp_path, clock).pay(made.bolt11)
    for junk in ("", "lnbcrt1", made.bolt11[:-1], "x" * 5000):
        with pytest.raises(NotPayable):
            DevWallet(KEYS, tmp_path, clock).pay(junk)
    clock.advance(300)
    with pytest.raises(NotPayable, match="has ended"):
        DevWallet(KEYS, tmp_path, clock).pay(made.bolt11)
    assert not (await node.lookup(made.payment_hash)).paid


async def test_a_file_that_holds_no_preimage_is_a_failure(tmp_path: Path) -> None:
    """Nobody is told 'paid' by junk."""
    node = build_node(SETTINGS, KEYS, tmp_path, FakeClock())
    folder = tmp_path / "lightning-dev"
    folder.mkdir()
    for junk in (b"ab" * 32, b"\xff", b"x"):
        (folder / ("cd" * 32)).write_bytes(junk)
        with pytest.raises(NodeFailure):
            await node.lookup("cd" * 32)


def test_the_dev_node_wants_to_be_told(tmp_path: Path) -> None:
    """Nobody serves for invoices that cannot be paid by mistake."""
    with pytest.raises(NodeMisconfigured, match="development"):
        build_node(Lightning("dev"), KEYS, tmp_path, FakeClock())
