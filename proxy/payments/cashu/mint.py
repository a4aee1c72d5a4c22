"""A mint, asked over the guarded client: its keysets, kept; swaps, the state of notes, and lost signatures.

What a mint says is input like any other: parsed strictly, bounded, and never repeated to a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from proxy.clock import Clock
from proxy.egress import Answer, Egress, EgressFailure
from proxy.payments.cashu.blinding import BlindSignature, Output
from proxy.payments.cashu.keysets import BadKeyset, Keyset, Keysets, parse_keys, parse_keysets
from proxy.payments.cashu.tokens import Note
from proxy.payments.settings import Mint as MintSettings

UNIT: Final = "sat"
NEEDED: Final = ("7", "9", "12")
"""State of notes, lost signatures, proofs of signatures: without them an interrupted swap could not be recovered."""
ANSWER_BYTES_MAX: Final = 256 * 1024
KEYSETS_READ_MAX: Final = 64
"""Keysets in sat whose keys are read; a mint has a handful."""
FRESH_SECONDS: Final = 300.0
"""Older keysets are read anew beside the exchanges that use them."""
AGAIN_SECONDS: Final = 5.0
"""Least time between two readings."""


class MintState(Enum):
    """What a mint says of a note (NUT-07)."""

    UNSPENT = "UNSPENT"
    PENDING = "PENDING"
    SPENT = "SPENT"


class MintRefusal(Exception):
    """The mint did not do it, and says why in an error of its own (NUT-00)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the mint refuses with code {code}")
        self.code = code


class BadAnswer(Exception):
    """No answer of the protocol: nobody knows what the mint did. The message is for the operator."""


class MintBusy(BadAnswer):
    """It has been asked too often and did nothing: status 429."""


