"""Registrations in the ledger's file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.byo import ByoStore, Invalid, NoEncryptionKey, Registration, TooMany, UnknownAlias, new_key
from proxy.byo import store as store_module
from proxy.config.schema import Generation
from proxy.errors import Refusal
from tests.byo.making import SECRET, configured, wanted
from tests.support.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tollway.db"


@pytest.fixture
def under() -> Generation:
    return configured()


@pytest.fixture
def store(path: Path, clock: FakeClock, under: Generation) -> Iterator[ByoStore]:
    with closing(ByoStore(path, clock, under)) as opened:
        yield opened


def key_behind(store: ByoStore, team: str = "red", alias: str = "byo-gpt") -> str | None:
    """What would be sent upstream."""
    found = store.model(team, alias)
    if found is None or found.candidates[0].endpoint is None:
        return None
    return found.candidates[0].endpoint.key


def file_text(path: Path) -> bytes:
    """Everything on disk, write-ahead log included."""
    return b"".join(one.read_bytes() for one in path.parent.glob("tollway.db*"))


def test_what_is_registered_is_served_to_its_team_alone(store: ByoStore, under: Generation) -> None:
    """Another team has no such alias, and may take the same name for its own."""
    store.add("red", wanted(under))
    assert key_behind(store) == SECRET
    assert store.model("blue", "byo-gpt") is None
    assert store.models("blue") == {}
    store.add("blue", wanted(under, secret="sk-of-blue-0123456789"))
    assert key_behind(store, "blue") == "sk-of-blue-0123456789"
    assert key_behind(store) == SECRET
    assert list(store.models("red")) == ["byo-gpt"]


def test_the_file_holds_ciphertext_only(store: ByoStore, under: Generation, path: Path) -> None:
    """Neither the secret nor the encryption key is on disk; the hint is its last four characters."""
    made = store.add("red", wanted(under))
    store.rotate("red", "byo-gpt", "sk-second-CANARY-0123456789")
    text = file_text(path)
    assert b"byo_registrations" in text
    for secret in (SECRET, "sk-second-CANARY-0123456789", under.byo.keys[0], SECRET[3:20]):
        assert secret.encode() not in text
    assert made.hint == SECRET[-4:]
    assert SECRET not in repr(store.registrations())


def test_the_same_endpoint_serves_every_call(store: ByoStore, under: Generation) -> None:
    """Pools know an upstream by its identity: one object while nothing changes."""
    store.add("red", wanted(under))
    first, second = store.model("red", "byo-gpt"), store.model("red", "byo-gpt")
    assert first is second


def test_an_alias_is_registered_once(store: ByoStore, under: Generation) -> None:
    """Its key is rotated, not replaced by accident."""
    store.add("red", wanted(under))
    with pytest.raises(TooMany, match="already registered"):
        store.add("red", wanted(under, secret="sk-another-0123456789"))
    assert key_behind(store) == SECRET


def test_a_team_has_a_bounded_number(path: Path, clock: FakeClock) -> None:
    """Those of others do not count, removed ones no longer do."""
    under = configured(registrations_max=2)
    with closing(ByoStore(path, clock, under)) as store:
        for name in ("byo-a", "byo-b"):
            store.add("red", wanted(under, alias=name))
        with pytest.raises(TooMany, match="can have 2"):
            store.add("red", wanted(under, alias="byo-c"))
        store.add("blue", wanted(under, alias="byo-c"))
        store.remove("red", "byo-a")
        store.add("red", wanted(under, alias="byo-c"))
        assert [one.alias for one in store.registrations("red")] == ["byo-b", "byo-c"]


def test_the_bound_holds_when_all_come_at_once(path: Path, clock: FakeClock) -> None:
    """Counted and written in one transaction, over several stores of the file."""
    under = configured(registrations_max=3)
    with closing(ByoStore(path, clock, under)) as one, closing(ByoStore(path, clock, under)) as two:
        refused: list[str] = []

        def register(store: ByoStore, number: int) -> None:
            try:
                store.add("red", wanted(under, alias=f"byo-{number}"))
            except TooMany:
                refused.append(f"byo-{number}")

        threads = [threading.Thread(target=register, args=((one, two)[n % 2], n)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(one.registrations("red")) == 3
        assert len(refused) == 9


def test_rotation_replaces_the_secret(store: ByoStore, under: Generation, clock: FakeClock) -> None:
    """The alias, its id and its settings stay."""
    made = store.add("red", wanted(under))
    clock.advance(60)
    rotated = store.rotate("red", "byo-gpt", "sk-new-key-0123456789")
    assert key_behind(store) == "sk-new-key-0123456789"
    assert rotated == replace(made, hint="6789", rotated_ms=clock.ms)
    assert store.registrations("red") == [rotated]
    with pytest.raises(Invalid):
        store.rotate("red", "byo-gpt", "bad\nkey-0123456789")
    with pytest.raises(UnknownAlias):
        store.rotate("blue", "byo-gpt", "sk-new-key-0123456789")
    assert key_behind(store) == "sk-new-key-0123456789"


def test_removal_forgets_the_secret(store: ByoStore, under: Generation, path: Path) -> None:
    """The row stays for who asks, its ciphertext does not."""
    store.add("red", wanted(under))
    assert key_behind(store) == SECRET
    store.remove("red", "byo-gpt")
    assert store.model("red", "byo-gpt") is None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT length(sealed) FROM byo_registrations").fetchall() == [(0,)]
    assert store.registrations("red") == []
    assert [one.alias for one in store.registrations("red", revoked=True)] == ["byo-gpt"]
    with pytest.raises(UnknownAlias):
        store.remove("red", "byo-gpt")


@pytest.mark.parametrize("way", ["rotate", "remove"])
def test_the_old_ciphertext_is_overwritten(store: ByoStore, under: Generation, path: Path, way: str) -> None:
    """No page of the file keeps it, once the log is written back."""
    store.add("red", wanted(under))
    with closing(sqlite3.connect(path)) as connection:
        (old,) = connection.execute("SELECT sealed FROM byo_registrations").fetchone()
    assert old in file_text(path)
    if way == "rotate":
        store.rotate("red", "byo-gpt", "sk-new-key-0123456789")
    else:
        store.remove("red", "byo-gpt")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert old not in file_text(path)


def test_removed_ones_are_kept_in_a_bounded_number(
    store: ByoStore, under: Generation, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go; another team's stay."""
    monkeypatch.setattr(store_module, "REVOKED_KEPT_MAX", 3)
    store.add("blue", wanted(under))
    store.remove("blue", "byo-gpt")
    for number in range(5):
        store.add("red", wanted(under, alias=f"byo-{number}"))
        clock.advance(1)
        store.remove("red", f"byo-{number}")
    kept = store.registrations("red", revoked=True)
    assert [one.alias for one in kept] == ["byo-2", "byo-3", "byo-4"]
    assert len(store.registrations("blue", revoked=True)) == 1


