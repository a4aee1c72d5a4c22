"""Keys: made once, found fast, ended everywhere."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy import keys as keys_module
from proxy.caps import parse_cap
from proxy.keys import KeyNotActive, KeyStore, UnknownKey
from proxy.ledger.schema import SchemaTooNew, connect
from tests.support.fakes import FakeClock

OWNER = {"user": "ann", "team": "red", "organisation": "acme"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tollway.db"


@pytest.fixture
def keys(path: Path, clock: FakeClock) -> Iterator[KeyStore]:
    store = KeyStore(path, clock)
    yield store
    store.close()


def test_a_key_has_128_random_bits_and_is_stored_as_its_hash_only(keys: KeyStore, path: Path) -> None:
    """The file holds the SHA-256 and the first digits, nothing that the key could be made from."""
    key, record = keys.create(**OWNER)
    assert re.fullmatch(r"lld_[0-9a-f]{32}", key)
    assert re.fullmatch(r"key_[0-9a-f]{12}", record.key_id)
    assert record.hint == key[:8]
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT digest FROM keys").fetchall() == [(hashlib.sha256(key.encode()).digest(),)]
        dump = "\n".join(connection.iterdump())
    assert key not in dump
    assert key[8:] not in dump


def test_lookup_gives_what_was_stored(keys: KeyStore, path: Path, clock: FakeClock) -> None:
    """Owner, tier and caps come back as given, from memory and from the file."""
    caps = (parse_cap("5/day:clamp"), parse_cap("100/month:list:soft=80"))
    key, record = keys.create(**OWNER, tier="gold", caps=caps, name="laptop")
    with closing(KeyStore(path, clock)) as other:
        assert keys.lookup(key) == keys.lookup(key) == other.lookup(key) == record
    assert (record.caps, record.tier, record.name) == (caps, "gold", "laptop")


@pytest.mark.parametrize("wrong", ["", "lld_", "lld_" + "0" * 32, "sk-other", "\ud800", "x" * 10_000])
def test_an_unknown_key_is_nobody(keys: KeyStore, wrong: str) -> None:
    """Whatever is sent, it is looked up safely and is not a key."""
    keys.create(**OWNER)
    assert keys.lookup(wrong) is None
    assert keys.lookup(wrong) is None


def test_a_key_almost_right_is_nobody(keys: KeyStore) -> None:
    """One digit off, another case or a blank more is another key."""
    key, _ = keys.create(**OWNER)
    last = "0" if key[-1] != "0" else "1"
    assert [keys.lookup(one) for one in (key[:-1] + last, key.upper(), key + " ", key[:-1])] == [None] * 4


def test_a_key_ends_when_it_expires_even_from_memory(keys: KeyStore, clock: FakeClock) -> None:
    """The last millisecond works, the next does not."""
    key, record = keys.create(**OWNER, expires_ms=clock.ms + 1000)
    assert keys.lookup(key) is not None
    clock.ms += 999
    assert keys.lookup(key) is not None
    clock.ms += 1
    assert keys.lookup(key) is None
    assert record.state(clock.ms) == "expired"


def test_a_revoked_key_is_nobody_at_once(keys: KeyStore, clock: FakeClock) -> None:
    """Revoking ends it; doing so again says that it did not work any more."""
    key, record = keys.create(**OWNER)
    assert keys.lookup(key) is not None
    assert keys.revoke(record.key_id) is True
    assert keys.lookup(key) is None
    assert keys.revoke(record.key_id) is False
    assert keys.current(record.key_id).state(clock.ms) == "revoked"


def test_a_rotated_key_keeps_its_id_and_settings(keys: KeyStore, clock: FakeClock) -> None:
    """Caps and spend go on under one id; the old key works for the grace and not longer."""
    old, before = keys.create(**OWNER, tier="gold", caps=(parse_cap("5/day"),), name="laptop")
    clock.ms += 500
    new, after = keys.rotate(before.key_id, grace_milliseconds=1000)
    assert new != old
    assert (after.key_id, after.user, after.tier, after.caps, after.name) == (
        before.key_id,
        before.user,
        before.tier,
        before.caps,
        before.name,
    )
    found = keys.lookup(old)
    assert found is not None
    assert found.state(clock.ms) == "rotated"
    clock.ms += 1000
    assert keys.lookup(old) is None
    assert keys.lookup(new) == after


def test_grace_never_lengthens_a_life(keys: KeyStore, clock: FakeClock) -> None:
    """A key that would expire before its grace ends still does, and its successor no later."""
    old, before = keys.create(**OWNER, expires_ms=clock.ms + 100)
    _, after = keys.rotate(before.key_id, grace_milliseconds=5000)
    assert after.expires_ms == before.expires_ms
    clock.ms += 100
    assert keys.lookup(old) is None


def test_without_grace_the_old_key_ends_at_once(keys: KeyStore) -> None:
    """For a key that leaked."""
    old, before = keys.create(**OWNER)
    new, _ = keys.rotate(before.key_id, grace_milliseconds=0)
    assert keys.lookup(old) is None
    assert keys.lookup(new) is not None


def test_revoking_ends_old_and_new_key_of_an_id(keys: KeyStore) -> None:
    """Nothing of a revoked id works, grace or not."""
    old, before = keys.create(**OWNER)
    new, _ = keys.rotate(before.key_id, grace_milliseconds=5000)
    keys.revoke(before.key_id)
    assert (keys.lookup(old), keys.lookup(new)) == (None, None)


def test_a_key_can_be_rotated_again_and_again(keys: KeyStore) -> None:
    """Each rotation replaces the newest key; older ones keep the end they were given."""
    first, record = keys.create(**OWNER)
    second, _ = keys.rotate(record.key_id, grace_milliseconds=5000)
    third, _ = keys.rotate(record.key_id, grace_milliseconds=0)
    assert [keys.lookup(key) is not None for key in (first, second, third)] == [True, False, True]


def test_only_a_working_key_can_be_rotated(keys: KeyStore) -> None:
    """A revoked id stays dead, and a refused rotation changes nothing."""
    key, record = keys.create(**OWNER)
    keys.revoke(record.key_id)
    with pytest.raises(KeyNotActive):
        keys.rotate(record.key_id, grace_milliseconds=0)
    with pytest.raises(UnknownKey):
        keys.rotate("key_000000000000", grace_milliseconds=0)
    assert len(keys.records()) == 1
    assert keys.lookup(key) is None


def test_a_person_may_name_a_key_by_id_or_by_itself(keys: KeyStore) -> None:
    """Both lead to the id; anything else is unknown."""
    key, record = keys.create(**OWNER)
    assert keys.key_id_of(key) == keys.key_id_of(record.key_id) == record.key_id
    for wrong in ("key_000000000000", "lld_" + "0" * 32):
        with pytest.raises(UnknownKey):
            keys.key_id_of(wrong)


def test_records_are_listed_by_team(keys: KeyStore) -> None:
    """All of them, oldest first, or one team's."""
    ids = [keys.create(user="ann", team=team, organisation="acme")[1].key_id for team in ("red", "blue", "red")]
    assert [record.key_id for record in keys.records()] == ids
    assert [record.key_id for record in keys.records(team="red")] == [ids[0], ids[2]]


