"""What the payer of an EIP-3009 transfer signs (EIP-712), and whose signature it is.

Keccak and the curve are C: a signature is judged in 0.2 ms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from coincurve import PublicKey
from eth_hash.auto import keccak

from proxy.payments.settings import Asset

SIGNATURE_BYTES: Final = 65
"""r, s, v: what a key signs. A contract wallet's may be of any length."""
ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Of secp256k1."""
S_MAX: Final = ORDER // 2
"""Above it the same signature has a second spelling (EIP-2), which tokens refuse."""
_V_BASE: Final = 27
_ASSETS_CACHED_MAX: Final = 64
_ADDRESSES_CACHED_MAX: Final = 1_024

_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_TRANSFER_TYPE: Final = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)


def transfer_digest(
    asset: Asset, *, payer: str, to: str, value: int, valid_after: int, valid_before: int, nonce: bytes
) -> bytes:
    """The 32 bytes that are signed for this transfer of this token."""
    struct = keccak(
        b"".join(
            (
                _TRANSFER_TYPE,
                _padded(payer),
                _padded(to),
                value.to_bytes(32),
                valid_after.to_bytes(32),
                valid_before.to_bytes(32),
                nonce,
            )
        )
    )
    return keccak(b"\x19\x01" + _domain(asset) + struct)


def text_digest(text: str) -> bytes:
    """The 32 bytes that a wallet signs for a text (EIP-191, `personal_sign`)."""
    raw = text.encode()
    return keccak(b"\x19Ethereum Signed Message:\n%d%s" % (len(raw), raw))


def signer_of(digest: bytes, signature: bytes) -> str | None:
    """The checksummed address whose key made a 65-byte signature; None where no key did. Does not mind a high s."""
    parity = signature[64] - _V_BASE if signature[64] >= _V_BASE else signature[64]
    if parity not in (0, 1):
        return None
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes((parity,)), digest, hasher=None)
    except ValueError:
        return None
    return checksummed("0x" + keccak(key.format(compressed=False)[1:])[12:].hex())


def has_high_s(signature: bytes) -> bool:
    """Whether a 65-byte signature is the second spelling of another one."""
    return int.from_bytes(signature[32:64]) > S_MAX


def with_v(signature: bytes) -> bytes:
    """A 65-byte signature with v as 27 or 28 where it was 0 or 1: tokens take no others."""
    return signature[:64] + bytes((signature[64] + _V_BASE,)) if signature[64] in (0, 1) else signature


@lru_cache(_ADDRESSES_CACHED_MAX)
def checksummed(address: str) -> str:
    """0x and 40 hex digits in EIP-55's case."""
    digits = address[2:].lower()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(d.upper() if mark >= "8" else d for d, mark in zip(digits, marks, strict=False))


@lru_cache(_ASSETS_CACHED_MAX)
def _domain(asset: Asset) -> bytes:
    return keccak(
        _DOMAIN_TYPE
        + keccak(asset.name.encode())
        + keccak(asset.version.encode())
        + asset.chain_id.to_bytes(32)
        + _padded(asset.address)
    )


def _padded(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
