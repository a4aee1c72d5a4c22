"""Settling in process: our own signer hands the payer's authorization to the token, and waits until it is final.

Everything that can be asked is asked first, and what fails there is declined: nothing was sent. From the moment the
transaction is handed to a node, only the chain says what came of it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakValueDictionary

from proxy.payments.api import Declined, Doubtful, Outcome
from proxy.payments.settings import X402
from proxy.payments.x402 import eip3009, wallets
from proxy.payments.x402.asked_on_chain import AskedOnChain
from proxy.payments.x402.chain import Chain, Landed
from proxy.payments.x402.fates import fate_of
from proxy.payments.x402.onchain import OnChain, Signature
from proxy.payments.x402.outcomes import (
    BALANCE,
    NO_CONTRACT,
    declined,
    outcome_of,
    reverted,
    settled,
    unavailable,
)
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.responses import NONCE_USED, TRANSACTION_FAILED
from proxy.payments.x402.reverts import Reverts
from proxy.payments.x402.rpc import NodeError, NodeFailure
from proxy.payments.x402.signer import NotSent, Sent, Signer

BROADCASTS_MAX: Final = 3
"""Of one settlement: anew only where the one before can never land."""
POLL_SECONDS: Final = 0.1
POLL_SECONDS_MAX: Final = 1.0
GAS_MARGIN_PERCENT: Final = 25
"""On top of the estimate: storage that another payment changes meanwhile may cost more."""


class RpcSettler(AskedOnChain):
    """Pays the gas with `signer_key`. One settlement of a nonce at a time in this process."""

    def __init__(self, settings: X402, onchain: OnChain, log: Any) -> None:
        super().__init__(settings, onchain, log)
        self._signers: dict[str, Signer] = {}
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._reverts = Reverts()

    async def start(self) -> None:
        """Raises ValueError for a key that is none."""
        from eth_account import Account

        try:
            account = Account.from_key(self._settings.signer_key)
        except ValueError:
            raise ValueError("x402.signer_key is not a private key: 32 bytes in hex") from None
        await self._onchain.start()
        bounds = {"gas_max": self._settings.gas_max, "fee_wei_max": self._settings.fee_wei_max}
        for network in self._settings.rpc:
            if (chain := self._onchain.of(network)) is not None:
                self._signers[network] = Signer(account, chain, **bounds)

    async def settle(self, authorization: Authorization, requirements: dict[str, Any]) -> Outcome:
        """See `Settler`. `requirements` are not looked at: what the payer signed says it all."""
        network = authorization.asset.network
        chain, signer = self._onchain.of(network), self._signers.get(network)
        if chain is None or signer is None:
            return unavailable(f"no node of {network} is configured")
        deadline = asyncio.get_running_loop().time() + self._settings.settle_seconds
        nonce = f"{network}:{authorization.asset.address}:{authorization.payer}:{authorization.nonce.hex()}"
        lock = self._under_way.setdefault(nonce, asyncio.Lock())
        try:
            async with asyncio.timeout_at(deadline):
                await lock.acquire()
        except TimeoutError:
            return unavailable("another settlement of the same nonce does not end")
        try:
            outcome = await self._settle(chain, signer, authorization, deadline)
        finally:
            lock.release()
        if not isinstance(outcome, Declined):
            self._log.info("x402_settlement", network=network, outcome=_words(outcome))
        return outcome

    async def _settle(self, chain: Chain, signer: Signer, authorization: Authorization, deadline: float) -> Outcome:
        try:
            signature = await self._checked(chain, authorization, deadline)
            if isinstance(signature, Signature) and signature.factory:
                signature = await self._deployed(chain, signer, authorization, signature, deadline)
            if isinstance(signature, Declined):
                return signature
            call = eip3009.transfer_call(authorization, signature.value)
            gas = await self._simulated(chain, signer, authorization, call, deadline)
            if isinstance(gas, Declined):
                return gas
        except TimeoutError:
            return self._unavailable(chain, "the node did not answer in time")
        except (NodeError, NodeFailure, NotSent) as error:
            return self._unavailable(chain, str(error))
        return await self._carried_out(chain, signer, authorization, call, gas, deadline)

    async def _checked(self, chain: Chain, authorization: Authorization, deadline: float) -> Signature | Declined:
        """What can be read: the token is one, the nonce unused, the balance enough, the signature the payer's."""
        if self._reverts.too_many(authorization.payer, asyncio.get_running_loop().time()):
            return declined(TRANSACTION_FAILED)
        async with asyncio.timeout_at(deadline):
            await chain.check()
            if not await chain.is_token(authorization.asset.address):
                return declined(NO_CONTRACT)
            used, balance = await asyncio.gather(chain.used(authorization), chain.balance(authorization))
            if used:
                return declined(NONCE_USED)
            if balance < authorization.value:
                return declined(BALANCE)
            return await self._onchain.signature(chain, authorization)

    async def _simulated(
        self, chain: Chain, signer: Signer, authorization: Authorization, call: bytes, deadline: float
    ) -> int | Declined:
        """Try the transfer without making it: the gas that it may use, or why the token refuses."""
        try:
            async with asyncio.timeout_at(deadline):
                gas = await chain.gas(signer.address, authorization.asset.address, call)
        except NodeError as error:
            if not error.reverted:
                raise
            return declined(eip3009.reason_of(error.message, error.data) or TRANSACTION_FAILED)
        return gas + gas * GAS_MARGIN_PERCENT // 100

    async def _deployed(
        self, chain: Chain, signer: Signer, authorization: Authorization, signature: Signature, deadline: float
    ) -> Signature | Declined:
        """Have the payer's wallet deployed by its factory, which is one of the operator's list, where the transfer
        would go through behind it. A deployment moves no money: whatever comes of it, nothing was taken.
        """
        calls = (
            (signature.factory, signature.factory_call),
            (authorization.asset.address, eip3009.transfer_call(authorization, signature.value)),
        )
        async with asyncio.timeout_at(deadline):
            answers = wallets.results(await chain.read(wallets.MULTICALL, wallets.together(*calls)), len(calls))
            good, returned = answers[1]
            if not good:
                return declined(eip3009.reason_of("", returned) or TRANSACTION_FAILED)
            gas = await chain.gas(signer.address, signature.factory, signature.factory_call)
        gas += gas * GAS_MARGIN_PERCENT // 100
        sent = await signer.send(signature.factory, signature.factory_call, gas=gas, deadline=deadline)
        self._log.info("x402_wallet_deployment", network=chain.network, transaction=sent.transaction)
        async with asyncio.timeout_at(deadline):
            while not await chain.has_code(authorization.payer):  # noqa: ASYNC110 -- only asking tells
                await asyncio.sleep(POLL_SECONDS)
            return await self._onchain.signature(chain, authorization)

    async def _carried_out(
        self, chain: Chain, signer: Signer, authorization: Authorization, call: bytes, gas: int, deadline: float
    ) -> Outcome:
        sent: Sent | None = None
        for _ in range(BROADCASTS_MAX):
            try:
                sent = await signer.send(authorization.asset.address, call, gas=gas, deadline=deadline)
            except NotSent as error:
                if sent is None:
                    return self._unavailable(chain, str(error))
                return Doubtful(f"{sent.transaction} was replaced; then: {error}")
            outcome = await self._landed(chain, signer, sent, authorization, deadline)
            if outcome is not None:
                return outcome
        return Doubtful("other transactions of the signer took the place of each that was sent")

    async def _landed(
        self, chain: Chain, signer: Signer, sent: Sent, authorization: Authorization, deadline: float
    ) -> Outcome | None:
        """What the chain says of our transaction; None: it never can land, and nothing used the nonce."""
        pause, trouble = POLL_SECONDS, "it is in no block yet" if sent.certain else "the node may not have it"
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        landed = await chain.confirmed(sent.transaction)
                        if landed is not None:
                            return await self._judged(chain, landed, authorization)
                        if await signer.lost(sent):
                            return await self._without_us(chain, authorization)
                    except (NodeError, NodeFailure) as error:
                        trouble = str(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, POLL_SECONDS_MAX)
        except TimeoutError:
            return Doubtful(f"{sent.transaction}: {trouble}")

    async def _judged(self, chain: Chain, landed: Landed, authorization: Authorization) -> Outcome:
        if not landed.succeeded:
            self._reverts.note(authorization.payer, asyncio.get_running_loop().time())
            return reverted(await fate_of(chain, authorization), authorization)
        if not eip3009.pays(landed.events, authorization):
            return Doubtful(f"{landed.transaction} succeeded without paying us: is the token one?")
        return settled(authorization, landed.transaction)

    @staticmethod
    async def _without_us(chain: Chain, authorization: Authorization) -> Outcome | None:
        """Our transaction was replaced: None where it is to be sent anew."""
        if not await chain.used(authorization):
            return None
        return outcome_of(await fate_of(chain, authorization), authorization)

    def _unavailable(self, chain: Chain, words: str) -> Declined:
        self._log.warning("x402_not_settled", network=chain.network, error=words)
        return unavailable(words)


def _words(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, Doubtful | Declined) else f"settled by {outcome.receipt.reference}"
