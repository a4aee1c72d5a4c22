"""Settling by a facilitator: a service that verifies authorizations and has the transactions made.

Its word is taken where it is whole and agrees with what was asked; where a node of the network is configured, the
chain's is taken instead. Whatever may have been carried out and is not told so clearly is Doubtful.

Without a node nothing can be found out later: to ask a facilitator to settle again, and to hear that the nonce is
used, says nothing about who was paid. Such a payment stays unknown until the operator decides, or a node is configured.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from proxy.egress import Answer, Egress, EgressFailure
from proxy.payments.api import Declined, Doubtful, Outcome
from proxy.payments.settings import X402
from proxy.payments.x402 import eip3009
from proxy.payments.x402.asked_on_chain import AskedOnChain
from proxy.payments.x402.chain import Chain
from proxy.payments.x402.fates import Fate, by_this_signature, fate_of
from proxy.payments.x402.onchain import OnChain
from proxy.payments.x402.outcomes import declined, outcome_of, settled, unavailable
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.responses import INVALID_SIGNATURE, NONCE_USED, plain
from proxy.payments.x402.rpc import NodeError, NodeFailure

ANSWER_BYTES_MAX: Final = 1 << 18
SUPPORTED_SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.25
EXTENSION_CHARACTERS_MAX: Final = 1_024
"""Of its EXTENSION-RESPONSES header that are logged."""
_NOT_DONE: Final = frozenset({400, 401, 403, 404, 405, 413, 415, 429})
"""Statuses of a request that was refused before anything was done for it."""
_AT_FAULT: Final = "invalid_"
"""So the specification's reasons begin that lie in the payment itself."""
_CLEAR: Final = frozenset({
    "asset_not_deployed_contract", "eip6492_factory_not_allowed", "insufficient_funds", "missing_eip712_domain",
    "network_mismatch", "smart_wallet_deployment_failed", "unsupported_scheme",
})  # fmt: skip
"""The other reasons by which nothing was sent. Any that is not known may be their own node's failure after that."""
_UNCLEAR: Final = frozenset({NONCE_USED, "invalid_transaction_state", "invalid_exact_evm_transfer_event_mismatch"})
"""Was sent, or was used since /verify: by whoever saw it, and then it has paid us all the same."""
_TRANSACTION: Final = re.compile(r"0x[0-9a-fA-F]{64}")