class MintClient:
    """One mint. Its keysets are read beside the exchanges, never by one that waits for them."""

    def __init__(self, settings: MintSettings, *, timeout_seconds: float, clock: Clock, log: Any) -> None:
        self.url = settings.url
        self._egress = Egress(
            settings.url,
            private=settings.development,
            timeout_seconds=timeout_seconds,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        self._clock = clock
        self._log = log
        self._keysets: Keysets | None = None
        self._read_at = -FRESH_SECONDS
        self._tried_at = -FRESH_SECONDS
        self._away = False
        self._reading: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Stop what is under way and close every connection."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._egress.aclose()

    def keysets(self) -> Keysets | None:
        """As they were last read; None while the mint has not been reached. Old ones are read anew meanwhile."""
        if self._away or self._clock.monotonic() - self._read_at >= FRESH_SECONDS:
            self.read_soon()
        return self._keysets

    def ready(self) -> bool:
        """It answered when it was last asked for its keysets."""
        return self.keysets() is not None and not self._away

    def read_soon(self) -> bool:
        """Read the keysets anew, beside everything else; False where that was done or tried just now."""
        if self._reading is not None:
            return True
        now = self._clock.monotonic()
        if now - self._tried_at < AGAIN_SECONDS:
            return False
        self._tried_at = now
        self._reading = asyncio.get_running_loop().create_task(self._read_once(), name=f"keysets of {self.url}")
        return True

    async def read_within(self, seconds: float) -> None:
        """Read the keysets anew and wait for them, but not for longer; what takes longer goes on beside."""
        self.read_soon()
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=seconds)

    async def read(self) -> Keysets:
        """Read the keysets now. Raises EgressFailure, BadAnswer, BadKeyset."""
        info = await self._get("/v1/info")
        nuts = info.get("nuts")
        for nut in NEEDED:
            entry = nuts.get(nut) if isinstance(nuts, dict) else None
            if not isinstance(entry, dict) or entry.get("supported") is not True:
                raise BadAnswer(f"it does not support NUT-{nut:0>2}, without which a payment could be lost")
        listed = [entry for entry in parse_keysets(await self._get("/v1/keysets")) if entry.unit == UNIT]
        if len(listed) > KEYSETS_READ_MAX:
            raise BadKeyset(f"it has more than {KEYSETS_READ_MAX} keysets in {UNIT}")
        known = self._keysets.by_id if self._keysets is not None else {}
        by_id: dict[str, Keyset] = {}
        for entry in listed:
            kept = known.get(entry.id)
            if kept is not None and kept.info == entry:
                by_id[entry.id] = kept
            else:
                by_id[entry.id] = parse_keys(entry, await self._get(f"/v1/keys/{entry.id}"))
        self._keysets = Keysets(by_id)
        self._read_at = self._clock.monotonic()
        self._away = False
        return self._keysets

    async def _read_once(self) -> None:
        try:
            await self.read()
        except EgressFailure as failure:
            self._away = True
            self._log.warning("cashu_mint_unreachable", mint=self.url, detail=failure.detail)
        except (BadAnswer, BadKeyset) as error:
            self._away = True
            self._log.warning("cashu_mint_unfit", mint=self.url, detail=str(error))
        finally:
            self._reading = None

    async def swap(self, notes: Sequence[Note], outputs: Sequence[Output]) -> list[BlindSignature]:
        """Spend notes for signatures on outputs (NUT-03), in the order of the outputs.

        Raises MintRefusal (it did nothing), and EgressFailure or BadAnswer: then only `states` knows.
        """
        answer = await self._egress.request(
            "POST", "/v1/swap", json={"inputs": [_input(note) for note in notes], "outputs": _outputs(outputs)}
        )
        signatures = _members(answer).get("signatures")
        if not isinstance(signatures, list) or len(signatures) != len(outputs):
            raise BadAnswer("it did not sign what it was sent")
        return [_signature(entry) for entry in signatures]

    async def states(self, ys: Sequence[str]) -> list[MintState]:
        """What became of notes, by their Y (NUT-07), in this order. Raises EgressFailure, MintRefusal, BadAnswer."""
        members = _members(await self._egress.request("POST", "/v1/checkstate", json={"Ys": list(ys)}))
        entries = members.get("states")
        found: dict[str, MintState] = {}
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("state") in MintState.__members__:
                found[str(entry.get("Y")).lower()] = MintState(entry["state"])
        if len(found) != len(ys) or not all(y in found for y in ys):
            raise BadAnswer("it does not say what became of the notes")
        return [found[y] for y in ys]

    async def restore(self, outputs: Sequence[Output]) -> dict[str, BlindSignature]:
        """The signatures that it once gave on outputs (NUT-09), by B_. Raises EgressFailure, MintRefusal, BadAnswer."""
        members = _members(await self._egress.request("POST", "/v1/restore", json={"outputs": _outputs(outputs)}))
        entries, signatures = members.get("outputs"), members.get("signatures")
        if not isinstance(entries, list) or not isinstance(signatures, list) or len(entries) != len(signatures):
            raise BadAnswer("it does not say what it signed")
        return {
            str(entry.get("B_") if isinstance(entry, dict) else None).lower(): _signature(signature)
            for entry, signature in zip(entries, signatures, strict=True)
        }

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            return _members(await self._egress.request("GET", path))
        except MintRefusal as refusal:
            raise BadAnswer(f"it refuses {path} with code {refusal.code}") from refusal


def _members(answer: Answer) -> dict[str, Any]:
    """Raises MintRefusal for an error of the protocol alone; whatever else is no success is a BadAnswer."""
    if answer.status == 429:
        raise MintBusy("it has been asked too often (status 429)")
    try:
        members = answer.json()
    except EgressFailure as failure:
        raise BadAnswer(failure.detail) from failure
    if not isinstance(members, dict):
        raise BadAnswer(f"its answer (status {answer.status}) is no object")
    if answer.status == 200:
        return members
    code = members.get("code")
    if answer.status == 400 and type(code) is int and code > 0:
        raise MintRefusal(code)
    raise BadAnswer(f"it answered with status {answer.status}")


def _input(note: Note) -> dict[str, Any]:
    return {"amount": note.amount, "id": note.keyset, "secret": note.secret, "C": note.signature.hex()}


def _outputs(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [{"amount": output.amount, "id": output.keyset, "B_": output.blinded} for output in outputs]


def _signature(entry: object) -> BlindSignature:
    if isinstance(entry, dict) and type(entry.get("amount")) is int:
        dleq = entry.get("dleq")
        proof = dleq if isinstance(dleq, dict) else {}
        texts = (entry.get("id"), entry.get("C_"), proof.get("e"), proof.get("s"))
        if all(isinstance(text, str) for text in texts):
            return BlindSignature(str(texts[0]), entry["amount"], *map(str, texts[1:]))
    raise BadAnswer("it gave a signature without its proof")
