"""The machine: listeners, chain, upstreams, ledger. It knows no plugin by name."""

__version__ = "0.4.0"