class FacilitatorSettler(AskedOnChain):
    """Asks /verify, then /settle."""

    def __init__(self, settings: X402, onchain: OnChain, log: Any) -> None:
        super().__init__(settings, onchain, log)
        self._egress: Egress | None = None

    async def start(self) -> None:
        """See `Settler`. What the facilitator does not support is logged: it may be a matter of an hour."""
        self._egress = Egress(
            self._settings.facilitator or "",
            private=self._settings.development,
            timeout_seconds=self._settings.settle_seconds,
            headers=dict(self._settings.facilitator_headers),
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        await self._onchain.start()
        for network in sorted({asset.network for asset in self._settings.assets} - self._settings.rpc.keys()):
            self._log.warning("x402_no_node", network=network, meaning="payments left unclear stay so: set x402.rpc")
        await self._ask_supported(self._egress)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._egress is not None:
            await self._egress.aclose()
        await super().aclose()

    async def settle(self, authorization: Authorization, requirements: dict[str, Any]) -> Outcome:
        """See `Settler`."""
        if self._egress is None:
            return unavailable("not started")
        deadline = asyncio.get_running_loop().time() + self._settings.settle_seconds
        asked = {
            "x402Version": authorization.version,
            "paymentPayload": authorization.payload,
            "paymentRequirements": requirements,
        }
        refused = await self._refused(self._egress, authorization, asked)
        if refused is not None:
            return refused
        try:
            answer = await self._post(self._egress, "/settle", asked)
        except EgressFailure as failure:
            if not failure.sent:
                return self._unavailable(failure.detail)
            return await self._looked_up(authorization, f"/settle: {failure.detail}", deadline)
        return await self._judged(answer, authorization, requirements, deadline)

    async def _refused(self, egress: Egress, authorization: Authorization, asked: dict[str, Any]) -> Declined | None:
        """What /verify says against it: nothing has been done by then, whatever goes wrong."""
        try:
            answer = await self._post(egress, "/verify", asked)
            said = answer.json()
        except EgressFailure as failure:
            return self._unavailable(f"/verify: {failure.detail}")
        if not isinstance(said, dict) or not isinstance(said.get("isValid"), bool):
            return self._unavailable(f"/verify answered status {answer.status} without a verdict")
        if not said["isValid"]:
            return declined(plain(str(said.get("invalidReason") or INVALID_SIGNATURE)))
        if not _same(said.get("payer"), authorization.payer):
            return self._unavailable("/verify speaks of another payer")
        return None

    async def _judged(
        self, answer: Answer, authorization: Authorization, requirements: dict[str, Any], deadline: float
    ) -> Outcome:
        try:
            said = answer.json()
        except EgressFailure:
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("success"), bool) or answer.status >= 500:
            if answer.status in _NOT_DONE:
                return self._unavailable(f"/settle was refused with status {answer.status}")
            return await self._looked_up(authorization, f"/settle answered status {answer.status}", deadline)
        transaction = str(said.get("transaction") or "")
        if not said["success"]:
            reason = plain(str(said.get("errorReason") or ""))
            if transaction or not _nothing_sent(reason):
                return await self._looked_up(authorization, f"/settle: {reason} {transaction}", deadline)
            return declined(reason)
        if (lie := _contradiction(said, authorization, requirements)) is not None:
            self._log.error("x402_facilitator_contradicts", about=lie)
            return await self._looked_up(authorization, f"/settle contradicts what was asked: {lie}", deadline)
        chain = self._onchain.of(authorization.asset.network)
        if chain is None:
            return settled(authorization, transaction.lower())
        return await self._confirmed(chain, authorization, transaction.lower(), deadline)

    async def _confirmed(
        self, chain: Chain, authorization: Authorization, transaction: str, deadline: float
    ) -> Outcome:
        """What the facilitator said, seen on chain with its confirmations."""
        trouble = "it is in no block yet"
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        if (outcome := await self._seen(chain, authorization, transaction)) is not None:
                            return outcome
                    except (NodeError, NodeFailure) as error:
                        trouble = str(error)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return Doubtful(f"{transaction}, as the facilitator says: {trouble}")

    async def _seen(self, chain: Chain, authorization: Authorization, transaction: str) -> Outcome | None:
        """What the chain says of the transaction that the facilitator named; None: it is not final yet."""
        await chain.check()
        landed = await chain.confirmed(transaction)
        if landed is None:
            return None
        if not landed.succeeded or not eip3009.pays(landed.events, authorization):
            self._log.error("x402_facilitator_contradicts", about=transaction)
            return outcome_of(await fate_of(chain, authorization), authorization)
        found = await by_this_signature(chain, authorization, transaction)
        if found.fate is Fate.ELSEWHERE:
            return outcome_of(found, authorization)
        return settled(authorization, transaction)

    async def _looked_up(self, authorization: Authorization, words: str, deadline: float) -> Outcome:
        """What became of it, as far as a node tells at once. Without one it is not known."""
        self._log.warning("x402_facilitator_unclear", about=words)
        if self._onchain.of(authorization.asset.network) is None:
            return Doubtful(words)
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await self._onchain.outcome(authorization)
        except TimeoutError:
            return Doubtful(words)
        return Doubtful(f"{words}; {outcome.reason}") if isinstance(outcome, Doubtful) else outcome

    async def _ask_supported(self, egress: Egress) -> None:
        try:
            async with asyncio.timeout(SUPPORTED_SECONDS_MAX):
                said = (await egress.request("GET", "/supported")).json()
        except (EgressFailure, TimeoutError) as failure:
            self._log.warning("x402_facilitator_unusable", error=str(failure) or "no answer in time")
            return
        kinds = said.get("kinds") if isinstance(said, dict) else None
        found = {
            (kind.get("scheme"), kind.get("network"))
            for kind in (kinds if isinstance(kinds, list) else [])
            if isinstance(kind, dict) and kind.get("x402Version") == 2
        }
        for network in sorted({asset.network for asset in self._settings.assets}):
            if ("exact", network) not in found:
                self._log.warning("x402_facilitator_lacks", network=network, scheme="exact")

    async def _post(self, egress: Egress, path: str, asked: dict[str, Any]) -> Answer:
        answer = await egress.request("POST", path, json=asked)
        if (extensions := answer.headers.get("extension-responses")) is not None:
            self._log.info("x402_extension_responses", path=path, said=extensions[:EXTENSION_CHARACTERS_MAX])
        return answer

    def _unavailable(self, words: str) -> Declined:
        self._log.warning("x402_not_settled", error=words)
        return unavailable(words)


def _nothing_sent(reason: str) -> bool:
    return reason in _CLEAR or (reason.startswith(_AT_FAULT) and reason not in _UNCLEAR)


def _contradiction(said: dict[str, Any], authorization: Authorization, requirements: dict[str, Any]) -> str | None:
    """What in a success does not agree with what was asked for."""
    if _TRANSACTION.fullmatch(str(said.get("transaction") or "")) is None:
        return "no transaction is named"
    if said.get("network") != requirements.get("network"):
        return "another network"
    if not _same(said.get("payer"), authorization.payer):
        return "another payer"
    if said.get("amount") is not None and str(said["amount"]) != str(authorization.value):
        return "another amount"
    return None


def _same(payer: Any, ours: str) -> bool:
    """Facilitators may leave the payer out."""
    return payer is None or str(payer).lower() == ours.lower()
