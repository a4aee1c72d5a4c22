"""A mint in a few lines that lies, hangs and loses connections as told; or the same in front of a real one.

async with ScriptedMint() as m:
    m.faults["/v1/swap"] = Fault.CUT_AFTER
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from enum import Enum
from types import TracebackType
from typing import Any, Self

import httpx
from cashu.core.crypto import b_dhke
from coincurve import PrivateKey, PublicKey

from proxy.payments.cashu.blinding import BlindSignature, new_output, unblind
from proxy.payments.cashu.tokens import Note, encode_token

BITS = 24
SPENT, UNBALANCED, FORGED, UNKNOWN_KEYSET, INACTIVE = 11001, 11002, 10001, 12001, 12002


class Fault(Enum):
    """What goes wrong with every request for a path until it is taken away."""

    CUT_BEFORE = "cut_before"
    """The connection ends, and nothing was done."""
    CUT_AFTER = "cut_after"
    """It was done; the connection ends without an answer."""
    HANG = "hang"
    """Nothing is done, and nothing answered."""
    HANG_AFTER = "hang_after"
    ERROR = "error"
    """502, and nothing was done."""
    ERROR_AFTER = "error_after"
    """It was done; the answer is a 502."""
    BUSY = "busy"
    """429, and nothing was done."""
    REDIRECT = "redirect"
    """To loopback."""
    HUGE = "huge"
    """It was done; the answer has no end."""
    JUNK = "junk"
    """It was done; the answer is no JSON."""
    FEW = "few"
    """It was done; a signature is missing."""
    FORGED_PROOF = "forged_proof"
    """It was done; the proof of a signature is another's."""
    NO_PROOF = "no_proof"
    OTHER_AMOUNT = "other_amount"
    PENDING = "pending"
    """Notes are said to be pending."""


_UNDONE = frozenset({Fault.CUT_BEFORE, Fault.HANG, Fault.ERROR, Fault.BUSY, Fault.REDIRECT})


