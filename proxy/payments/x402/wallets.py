"""Payers that are contracts: whose signature is valid where their code says so (EIP-1271), code that may not be there
yet (ERC-6492).

Where there is code, it alone decides: no key's signature stands in for it. A wallet that is not deployed is only
taken where the factory in its signature is one that the operator trusts, for we are to call it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.payments.x402.abi import decoded, encode, selector
from proxy.payments.x402.rpc import NodeFailure

VALID: Final = bytes.fromhex("1626ba7e")
"""What EIP-1271 has `isValidSignature` give back."""
WRAPPED: Final = bytes.fromhex("6492" * 16)
"""The end of an ERC-6492 signature."""
MULTICALL: Final = "0xcA11bde05977b3631167028862bE2a173976CA11"
"""Multicall3, at the same address on every network that has it."""
_IS_VALID: Final = selector("isValidSignature(bytes32,bytes)")
_TRY_AGGREGATE: Final = selector("tryAggregate(bool,(address,bytes)[])")


@dataclass(frozen=True, slots=True)
class WalletSignature:
    """A contract wallet's signature, taken out of its wrapping."""

    inner: bytes
    """What the wallet and the token are given."""
    factory: str = ""
    """Lower case; "": not wrapped."""
    factory_call: bytes = b""


def unwrapped(signature: bytes) -> WalletSignature | None:
    """Read an ERC-6492 signature; what is none is its own inner one. None: it is wrapped, and not in order."""
    if not signature.endswith(WRAPPED):
        return WalletSignature(signature)
    values = decoded(("address", "bytes", "bytes"), signature[: -len(WRAPPED)])
    if values is None:
        return None
    factory, call, inner = values
    if not call or not inner or inner.endswith(WRAPPED):
        return None
    return WalletSignature(bytes(inner), factory.lower(), bytes(call))


def is_valid_call(digest: bytes, signature: bytes) -> bytes:
    """`isValidSignature`."""
    return _IS_VALID + encode(("bytes32", "bytes"), (digest, signature))


def says_valid(returned: bytes) -> bool:
    """What it gave back: its four bytes, and nothing behind them."""
    return len(returned) == 32 and returned[:4] == VALID and not any(returned[4:])


def together(*calls: tuple[str, bytes]) -> bytes:
    """Several calls as one of Multicall3, each seeing what those before it did; one that fails stops none."""
    return _TRY_AGGREGATE + encode(("bool", "(address,bytes)[]"), (False, calls))


def results(returned: bytes, count: int) -> list[tuple[bool, bytes]]:
    """What each of them gave back. Raises NodeFailure."""
    values = decoded(("(bool,bytes)[]",), returned)
    if values is None or len(values[0]) != count:
        raise NodeFailure(f"Multicall3 ({MULTICALL}) is not on this network, or is not itself", sent=True)
    return [(bool(good), bytes(data)) for good, data in values[0]]
