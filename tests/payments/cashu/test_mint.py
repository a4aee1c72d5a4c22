"""What a mint says is input like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.egress import EgressFailure
from proxy.payments.cashu.keysets import BadKeyset
from proxy.payments.cashu.mint import AGAIN_SECONDS, FRESH_SECONDS, BadAnswer, MintClient, MintRefusal, MintState
from proxy.payments.settings import Mint
from tests.peers.mint.scripted import Fault, ScriptedMint
from tests.support.fakes import FakeClock, Log


@pytest.fixture
async def client(scripted: ScriptedMint) -> AsyncIterator[MintClient]:
    made = MintClient(Mint(scripted.url, development=True), timeout_seconds=0.5, clock=FakeClock(), log=Log())
    yield made
    await made.aclose()


def clock_of(client: MintClient) -> Any:
    return client._clock


async def test_keysets_are_kept(scripted: ScriptedMint, client: MintClient) -> None:
    """Read once; keys of a keyset that is known are not read again."""
    assert client.keysets() is None
    assert client._reading is not None
    await client._reading
    keysets = client.keysets()
    assert keysets is not None and keysets.current is not None
    assert keysets.current.info.id == scripted.active
    await client.read()
    assert scripted.calls.count(f"/v1/keys/{scripted.active}") == 1


async def test_old_keysets_are_read_anew_beside_their_use(scripted: ScriptedMint, client: MintClient) -> None:
    """Nobody waits for them."""
    await client.read()
    scripted.rotate()
    clock_of(client).advance(FRESH_SECONDS)
    keysets = client.keysets()
    assert keysets is not None and keysets.current is not None
    assert keysets.current.info.id != scripted.active
    assert client._reading is not None
    await client._reading
    fresh = client.keysets()
    assert fresh is not None and fresh.current is not None
    assert fresh.current.info.id == scripted.active
    assert len(fresh.by_id) == 2


async def test_mint_is_not_asked_all_the_time(scripted: ScriptedMint, client: MintClient) -> None:
    """However often somebody misses a keyset: once in some seconds."""
    scripted.faults["/v1/info"] = Fault.CUT_BEFORE
    for _ in range(3):
        assert client.read_soon()
        assert client._reading is not None
        await client._reading
        for _ in range(10):
            assert not client.read_soon()
        clock_of(client).advance(AGAIN_SECONDS)
    assert scripted.calls == ["/v1/info"] * 3


@pytest.mark.parametrize("nut", ["7", "9", "12"])
@pytest.mark.parametrize("entry", [None, {"supported": False}, {"supported": "yes"}, 1])
async def test_mint_that_could_lose_a_payment_is_not_used(
    scripted: ScriptedMint, client: MintClient, nut: str, entry: Any
) -> None:
    """State of notes, lost signatures and proofs of signature are needed."""
    scripted.nuts[nut] = entry
    with pytest.raises(BadAnswer, match=f"NUT-{int(nut):02}"):
        await client.read()
    assert client._keysets is None


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.CUT_BEFORE, Fault.REDIRECT, Fault.HUGE, Fault.JUNK, Fault.ERROR])
@pytest.mark.parametrize("path", ["/v1/info", "/v1/keysets"])
async def test_no_fault_is_taken_for_keysets(
    scripted: ScriptedMint, client: MintClient, fault: Fault, path: str
) -> None:
    """And the one that reads them in the background survives it."""
    scripted.faults[path] = fault
    with pytest.raises((EgressFailure, BadAnswer, BadKeyset)):
        await client.read()
    clock_of(client).advance(AGAIN_SECONDS)
    assert client.read_soon()
    assert client._reading is not None
    await client._reading
    assert client._keysets is None


async def test_states_are_in_order(scripted: ScriptedMint, client: MintClient) -> None:
    """Whatever order the mint gives them in; one that is missing, or too many, is no answer."""
    scripted.spent.add("02aa")
    assert await client.states(["02bb", "02aa"]) == [MintState.UNSPENT, MintState.SPENT]

    def lying(path: str, sent: dict[str, Any]) -> dict[str, Any]:
        return {"states": [{"Y": "02aa", "state": "UNSPENT"}]}

    scripted._own = lying  # type: ignore[method-assign]
    with pytest.raises(BadAnswer):
        await client.states(["02bb", "02aa"])
    with pytest.raises(BadAnswer):
        await client.states(["02bb"])


@pytest.mark.parametrize(
    "members", [[], {}, {"states": 1}, {"states": [{"Y": "02bb", "state": "NEW"}]}, {"states": [None]}]
)
async def test_states_that_are_none_are_refused(scripted: ScriptedMint, client: MintClient, members: Any) -> None:
    """Nothing is guessed."""
    scripted._own = lambda path, sent: members  # type: ignore[method-assign]
    with pytest.raises(BadAnswer):
        await client.states(["02bb"])


async def test_error_of_the_protocol_is_a_refusal(scripted: ScriptedMint, client: MintClient) -> None:
    """Its code is kept, its words are not."""
    with pytest.raises(MintRefusal) as refused:
        await client.swap(scripted.minted(64), [])
    assert (refused.value.code, str(refused.value)) == (11002, "the mint refuses with code 11002")
