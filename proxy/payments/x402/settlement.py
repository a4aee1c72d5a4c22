"""How authorizations become money: the contract, and the builder that chooses by the settings."""

from __future__ import annotations

from typing import Any, Protocol

from proxy.clock import Clock
from proxy.payments.api import Outcome
from proxy.payments.settings import X402
from proxy.payments.x402.payload import Authorization


class Settler(Protocol):
    """Asks outside for the money of authorizations that were found in order here.

    Nothing raises but CancelledError. Declined means that nothing was taken; whatever may have been carried out is
    Doubtful.
    """

    async def start(self) -> None:
        """In the running loop, before anything else. Counterparts that cannot be reached are logged."""
        ...

    async def aclose(self) -> None: ...

    async def settle(self, authorization: Authorization, requirements: dict[str, Any]) -> Outcome:
        """Take the money. `requirements`: what is sent to a facilitator, its amount being the signed one."""
        ...

    async def verify_contract_wallet(self, authorization: Authorization) -> bool | None:
        """Whether the payer's code takes the signature, or will once it is deployed; None: nobody could be asked."""
        ...

    async def wallet_says(self, authorization: Authorization, digest: bytes, signature: bytes) -> bool | None:
        """Whether the payer's code takes this signature of another text's digest; None: nobody could be asked."""
        ...

    async def reconcile(self, authorization: Authorization) -> Outcome:
        """What became of it, from itself alone. Doubtful: ask again."""
        ...


def build_settler(settings: X402, clock: Clock, log: Any) -> Settler:
    """A facilitator where one is named, else our own signer; either looks on chain where a node is named."""
    from proxy.payments.x402.facilitator import FacilitatorSettler
    from proxy.payments.x402.onchain import OnChain
    from proxy.payments.x402.rpc_settler import RpcSettler

    onchain = OnChain(settings, log)
    if settings.facilitator is not None:
        return FacilitatorSettler(settings, onchain, log)
    return RpcSettler(settings, onchain, log)
