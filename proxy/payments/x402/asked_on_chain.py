"""What every settler asks the chain itself, whoever carries the payment out."""

from __future__ import annotations

from typing import Any

from proxy.payments.api import Outcome
from proxy.payments.settings import X402
from proxy.payments.x402.onchain import OnChain
from proxy.payments.x402.payload import Authorization


class AskedOnChain:
    """Base of both settlers; see `Settler` for what the methods promise."""

    def __init__(self, settings: X402, onchain: OnChain, log: Any) -> None:
        self._settings = settings
        self._onchain = onchain
        self._log = log

    async def aclose(self) -> None:
        """Close what asks the nodes."""
        await self._onchain.aclose()

    async def verify_contract_wallet(self, authorization: Authorization) -> bool | None:
        """See `Settler`."""
        return await self._onchain.verify_contract_wallet(authorization)

    async def wallet_says(self, authorization: Authorization, digest: bytes, signature: bytes) -> bool | None:
        """See `Settler`."""
        return await self._onchain.wallet_says(authorization, digest, signature)

    async def reconcile(self, authorization: Authorization) -> Outcome:
        """See `Settler`."""
        return await self._onchain.outcome(authorization)
