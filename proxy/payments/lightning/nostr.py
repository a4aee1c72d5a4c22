"""Nostr events (NIP-01) and the encryption between two keys (NIP-44 version 2, and the older NIP-04)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from coincurve import PrivateKey, PublicKey, PublicKeyXOnly
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

NIP44: Final = "nip44_v2"
NIP04: Final = "nip04"
PLAIN_BYTES_MAX: Final = 65_535
CIPHER_CHARS_MAX: Final = 88_000
_AES_BLOCK_BITS: Final = 128


class NotDecrypted(ValueError):
    """Not encrypted for us, or changed on its way."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event whose id and signature are right."""

    id: str
    author: str
    kind: int
    tags: tuple[tuple[str, ...], ...]
    content: str

    def tag(self, name: str) -> str | None:
        """The value of the first tag of that name."""
        return next((tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name), None)


def public_key(secret: bytes) -> str:
    """32 bytes in hex. Raises ValueError for a secret that is no key."""
    return PrivateKey(secret).public_key.format()[1:].hex()


def signed_event(secret: bytes, *, kind: int, tags: Sequence[Sequence[str]], content: str, at: int) -> dict[str, Any]:
    """An event as it goes over the wire. `at`: seconds since 1970."""
    author = public_key(secret)
    id_ = _event_id(author, at, kind, tags, content)
    return {
        "id": id_.hex(),
        "pubkey": author,
        "created_at": at,
        "kind": kind,
        "tags": tags,
        "content": content,
        "sig": PrivateKey(secret).sign_schnorr(id_).hex(),
    }


def verified_event(raw: object) -> Event | None:
    """None for what is no event, or has a wrong id or signature."""
    if not isinstance(raw, dict):
        return None
    author, at, kind, content = (raw.get(name) for name in ("pubkey", "created_at", "kind", "content"))
    tags, signature = raw.get("tags"), raw.get("sig")
    if not (isinstance(author, str) and isinstance(at, int) and isinstance(kind, int) and isinstance(content, str)):
        return None
    if not (isinstance(tags, list) and isinstance(signature, str)):
        return None
    if not all(isinstance(tag, list) and all(isinstance(part, str) for part in tag) for tag in tags):
        return None
    try:
        id_ = _event_id(author, at, kind, tags, content)
        right = PublicKeyXOnly(bytes.fromhex(author)).verify(bytes.fromhex(signature), id_)
    except (ValueError, orjson.JSONEncodeError):
        return None
    if not right or raw.get("id") != id_.hex():
        return None
    return Event(id_.hex(), author, kind, tuple(tuple(tag) for tag in tags), content)


def _event_id(author: str, at: int, kind: int, tags: Sequence[Sequence[str]], content: str) -> bytes:
    return hashlib.sha256(orjson.dumps([0, author, at, kind, tags, content])).digest()


class Conversation:
    """Encrypts between our secret and another's public key. Raises ValueError for keys that are none."""

    def __init__(self, secret: bytes, other: str) -> None:
        self._shared = PublicKey(b"\x02" + bytes.fromhex(other)).multiply(secret).format()[1:]
        self.key = hmac.digest(b"nip44-v2", self._shared, hashlib.sha256)

    def encrypt(self, plain: str, scheme: str, *, nonce: bytes | None = None) -> str:
        """`scheme` is NIP44 or NIP04; `nonce` is for test vectors."""
        data = plain.encode()
        if not 0 < len(data) <= PLAIN_BYTES_MAX:
            raise ValueError("too long, or nothing, to encrypt")
        if scheme == NIP04:
            return self._encrypt_nip04(data, nonce or os.urandom(16))
        nonce = nonce or os.urandom(32)
        stream, mac_key = self._keys(nonce)
        padded = struct.pack(">H", len(data)) + data.ljust(padded_length(len(data)), b"\0")
        ciphertext = stream.encryptor().update(padded)
        mac = hmac.digest(mac_key, nonce + ciphertext, hashlib.sha256)
        return base64.b64encode(b"\x02" + nonce + ciphertext + mac).decode()

    def decrypt(self, text: str) -> str:
        """Whichever of the two it is: NIP-04 carries its `?iv=`. Raises NotDecrypted."""
        if len(text) > CIPHER_CHARS_MAX:
            raise NotDecrypted("too long")
        try:
            return (self._decrypt_nip04(text) if "?iv=" in text else self._decrypt_nip44(text)).decode()
        except ValueError as error:
            raise NotDecrypted("not encrypted for us") from error

    def _keys(self, nonce: bytes) -> tuple[Cipher[None], bytes]:
        keys = HKDFExpand(hashes.SHA256(), 76, nonce).derive(self.key)
        return Cipher(algorithms.ChaCha20(keys[:32], bytes(4) + keys[32:44]), None), keys[44:]

    def _decrypt_nip44(self, text: str) -> bytes:
        raw = base64.b64decode(text, validate=True)
        if len(raw) < 99 or raw[0] != 2:
            raise ValueError("not version 2")
        nonce, ciphertext, mac = raw[1:33], raw[33:-32], raw[-32:]
        stream, mac_key = self._keys(nonce)
        if not hmac.compare_digest(mac, hmac.digest(mac_key, nonce + ciphertext, hashlib.sha256)):
            raise ValueError("wrong MAC")
        padded = stream.decryptor().update(ciphertext)
        length = int.from_bytes(padded[:2])
        if length == 0 or len(padded) != 2 + padded_length(length):
            raise ValueError("wrong padding")
        return padded[2 : 2 + length]

    def _encrypt_nip04(self, data: bytes, iv: bytes) -> str:
        padder = padding.PKCS7(_AES_BLOCK_BITS).padder()
        encryptor = Cipher(algorithms.AES(self._shared), modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()
        return f"{base64.b64encode(ciphertext).decode()}?iv={base64.b64encode(iv).decode()}"

    def _decrypt_nip04(self, text: str) -> bytes:
        ciphertext, _, iv = text.partition("?iv=")
        decryptor = Cipher(algorithms.AES(self._shared), modes.CBC(base64.b64decode(iv, validate=True))).decryptor()
        padded = decryptor.update(base64.b64decode(ciphertext, validate=True)) + decryptor.finalize()
        unpadder = padding.PKCS7(_AES_BLOCK_BITS).unpadder()
        return unpadder.update(padded) + unpadder.finalize()


def padded_length(length: int) -> int:
    """NIP-44: powers of two, in eighths once it is long."""
    if length <= 32:
        return 32
    power = 1 << (length - 1).bit_length()
    chunk = 32 if power <= 256 else power // 8
    return chunk * ((length - 1) // chunk + 1)
