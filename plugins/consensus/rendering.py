"""Which wire an exchange's answer goes out by."""

from __future__ import annotations

from plugins.consensus.chat_wire import ChatWire
from plugins.consensus.orchestrate_wire import OrchestrateWire
from plugins.consensus.wires import Meta, Wire
from proxy.clock import Clock
from proxy.exchange import Exchange
from proxy.operations import ORCHESTRATE


def wire_of(exchange: Exchange, meta: Meta, clock: Clock) -> Wire:
    """One for each answer: a wire remembers what it has said."""
    return OrchestrateWire(meta, clock.now_ms) if exchange.operation is ORCHESTRATE else ChatWire(meta)
