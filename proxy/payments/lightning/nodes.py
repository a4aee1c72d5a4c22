"""The one place that knows which backends there are."""

from __future__ import annotations

from pathlib import Path

from proxy.clock import Clock
from proxy.payments.keys import DerivedKeys
from proxy.payments.lightning.api import Node
from proxy.payments.lightning.reading import CheckedNode
from proxy.payments.settings import Lightning


class NodeMisconfigured(ValueError):
    """The settings of the node cannot work; the message says what to change, and repeats no credential."""


def build_node(settings: Lightning, keys: DerivedKeys, state: Path, clock: Clock) -> Node:
    """The configured backend, its answers checked. Asks nobody yet. Raises NodeMisconfigured."""
    try:
        return CheckedNode(_backend(settings, keys, state, clock), clock)
    except (ValueError, OSError) as error:
        raise NodeMisconfigured(f"payments.lightning: {error}") from error


def _backend(settings: Lightning, keys: DerivedKeys, state: Path, clock: Clock) -> Node:
    match settings.backend:
        case "lnd":
            from proxy.payments.lightning.lnd import LndNode

            return LndNode(settings)
        case "cln":
            from proxy.payments.lightning.cln import ClnNode

            return ClnNode(settings)
        case "lnbits":
            from proxy.payments.lightning.lnbits import LnbitsNode

            return LnbitsNode(settings)
        case "phoenixd":
            from proxy.payments.lightning.phoenixd import PhoenixdNode

            return PhoenixdNode(settings)
        case "nwc":
            from proxy.payments.lightning.nwc import NwcNode

            return NwcNode(settings, clock)
        case "dev":
            from proxy.payments.lightning.dev import DevNode

            return DevNode(settings, keys, state, clock)
    raise ValueError(f"there is no backend '{settings.backend}'")
