"""The loop on virtual time, which the bench has, too."""

from __future__ import annotations

from bench.consensus.virtual_time import NothingWillHappen, VirtualLoop, run

__all__ = ["NothingWillHappen", "VirtualLoop", "run"]
