"""What became of an authorization, found on chain from nothing but itself.

The chain is asked at one block that has its confirmations. Unused there, and past `validBefore` by that block's own
time: it never can be used. Used: the event that used it says by whom and for whom. That event is looked for from the
last block that could hold it backwards, in windows, as far as a budget of calls reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.payments.x402 import eip3009
from proxy.payments.x402.chain import Chain, Mention
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.rpc import NodeError
from proxy.payments.x402.typed_data import SIGNATURE_BYTES, with_v

WINDOW_BLOCKS: Final = 2_000
"""At first; halved where the node refuses so many."""
WINDOW_BLOCKS_MIN: Final = 10
"""What the meanest of public nodes allow."""
WINDOWS_MAX: Final = 40


class Fate(Enum):
    """What became of it."""

    PAID = "paid"
    """It paid us, exactly, by `transaction`."""
    OPEN = "open"
    """It is not used, and still can be."""
    EXPIRED = "expired"
    """It is not used, and never can be."""
    ELSEWHERE = "elsewhere"
    """It was used, and not to pay us; or to pay us under another signature, which is another payment."""
    CANCELLED = "cancelled"
    UNCLEAR = "unclear"
    """It was used, and the node does not show by what."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, and in words for the operator."""

    fate: Fate
    words: str
    transaction: str = ""


async def fate_of(chain: Chain, authorization: Authorization) -> Found:
    """Raises NodeError and NodeFailure."""
    await chain.check()
    block = await chain.settled_block()
    if not await chain.used(authorization, block=block.number):
        if block.timestamp >= authorization.valid_before:
            return Found(Fate.EXPIRED, f"not used by block {block.number}, which is past its validBefore")
        return Found(Fate.OPEN, f"not used by block {block.number}, and valid until {authorization.valid_before}")
    last = block.number
    if block.timestamp >= authorization.valid_before:
        last = await _last_before(chain, authorization.valid_before, block.number)
    mention = await _mention(chain, authorization, last)
    if mention is None:
        return Found(Fate.UNCLEAR, "used, by a transaction further back than the node was asked about")
    if mention.cancelled:
        return Found(Fate.CANCELLED, "the payer cancelled it", mention.transaction)
    return await _judged(chain, authorization, mention.transaction)


async def _judged(chain: Chain, authorization: Authorization, transaction: str) -> Found:
    landed = await chain.confirmed(transaction)
    if landed is None:
        return Found(Fate.UNCLEAR, "the transaction that used it lacks confirmations", transaction)
    if not landed.succeeded or not eip3009.pays(landed.events, authorization):
        return Found(Fate.ELSEWHERE, "it was used to pay somebody else", transaction)
    return await by_this_signature(chain, authorization, transaction)


async def by_this_signature(chain: Chain, authorization: Authorization, transaction: str) -> Found:
    """Code may take several signatures of one nonce, and each is a payment of its own here: only the one that the
    token was given was paid. What called the token by way of another contract could show several at once; of a payer
    without code there is but one.
    """
    call = await chain.direct_call(transaction, authorization.asset.address)
    if call is None:
        if authorization.contract or await chain.has_code(authorization.payer):
            words = "it paid us by way of another contract: by which signature is not known"
            return Found(Fate.UNCLEAR, words, transaction)
    elif _spelt_once(eip3009.signature_in(call)) != (authorization.given or authorization.signature):
        return Found(Fate.ELSEWHERE, "it paid us under another signature", transaction)
    return Found(Fate.PAID, "it paid us", transaction)


def _spelt_once(signature: bytes | None) -> bytes | None:
    """As `Authorization.given` has it."""
    return with_v(signature) if signature is not None and len(signature) == SIGNATURE_BYTES else signature


async def _mention(chain: Chain, authorization: Authorization, last: int) -> Mention | None:
    window = WINDOW_BLOCKS
    for _ in range(WINDOWS_MAX):
        first = max(0, last - window + 1)
        try:
            mentions = await chain.mentions(authorization, first, last)
        except NodeError:
            if window == WINDOW_BLOCKS_MIN:
                raise
            window = max(WINDOW_BLOCKS_MIN, window // 4)
            continue
        if mentions:
            return mentions[-1]
        if first == 0 or (await chain.block(first)).timestamp <= authorization.valid_after:
            return None
        last = first - 1
    return None


async def _last_before(chain: Chain, timestamp: int, number: int) -> int:
    """The newest block older than `timestamp`; `number` is not."""
    low, high = 0, number
    while high - low > 1:
        middle = (low + high) // 2
        if (await chain.block(middle)).timestamp < timestamp:
            low = middle
        else:
            high = middle
    return low