class MintError(Exception):
    """NUT-00: status 400 and a code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ScriptedMint:
    """NUT-01, 02, 03, 06, 07 and 09 in memory; with `behind`, all of that is a real mint's."""

    def __init__(self, *, fee_ppk: int = 0, behind: str | None = None, keysets: int = 1) -> None:
        self.url = ""
        self.faults: dict[str, Fault] = {}
        self.once: set[str] = set()
        """Paths whose fault is taken away by the first request."""
        self.calls: list[str] = []
        self.nuts: dict[str, Any] = {nut: {"supported": True} for nut in ("7", "9", "12")}
        self.fee_ppk = fee_ppk
        self.keysets: dict[str, dict[int, PrivateKey]] = {}
        self.active = ""
        self.expiry: dict[str, int] = {}
        self.spent: set[str] = set()
        self.signed: dict[str, dict[str, Any]] = {}
        self._behind = behind
        self._server: asyncio.Server | None = None
        self._over = asyncio.Event()
        for _ in range(keysets):
            self.rotate()

    def rotate(self) -> str:
        """A new keyset; the others can be spent only."""
        keys = {1 << bit: PrivateKey() for bit in range(BITS)}
        listed = ",".join(f"{amount}:{key.public_key.format().hex()}" for amount, key in keys.items())
        fee = f"|input_fee_ppk:{self.fee_ppk}" if self.fee_ppk else ""
        self.active = "01" + hashlib.sha256(f"{listed}|unit:sat{fee}".encode()).hexdigest()
        self.keysets[self.active] = keys
        return self.active

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def minted(self, *amounts: int, keyset: str | None = None) -> list[Note]:
        """Fresh notes with proofs of signature."""
        outputs = [new_output(keyset or self.active, amount) for amount in amounts]
        made = []
        for output in outputs:
            entry = self._sign({"amount": output.amount, "id": output.keyset, "B_": output.blinded})
            signature = BlindSignature(output.keyset, output.amount, entry["C_"], **entry["dleq"])
            made.append(unblind(output, signature, self.keysets[output.keyset][output.amount].public_key))
        return made

    def notes(self, *amounts: int) -> str:
        """The same as a token."""
        return encode_token(self.url, self.minted(*amounts))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = next(
                (
                    int(v)
                    for k, _, v in (line.partition(":") for line in head.split("\r\n"))
                    if k.lower() == "content-length"
                ),
                0,
            )
            body = await reader.readexactly(size)
            method, path, _ = head.split(" ", 2)
            await self._answer(writer, method, path, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.calls.append("connection lost")
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
        self.calls.append(path)
        fault = self.faults.get(path)
        if path in self.once:
            self.faults.pop(path, None)
        if fault is Fault.HANG:
            await self._over.wait()
            return
        status, answer = 502, b"bad gateway"
        if fault not in _UNDONE:
            status, answer = await self._do(method, path, body)
        if fault is Fault.HANG_AFTER:
            await self._over.wait()
        if fault in (Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.HANG_AFTER):
            return
        if fault is Fault.ERROR_AFTER:
            status, answer = 502, b"bad gateway"
        if status == 200 and fault is not None:
            answer = _spoiled(fault, answer)
        where = "location: http://127.0.0.1:1/v1/swap\r\n" if fault is Fault.REDIRECT else ""
        status = {Fault.REDIRECT: 307, Fault.BUSY: 429}.get(fault, status) if fault is not None else status
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\nconnection: close\r\n{where}\r\n".encode()
        )
        writer.write(answer)
        await writer.drain()

    async def _do(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._behind is not None:
            async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
                headers = {"content-type": "application/json"}
                answer = await client.request(method, self._behind + path, content=body, headers=headers)
                return answer.status_code, answer.content
        try:
            return 200, json.dumps(self._own(path, json.loads(body) if body else {})).encode()
        except MintError as error:
            return 400, json.dumps({"detail": "no", "code": error.code}).encode()

    def _own(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/info":
            return {"name": "scripted", "nuts": self.nuts}
        if path == "/v1/keysets":
            return {"keysets": [self._listed(keyset) for keyset in self.keysets]}
        if path.startswith("/v1/keys/"):
            keyset = path.removeprefix("/v1/keys/")
            keys = {str(amount): key.public_key.format().hex() for amount, key in self.keysets[keyset].items()}
            return {"keysets": [self._listed(keyset) | {"keys": keys}]}
        if path == "/v1/checkstate":
            return {"states": [{"Y": y, "state": "SPENT" if y in self.spent else "UNSPENT"} for y in sent["Ys"]]}
        if path == "/v1/restore":
            found = [output for output in sent["outputs"] if output["B_"] in self.signed]
            return {"outputs": found, "signatures": [self.signed[output["B_"]] for output in found]}
        return self._swap(sent["inputs"], sent["outputs"])

    def _listed(self, keyset: str) -> dict[str, Any]:
        return {"id": keyset, "unit": "sat", "active": keyset == self.active, "input_fee_ppk": self.fee_ppk}

    def _swap(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        ys = []
        for note in inputs:
            if note["id"] not in self.keysets:
                raise MintError(UNKNOWN_KEYSET)
            y = b_dhke.hash_to_curve(note["secret"].encode())
            key = self.keysets[note["id"]][note["amount"]]
            if y.multiply(key.secret).format() != PublicKey(bytes.fromhex(note["C"])).format():
                raise MintError(FORGED)
            ys.append(y.format().hex())
        if self.spent.intersection(ys):
            raise MintError(SPENT)
        if any(output["id"] != self.active for output in outputs):
            raise MintError(INACTIVE)
        fee = -(-self.fee_ppk * len(inputs) // 1000)
        if sum(note["amount"] for note in inputs) - fee != sum(output["amount"] for output in outputs):
            raise MintError(UNBALANCED)
        self.spent.update(ys)
        return {"signatures": [self._sign(output) for output in outputs]}

    def _sign(self, output: dict[str, Any]) -> dict[str, Any]:
        key = self.keysets[output["id"]][output["amount"]]
        signature, e, s = b_dhke.step2_bob(PublicKey(bytes.fromhex(output["B_"])), key)
        self.signed[output["B_"]] = {
            "id": output["id"],
            "amount": output["amount"],
            "C_": signature.format().hex(),
            "dleq": {"e": e.to_hex(), "s": s.to_hex()},
        }
        return self.signed[output["B_"]]


def _spoiled(fault: Fault, answer: bytes) -> bytes:
    if fault is Fault.HUGE:
        return b" " * (1 << 20) + answer
    if fault is Fault.JUNK:
        return b"<html>" + answer
    members = json.loads(answer)
    for state in members.get("states", []):
        state["state"] = "PENDING" if fault is Fault.PENDING else state["state"]
    signatures = members.get("signatures", [])
    if signatures and fault is Fault.FEW:
        signatures.pop()
    if signatures and fault is Fault.FORGED_PROOF:
        signatures[-1]["dleq"] = {"e": "01" * 32, "s": "02" * 32}
    if signatures and fault is Fault.NO_PROOF:
        del signatures[-1]["dleq"]
    if signatures and fault is Fault.OTHER_AMOUNT:
        signatures[-1]["amount"] *= 2
    return json.dumps(members).encode()
