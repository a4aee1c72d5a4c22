"""Our own account on one network: transactions signed, bounded and numbered.

Transactions of an account are numbered. Within a process one at a time takes its number and is handed to the node,
under a lock; between two processes with the same key the node decides: it refuses the later of two transactions of one
number, and that one takes the next. Should it yet replace the earlier one (a node does so for a clearly higher fee),
`lost` tells by the number being used up while the transaction is in no block: it can never land, and may be sent anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.payments.x402 import rpc
from proxy.payments.x402.chain import Chain
from proxy.payments.x402.rpc import NodeError, NodeFailure
from proxy.payments.x402.typed_data import checksummed

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

NUMBER_TRIES_MAX: Final = 8
OWN_COUNT_SECONDS: Final = 60.0
"""So long our own count of transactions is believed over a node's that lags behind; a dropped one leaves no gap for
longer."""
TIP_WEI_DEFAULT: Final = 1_000_000
"""A gas, where a node does not suggest one."""
_KNOWN: Final = ("already known", "alreadyknown", "already imported", "known transaction")
_NUMBER_TAKEN: Final = ("nonce too low", "nonce is too low", "oldnonce", "replacement", "already exists")
_REFUSED: Final = (
    "insufficient funds", "insufficientfunds", "intrinsic gas", "gas limit", "underpriced", "fee cap", "fee per gas",
    "feetoolow", "exceeds the configured cap", "pool is full", "invalid sender", "chain id", "chainid",
)  # fmt: skip
"""Words of geth, reth, erigon, nethermind and anvil for a transaction that they did not take."""


class NotSent(Exception):
    """No node has the transaction, nor will have it. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that a node may have."""

    transaction: str
    number: int
    """Its nonce."""
    certain: bool
    """The node said that it has it."""


@dataclass(slots=True)
class _Count:
    """Our own count of transactions."""

    next: int = 0
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Signer:
    """`gas_max` bounds a transaction's gas, `fee_wei_max` what is paid for one gas: a node's word cannot cost more."""

    def __init__(self, account: LocalAccount, chain: Chain, *, gas_max: int, fee_wei_max: int) -> None:
        self._account = account
        self._chain = chain
        self._gas_max = gas_max
        self._fee_wei_max = fee_wei_max
        self._count = _Count()
        self.address = str(account.address)

    async def send(self, to: str, call: bytes, *, gas: int, deadline: float) -> Sent:
        """Sign a call and hand it to the node. Raises NotSent; what comes back may or may not land.

        Until `deadline` (of the loop's clock) it waits for its turn; the handing over itself is never given up.
        """
        if gas > self._gas_max:
            raise NotSent(f"it would use {gas} gas, and x402.gas_max is {self._gas_max}")
        try:
            async with asyncio.timeout_at(deadline):
                fees = await self._fees()
                await self._count.lock.acquire()
        except TimeoutError as error:
            raise NotSent("the node did not answer in time") from error
        except (NodeError, NodeFailure) as error:
            raise NotSent(str(error)) from error
        try:
            return await self._numbered(to, call, gas, fees, deadline)
        finally:
            self._count.lock.release()

    async def lost(self, sent: Sent) -> bool:
        """Whether another transaction took its number. Raises NodeError and NodeFailure.

        True only where it is in no block although its number is used up.
        """
        used = rpc.quantity(await self._chain.node.call("eth_getTransactionCount", self.address, "latest"))
        return used > sent.number and await self._chain.landed(sent.transaction) is None

    async def _numbered(self, to: str, call: bytes, gas: int, fees: dict[str, int], deadline: float) -> Sent:
        least = 0
        for _ in range(NUMBER_TRIES_MAX):
            try:
                async with asyncio.timeout_at(deadline):
                    number = max(least, await self._next())
            except TimeoutError as error:
                raise NotSent("the node did not answer in time") from error
            except (NodeError, NodeFailure) as error:
                raise NotSent(str(error)) from error
            fields = {
                "to": checksummed(to),
                "data": call,
                "gas": gas,
                "nonce": number,
                "value": 0,
                "chainId": self._chain.id,
                **fees,
            }
            sent = await self._handed_over(fields)
            if sent is not None:
                return sent
            least = number + 1
        raise NotSent("other transactions of the same account took every number")

    async def _handed_over(self, fields: dict[str, Any]) -> Sent | None:
        """None: its number was taken."""
        signed = await asyncio.to_thread(self._account.sign_transaction, fields)
        transaction, number = "0x" + signed.hash.hex().removeprefix("0x"), fields["nonce"]
        raw = "0x" + signed.raw_transaction.hex().removeprefix("0x")
        try:
            await self._chain.node.call("eth_sendRawTransaction", raw)
        except NodeFailure as failure:
            if not failure.sent:
                raise NotSent(failure.detail) from failure
            return Sent(transaction, number, certain=False)
        except NodeError as error:
            said = error.message.lower()
            if any(words in said for words in _NUMBER_TAKEN):
                return None
            if not any(words in said for words in _KNOWN):
                if any(words in said for words in _REFUSED):
                    raise NotSent(str(error)) from error
                return Sent(transaction, number, certain=False)
        self._count.next = number + 1
        self._count.until = asyncio.get_running_loop().time() + OWN_COUNT_SECONDS
        return Sent(transaction, number, certain=True)

    async def _next(self) -> int:
        pending = rpc.quantity(await self._chain.node.call("eth_getTransactionCount", self.address, "pending"))
        believed = asyncio.get_running_loop().time() < self._count.until
        return max(pending, self._count.next) if believed else pending

    async def _fees(self) -> dict[str, int]:
        """Twice the base fee, so that a few full blocks do not matter, and the tip that the node suggests."""
        base = (await self._chain.block()).base_fee
        try:
            tip = rpc.quantity(await self._chain.node.call("eth_maxPriorityFeePerGas"))
        except NodeError:
            tip = TIP_WEI_DEFAULT
        if base + tip > self._fee_wei_max:
            raise NotSent(f"the network asks {base + tip} wei a gas, and x402.fee_gwei_max allows {self._fee_wei_max}")
        return {"maxFeePerGas": min(2 * base + tip, self._fee_wei_max), "maxPriorityFeePerGas": tip}
