"""Contract ABI, over eth_abi: what strangers wrote is read, or found to be something else, and never raises."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

__all__ = ["decoded", "encode", "selector"]


def selector(signature: str) -> bytes:
    """The first four bytes of a call of this function."""
    return keccak(signature.encode())[:4]


def decoded(types: tuple[str, ...], data: bytes) -> tuple[Any, ...] | None:
    """The values of these types; None where `data` is something else."""
    try:
        return decode(types, data)
    except (DecodingError, OverflowError):  # The latter for lengths past what a machine can count.
        return None
