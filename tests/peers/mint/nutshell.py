"""nutshell's programs as children of the tests: started, waited for, ended by their id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from proxy.payments.cashu.blinding import BlindSignature, new_output, point, unblind
from proxy.payments.cashu.tokens import Note, encode_token

HERE = Path(__file__).parent
BIN = HERE / ".venv" / "bin"
PROGRAM = str(BIN / "mint")
"""For `pytest.mark.needs`."""
START_SECONDS_MAX = 40.0
STOP_SECONDS_MAX = 5.0


class MintDied(Exception):
    """It ended, or was not there in time; the message is what it wrote."""


class Child:
    """A program in a folder of its own, without our environment; ended with its group."""

    def __init__(self, arguments: list[str], environment: dict[str, str], *, pipes: bool = False) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="nutshell-")
        home = self.folder.name
        self.said = Path(home) / "output"
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                cwd=home,
                env={"PATH": os.environ.get("PATH", ""), "HOME": home, "TOR": "FALSE", **environment},
                stdin=pipe,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End it, by force where it takes its time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.folder.cleanup()

    def words(self) -> str:
        """The end of what it wrote."""
        return self.said.read_text(errors="replace")[-4000:]


class Mint:
    """A mint whose invoices pay themselves at once."""

    def __init__(self, *, fee_ppk: int) -> None:
        self.fee_ppk = fee_ppk
        self.url = ""
        self._child: Child | None = None
        self._keys: dict[str, Any] = {}

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "MINT_BACKEND_BOLT11_SAT": "FakeWallet",
            "MINT_PRIVATE_KEY": f"of a test {port}",
            "MINT_DATABASE": "mint",
            "MINT_RATE_LIMIT": "FALSE",
            "MINT_INPUT_FEE_PPK": str(self.fee_ppk),
            "FAKEWALLET_DELAY_INCOMING_PAYMENT": "0",
        }
        self._child = Child([PROGRAM, "--port", str(port)], environment)
        try:
            self._await(self._child)
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.stop()

    def _await(self, child: Child) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if child.process.poll() is not None:
                break
            try:
                with httpx.Client(trust_env=False, timeout=5) as client:
                    self._keys = client.get(f"{self.url}/v1/keys").raise_for_status().json()["keysets"][0]
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise MintDied(child.words())

    async def notes(self, sats: int, *, amounts: list[int] | None = None) -> str:
        """A fresh token with proofs of signature, of these amounts or of as few notes as can be."""
        return encode_token(self.url, await self.minted(sats, amounts=amounts))

    async def minted(self, sats: int, *, amounts: list[int] | None = None) -> list[Note]:
        """Fresh notes (NUT-04): a quote that pays itself, and signatures for it."""
        parts = amounts or [1 << bit for bit in range(sats.bit_length()) if sats >> bit & 1]
        if sum(parts) != sats:
            raise ValueError("the amounts do not add up")
        keyset = self._keys["id"]
        outputs = [new_output(keyset, part) for part in parts]
        async with httpx.AsyncClient(trust_env=False, timeout=10, base_url=self.url) as client:
            quoted = await client.post("/v1/mint/quote/bolt11", json={"amount": sats, "unit": "sat"})
            quote = quoted.raise_for_status().json()["quote"]
            (await client.get(f"/v1/mint/quote/bolt11/{quote}")).raise_for_status()
            sent = [{"amount": o.amount, "id": o.keyset, "B_": o.blinded} for o in outputs]
            answer = await client.post("/v1/mint/bolt11", json={"quote": quote, "outputs": sent})
            signatures = answer.raise_for_status().json()["signatures"]
        return [
            unblind(
                output,
                BlindSignature(s["id"], s["amount"], s["C_"], s["dleq"]["e"], s["dleq"]["s"]),
                point(self._keys["keys"][str(output.amount)]),
            )
            for output, s in zip(outputs, signatures, strict=True)
        ]


class Wallet:
    """nutshell's own wallet, told what to do line by line."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._child: Child | None = None

    def __enter__(self) -> Self:
        script = str(HERE / "wallet.py")
        self._child = Child([str(BIN / "python"), script, self._url], {"CASHU_DIR": "wallet"}, pipes=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.stop()

    def send(self, sats: int, *, lock: str = "") -> str:
        """A token out of notes minted for it, locked to a public key if one is given."""
        return str(self._do({"do": "send", "sats": sats, "lock": lock})["token"])

    def receive(self, token: str) -> int:
        """Swap a token for notes of the wallet's own; says what they are worth. Raises MintDied if it cannot."""
        return int(self._do({"do": "receive", "token": token})["sats"])

    def read(self, request: str) -> dict[str, Any]:
        """What a payment request (`creqA...`) asks for, as the wallet understands it: a, u, m, ..."""
        return dict(self._do({"do": "read", "request": request})["request"])

    def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        child = self._child
        if child is None or child.process.stdin is None or child.process.stdout is None:
            raise MintDied("the wallet was not started")
        child.process.stdin.write(json.dumps(command) + "\n")
        child.process.stdin.flush()
        line = child.process.stdout.readline()
        answer = json.loads(line) if line else {"error": child.words()}
        if "error" in answer:
            raise MintDied(answer["error"])
        return dict(answer)