def test_without_an_encryption_key_nothing_is_registered(path: Path, clock: FakeClock) -> None:
    """And the message says what to do."""
    under = configured(keys=())
    with closing(ByoStore(path, clock, under)) as store:
        assert not store.ready
        for write in (
            lambda: store.add("red", wanted(under)),
            lambda: store.rotate("red", "byo-gpt", SECRET),
            store.rekey,
        ):
            with pytest.raises(NoEncryptionKey, match="tollway byo new-key"):
                write()
        assert store.model("red", "byo-gpt") is None


@pytest.mark.parametrize("keys", [(), (new_key(),)])
def test_a_lost_encryption_key_makes_aliases_unavailable_and_crashes_nothing(
    store: ByoStore, under: Generation, keys: tuple[str, ...]
) -> None:
    """The caller is told, the listing shows it, others go on, and it can be removed."""
    made = store.add("red", wanted(under))
    store.follow(configured(keys=keys))
    with pytest.raises(Refusal) as caught:
        store.model("red", "byo-gpt")
    assert caught.value.code == "model_not_available"
    assert "cannot be read" in caught.value.message
    assert store.models("red") == {}
    assert list(store.troubles("red")) == [made.id]
    assert store.model("red", "byo-other") is None
    store.remove("red", "byo-gpt")
    store.follow(under)
    assert store.model("red", "byo-gpt") is None


@pytest.mark.parametrize(
    ("column", "value"),
    [("base_url", "https://evil.example.com/v1"), ("upstream", None), ("team", "blue"), ("alias", "byo-other"),
     ("credential_header", "x-evil"), ("id", "ffffffffffff"), ("model", "dearest"),
     ("operations", '["messages"]')],
)  # fmt: skip
def test_a_row_changed_in_the_file_gives_no_secret_away(
    store: ByoStore, under: Generation, path: Path, column: str, value: str | None
) -> None:
    """Whoever can write the file still cannot have a key sent to another host, or used by another team.

    Nor the next one: such a row takes no other key.
    """
    store.add("red", wanted(under))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE byo_registrations SET {column}=?", (value,))
        connection.commit()
    team, alias = ("blue" if column == "team" else "red"), ("byo-other" if column == "alias" else "byo-gpt")
    with pytest.raises(Refusal, match="another registration"):
        store.model(team, alias)
    with pytest.raises(Invalid, match="Remove it and register it again"):
        store.rotate(team, alias, "sk-new-key-0123456789")
    with pytest.raises(Refusal, match="another registration"):
        store.model(team, alias)


