"""nutshell's wallet, run by the Python of this folder's environment: one command a line, one answer a line, in JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from cashu.core.nuts.nut18 import deserialize
from cashu.core.settings import settings
from cashu.wallet.helpers import deserialize_token_from_string
from cashu.wallet.wallet import Wallet


async def send(wallet: Wallet, sats: int, lock: str) -> dict[str, object]:
    """A token of exactly so much, with proofs of signature."""
    worth = 1 << (2 * sats + 16).bit_length()
    quote = await wallet.request_mint(worth)
    await wallet.get_mint_quote(quote.quote)
    proofs = await wallet.mint(worth, quote_id=quote.quote)
    secret = await wallet.create_p2pk_lock(lock) if lock else None
    _, sent = await wallet.swap_to_send(proofs, sats, secret_lock=secret)
    return {"token": await wallet.serialize_proofs(sent, include_dleq=True)}


async def receive(wallet: Wallet, text: str) -> dict[str, object]:
    """Redeem a token at its mint."""
    token = deserialize_token_from_string(text)
    proofs = token.proofs
    await wallet._expand_short_keyset_ids(proofs)
    kept, _ = await wallet.redeem(proofs)
    return {"sats": sum(proof.amount for proof in kept)}


def read(text: str) -> dict[str, object]:
    """What a payment request asks for."""
    return {"request": deserialize(text).model_dump(exclude_none=True)}


async def main(url: str) -> None:
    """Until the input ends."""
    settings.tor = False
    wallet = await Wallet.with_db(url, "wallet", name="wallet")
    await wallet.load_mint()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            if command["do"] == "send":
                answer = await send(wallet, command["sats"], command["lock"])
            elif command["do"] == "receive":
                answer = await receive(wallet, command["token"])
            else:
                answer = read(command["request"])
        except Exception as error:  # noqa: BLE001 -- whatever its own wallet raises is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=ANSWERS, flush=True)


ANSWERS, sys.stdout = sys.stdout, sys.stderr
"""What the wallet itself prints is no answer."""
asyncio.run(main(sys.argv[1]))
