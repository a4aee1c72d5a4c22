"""The networks that we look at ourselves: one node each, and what every way of settling asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from proxy.egress import Egress
from proxy.payments.api import Declined, Doubtful, Outcome
from proxy.payments.settings import X402
from proxy.payments.x402 import wallets
from proxy.payments.x402.chain import Chain
from proxy.payments.x402.fates import fate_of
from proxy.payments.x402.outcomes import FACTORY, UNDEPLOYED, declined, outcome_of
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.responses import INVALID_SIGNATURE
from proxy.payments.x402.rpc import ANSWER_BYTES_MAX, JsonRpc, NodeError, NodeFailure
from proxy.payments.x402.typed_data import SIGNATURE_BYTES

CALL_SECONDS_MAX: Final = 10.0
"""For one call to a node, within the `settle_seconds` of all of it."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A payer's signature that is valid, as its token is to be given it."""

    value: bytes
    factory: str = ""
    """Of a wallet that must be deployed first, by calling it with `factory_call`; "": nothing to deploy."""
    factory_call: bytes = b""


class OnChain:
    """Chains by network. Empty where no node is configured."""

    def __init__(self, settings: X402, log: Any) -> None:
        self._settings = settings
        self._log = log
        self._chains: dict[str, Chain] = {}

    async def start(self) -> None:
        """Open them; a node that cannot be asked, or is on another network, is logged and asked again in use."""
        for network, url in self._settings.rpc.items():
            node = JsonRpc(self._egress(url))
            chain = self._chains[network] = Chain(node, network, confirmations=self._settings.confirmations)
            try:
                await chain.check()
            except (NodeError, NodeFailure) as error:
                self._log.warning("x402_node_unusable", network=network, error=str(error))

    async def aclose(self) -> None:
        """Close their connections."""
        for chain in self._chains.values():
            await chain.node.aclose()
        self._chains.clear()

    def of(self, network: str) -> Chain | None:
        """None where no node of this network is configured."""
        return self._chains.get(network)

    def _egress(self, url: str) -> Egress:
        return Egress(
            url,
            private=self._settings.development,
            timeout_seconds=min(CALL_SECONDS_MAX, self._settings.settle_seconds),
            answer_bytes_max=ANSWER_BYTES_MAX,
        )

    async def outcome(self, authorization: Authorization) -> Outcome:
        """What became of it, as far as a node tells."""
        chain = self.of(authorization.asset.network)
        if chain is None:
            return Doubtful(f"no node of {authorization.asset.network} is configured (x402.rpc): look for yourself")
        try:
            return outcome_of(await fate_of(chain, authorization), authorization)
        except (NodeError, NodeFailure) as error:
            return Doubtful(f"the node could not be asked: {error}")

    async def verify_contract_wallet(self, authorization: Authorization) -> bool | None:
        """Whether the payer's code takes the signature; None where nobody can be asked."""
        chain = self.of(authorization.asset.network)
        if chain is None:
            return None
        try:
            await chain.check()
            return isinstance(await self.signature(chain, authorization), Signature)
        except (NodeError, NodeFailure) as error:
            self._log.warning("x402_wallet_not_asked", network=chain.network, error=str(error))
            return None

    async def wallet_says(self, authorization: Authorization, digest: bytes, signature: bytes) -> bool | None:
        """Whether the payer's deployed code takes a signature of something else; None where nobody can be asked."""
        chain = self.of(authorization.asset.network)
        if chain is None:
            return None
        try:
            await chain.check()
            return await self._deployed_says(chain, authorization.payer, digest, signature)
        except (NodeError, NodeFailure) as error:
            self._log.warning("x402_wallet_not_asked", network=chain.network, error=str(error))
            return None

    async def signature(self, chain: Chain, authorization: Authorization) -> Signature | Declined:
        """Judge the payer's signature by the payer's code. Raises NodeError and NodeFailure.

        Without code it is the key's, which was verified before, unless it is a wrapped one of a wallet that an allowed
        factory deploys: then the deployment is tried without being made, and the wallet it makes is asked.
        """
        has_code = await chain.has_code(authorization.payer)
        if not has_code and not authorization.contract:
            return Signature(authorization.signature)
        signature = wallets.unwrapped(authorization.signature)
        if signature is None:
            return declined(INVALID_SIGNATURE)
        if has_code:
            valid = await self._deployed_says(chain, authorization.payer, authorization.signed, signature.inner)
            return Signature(signature.inner) if valid else declined(INVALID_SIGNATURE)
        if not signature.factory:
            plain = len(signature.inner) == SIGNATURE_BYTES
            return declined(INVALID_SIGNATURE if plain else UNDEPLOYED)
        if signature.factory not in self._settings.factories:
            return declined(FACTORY)
        question = wallets.is_valid_call(authorization.signed, signature.inner)
        calls = ((signature.factory, signature.factory_call), (authorization.payer, question))
        answers = wallets.results(await chain.read(wallets.MULTICALL, wallets.together(*calls)), len(calls))
        good, returned = answers[1]
        if not good or not wallets.says_valid(returned):
            return declined(INVALID_SIGNATURE)
        return Signature(signature.inner, signature.factory, signature.factory_call)

    @staticmethod
    async def _deployed_says(chain: Chain, wallet: str, digest: bytes, signature: bytes) -> bool:
        try:
            return wallets.says_valid(await chain.read(wallet, wallets.is_valid_call(digest, signature)))
        except NodeError as error:
            if not error.reverted:
                raise
            return False
