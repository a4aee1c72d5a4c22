"""A facilitator without a chain: it believes every signature, and moves the dollars of each authorization once."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.peers.chain.serving import Peer, Reply, Seen
from tests.support.x402 import USDC


class TrustingFacilitator(Peer):
    """/supported, /verify and /settle in the shapes of x402 version 2."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: dict[str, int] = {}
        """Nonce -> what it moved."""
        self.refused = ""
        """The reason for which the next settlement is refused."""
        self.gate = threading.Event()
        """Settlements wait for it before they are carried out."""
        self.gate.set()
        self.asked = 0
        """Settlements asked for."""
        self._lock = threading.Lock()

    def answer(self, seen: Seen) -> Reply:
        """As the path says."""
        if seen.path == "/supported":
            return _reply({"kinds": [{"x402Version": 2, "scheme": "exact", "network": USDC.network}]})
        authorization = json.loads(seen.body)["paymentPayload"]["payload"]["authorization"]
        if seen.path == "/verify":
            return _reply({"isValid": True, "payer": authorization["from"]})
        return _reply(self._settled(authorization))

    def _settled(self, authorization: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.asked += 1
            reason, self.refused = self.refused, ""
        self.gate.wait(30)
        nonce, payer = authorization["nonce"], authorization["from"]
        with self._lock:
            reason = reason or ("invalid_exact_evm_nonce_already_used" if nonce in self.moved else "")
            if not reason:
                self.moved[nonce] = int(authorization["value"])
        told = {"network": USDC.network, "payer": payer}
        if reason:
            return {"success": False, "errorReason": reason, "transaction": "", **told}
        return {"success": True, "transaction": nonce, **told}


def _reply(document: dict[str, Any]) -> Reply:
    return Reply(json.dumps(document).encode())
