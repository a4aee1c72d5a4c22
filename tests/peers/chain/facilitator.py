"""The x402 SDK's own facilitator behind HTTP, and the ways in which one can fail its merchants."""

from __future__ import annotations

import json
import threading
import warnings
from enum import Enum
from typing import TYPE_CHECKING, Any

from tests.peers.chain.serving import Peer, Reply, Seen

if TYPE_CHECKING:
    from tests.peers.chain.node import Chain


class Lapse(Enum):
    """What goes wrong with the next settlement."""

    HANGS_AFTER = "hangs_after"
    """Settles, and never answers."""
    CUTS_AFTER = "cuts_after"
    """Settles, and cuts the connection."""
    FAILS_AFTER = "fails_after"
    """Settles, and answers 502."""
    CUTS_BEFORE = "cuts_before"
    """Cuts the connection, having done nothing."""
    HANGS_BEFORE = "hangs_before"


class Facilitator(Peer):
    """/verify, /settle and /supported. `lapse` is used up by one settlement; `said` replaces what it answers."""

    def __init__(self, chain: Chain, *, factories: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.lapse: Lapse | None = None
        self.said: dict[str, tuple[int, Any]] = {}
        """Path -> status and document that are answered in place of the truth, nothing being done."""
        self.changed: dict[str, Any] = {}
        """Members of /settle's true answer that are replaced by these lies."""
        self.settled = 0
        """Times that a settlement was carried out."""
        self._lock = threading.Lock()
        self._facilitator = _facilitator(chain, factories)

    def answer(self, seen: Seen) -> Reply | None:
        if seen.path in self.said:
            status, document = self.said[seen.path]
            return Reply(json.dumps(document).encode(), status)
        if seen.path == "/supported":
            return _reply(self._facilitator.get_supported())
        payload, requirements = _parsed(json.loads(seen.body))
        if seen.path == "/verify":
            return _reply(self._facilitator.verify(payload, requirements))
        with self._lock:
            lapse, self.lapse = self.lapse, None
        if lapse is Lapse.HANGS_BEFORE:
            self.stopping.wait()
        if lapse in (Lapse.CUTS_BEFORE, Lapse.HANGS_BEFORE):
            return None
        result = self._facilitator.settle(payload, requirements)
        self.settled += 1
        if lapse is Lapse.HANGS_AFTER:
            self.stopping.wait()
        if lapse in (Lapse.HANGS_AFTER, Lapse.CUTS_AFTER):
            return None
        if lapse is Lapse.FAILS_AFTER:
            return Reply(b"bad gateway", 502)
        return _reply(result, self.changed)


def _reply(result: Any, changed: dict[str, Any] | None = None) -> Reply:
    document = result.model_dump(by_alias=True, exclude_none=True, mode="json") | (changed or {})
    return Reply(json.dumps(document).encode(), headers={"EXTENSION-RESPONSES": "e30="})


def _parsed(document: dict[str, Any]) -> tuple[Any, Any]:
    from x402.schemas import PaymentPayload, PaymentRequirements
    from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

    first = document["x402Version"] == 1
    payload = PaymentPayloadV1 if first else PaymentPayload
    requirements = PaymentRequirementsV1 if first else PaymentRequirements
    return (
        payload.model_validate(document["paymentPayload"]),
        requirements.model_validate(document["paymentRequirements"]),
    )


def _facilitator(chain: Chain, factories: tuple[str, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What the SDK's own imports are told off for is not ours.
        from x402 import x402FacilitatorSync
        from x402.mechanisms.evm import FacilitatorWeb3Signer
        from x402.mechanisms.evm.exact import register_exact_evm_facilitator

        signer = FacilitatorWeb3Signer("0x" + chain.facilitator.key.hex(), chain.url)
        return register_exact_evm_facilitator(
            x402FacilitatorSync(), signer, chain.network, eip6492_allowed_factories=list(factories)
        )