def test_swapped_secrets_are_not_used(store: ByoStore, under: Generation, path: Path) -> None:
    """Blue's key in red's row serves nobody."""
    store.add("red", wanted(under))
    store.add("blue", wanted(under, secret="sk-of-blue-0123456789"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE byo_registrations SET sealed=(SELECT sealed FROM byo_registrations WHERE team='blue')"
        )
        connection.commit()
    with pytest.raises(Refusal, match="another registration"):
        store.model("red", "byo-gpt")
    assert key_behind(store, "blue") == "sk-of-blue-0123456789"


def test_rekeying_puts_everything_under_the_first_key(path: Path, clock: FakeClock) -> None:
    """Afterwards the old one can be taken away."""
    old, new = new_key(), new_key()
    with closing(ByoStore(path, clock, configured(keys=(old,)))) as store:
        for team in ("red", "blue"):
            store.add(team, wanted(configured(keys=(old,))))
        store.add("red", wanted(configured(keys=(old,)), alias="byo-gone"))
        store.remove("red", "byo-gone")
        store.follow(configured(keys=(new, old)))
        done = store.rekey()
        assert (done.count, done.unreadable) == (2, ())
        store.follow(configured(keys=(new,)))
        assert (key_behind(store), key_behind(store, "blue")) == (SECRET, SECRET)
        store.follow(configured(keys=(old,)))
        with pytest.raises(Refusal):
            store.model("red", "byo-gpt")


def test_rekeying_leaves_what_it_cannot_read(path: Path, clock: FakeClock) -> None:
    """And names it: the key that reads it may still be found."""
    lost, new = new_key(), new_key()
    with closing(ByoStore(path, clock, configured(keys=(lost,)))) as store:
        made = store.add("red", wanted(configured(keys=(lost,))))
        store.follow(configured(keys=(new,)))
        store.add("blue", wanted(configured(keys=(new,))))
        done = store.rekey()
        assert (done.count, done.unreadable) == (1, (made,))
        store.follow(configured(keys=(new, lost)))
        assert key_behind(store) == SECRET


def test_a_refused_registration_changes_nothing(store: ByoStore, under: Generation, path: Path) -> None:
    """The transaction is rolled back and the store goes on."""
    store.add("red", wanted(under))
    before = generation_of(path)
    with pytest.raises(TooMany):
        store.add("red", wanted(under))
    assert generation_of(path) == before
    store.add("red", wanted(under, alias="byo-next"))
    assert generation_of(path) == before + 1


async def test_changes_of_another_process_are_seen(path: Path, clock: FakeClock, under: Generation) -> None:
    """Registered, rotated and removed elsewhere: known here within a second."""
    with closing(ByoStore(path, clock, under)) as here, closing(ByoStore(path, clock, under)) as elsewhere:
        watching = asyncio.get_running_loop().create_task(here.watch())
        assert here.model("red", "byo-gpt") is None
        elsewhere.add("red", wanted(under))
        await until(lambda: key_behind(here) == SECRET)
        elsewhere.rotate("red", "byo-gpt", "sk-rotated-0123456789")
        await until(lambda: key_behind(here) == "sk-rotated-0123456789")
        elsewhere.remove("red", "byo-gpt")
        await until(lambda: here.model("red", "byo-gpt") is None)
        watching.cancel()


async def test_a_file_that_cannot_be_read_is_remembered_by_nobody(
    store: ByoStore, under: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removed key must not live on in memory because the file is gone."""
    store.add("red", wanted(under))
    assert key_behind(store) == SECRET
    looked = asyncio.Event()

    def fail() -> int:
        looked.set()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store, "_read_generation", fail)
    monkeypatch.setattr(store_module, "POLL_SECONDS", 0.001)
    watching = asyncio.get_running_loop().create_task(store.watch())
    await asyncio.wait_for(looked.wait(), 10)
    await asyncio.sleep(0)
    assert store._teams == {}
    watching.cancel()


def test_teams_remembered_are_bounded(store: ByoStore, under: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a name that nobody registered is looked up once."""
    monkeypatch.setattr(store_module, "TEAMS_CACHED_MAX", 4)
    store.add("red", wanted(under))
    for number in range(20):
        assert store.model(f"team-{number}", "byo-gpt") is None
    assert len(store._teams) <= 4
    assert key_behind(store) == SECRET


def test_a_registration_comes_back_as_it_was_written(store: ByoStore, under: Generation) -> None:
    """All columns."""
    made = store.add(
        "red",
        wanted(under, base_url="https://llm.example.com/v1", operations=["messages"], credential_header="x-api-key"),
    )
    assert store.registrations() == [made]
    assert isinstance(made, Registration)
    assert made.operations == ("messages",)


def generation_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT generation FROM byo_generation").fetchone()[0])


async def until(condition: object) -> None:
    """Within ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)