async def test_changes_of_another_process_arrive_within_a_second(path: Path, clock: FakeClock) -> None:
    """A running proxy learns of keys made, and forgets keys revoked, by a command."""
    with closing(KeyStore(path, clock)) as proxy, closing(KeyStore(path, clock)) as command:
        old, record = command.create(**OWNER)
        assert proxy.lookup(old) == record
        unborn = "lld_" + "0" * 32
        assert proxy.lookup(unborn) is None
        watching = asyncio.ensure_future(proxy.watch())
        command.revoke(record.key_id)
        async with asyncio.timeout(1):
            while proxy.lookup(old) is not None:
                await asyncio.sleep(0.01)
        watching.cancel()
        (ended,) = await asyncio.gather(watching, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)


async def test_a_key_tried_too_early_works_once_it_is_made(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a key was unknown is forgotten, too, when keys change."""
    monkeypatch.setattr(keys_module.secrets, "token_hex", lambda count: "0" * (2 * count))
    with closing(KeyStore(path, clock)) as proxy, closing(KeyStore(path, clock)) as command:
        assert proxy.lookup("lld_" + "0" * 32) is None
        watching = asyncio.ensure_future(proxy.watch())
        command.create(**OWNER)
        async with asyncio.timeout(1):
            while proxy.lookup("lld_" + "0" * 32) is None:
                await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def test_what_is_remembered_is_bounded(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither known keys nor guesses fill the memory."""
    monkeypatch.setattr(keys_module, "KEYS_CACHED_MAX", 4)
    monkeypatch.setattr(keys_module, "UNKNOWN_CACHED_MAX", 4)
    with closing(KeyStore(path, clock)) as keys:
        made = [keys.create(**OWNER)[0] for _ in range(10)]
        assert all(keys.lookup(key) is not None for key in made)
        assert all(keys.lookup(f"lld_{number:032x}") is None for number in range(100))
        assert (len(keys._known) <= 4, len(keys._unknown) <= 4) == (True, True)


def test_ten_thousand_keys_are_no_problem(path: Path, clock: FakeClock) -> None:
    """Each is found among all the others, first from the file and then from memory."""
    with closing(KeyStore(path, clock)) as keys:
        connection = keys._connection
        connection.execute("BEGIN")
        made = [f"lld_{number:032x}" for number in range(10_000)]
        connection.executemany(
            "INSERT INTO keys VALUES (?, ?, 'lld_0000', '', 'ann', 'red', 'acme', NULL, '[]', 0, NULL, NULL, NULL)",
            [(hashlib.sha256(key.encode()).digest(), f"key_{key[-12:]}") for key in made],
        )
        connection.execute("COMMIT")
        for _ in range(2):
            assert [keys.lookup(key).key_id for key in made] == [f"key_{key[-12:]}" for key in made]  # type: ignore[union-attr]
        assert len(keys.records()) == 10_000


def test_another_prefix_makes_other_keys(path: Path, clock: FakeClock) -> None:
    """The prefix is the operator's."""
    with closing(KeyStore(path, clock, prefix="acme_")) as keys:
        key, record = keys.create(**OWNER)
        assert re.fullmatch(r"acme_[0-9a-f]{32}", key)
        assert record.hint == key[:9]
        assert keys.key_id_of(key) == record.key_id


def test_a_file_of_a_newer_tollway_is_refused(path: Path, clock: FakeClock) -> None:
    """Nobody writes into tables that he does not know."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(SchemaTooNew):
        KeyStore(path, clock)


async def test_a_store_that_cannot_be_read_leaves_nothing_remembered(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that lasts and whatever the error: a key may have been revoked meanwhile. The watch goes on."""
    monkeypatch.setattr(keys_module, "POLL_SECONDS", 0.001)
    with closing(KeyStore(path, clock)) as proxy:
        key, _ = proxy.create(user="ann", team="red", organisation="acme")
        readings = 0

        def broken() -> int:
            nonlocal readings
            readings += 1
            raise sqlite3.DatabaseError("database disk image is malformed")

        monkeypatch.setattr(proxy, "_read_generation", broken)
        watching = asyncio.ensure_future(proxy.watch())
        for _ in range(2):
            assert proxy.lookup(key) is not None
            seen = readings
            async with asyncio.timeout(5):
                while readings < seen + 2:
                    await asyncio.sleep(0.001)
            assert not proxy._known
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
