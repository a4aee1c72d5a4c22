"""What a customer may register, parsed once: alias, upstream or base URL, the model there, the key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from proxy.addresses import is_public, resolve_public
from proxy.byo.cipher import Binding
from proxy.config.schema import Byo, Generation
from proxy.keys import PREFIX
from proxy.operations import CHAT, EMBEDDINGS, MESSAGES, RESPONSES

ALIAS_PREFIX: Final = "byo-"
ALIAS_CHARS_MAX: Final = 64
MODEL_CHARS_MAX: Final = 200
BASE_URL_CHARS_MAX: Final = 512
SECRET_CHARS_MAX: Final = 1024
SECRET_CHARS_MIN: Final = 8
HINT_CHARS: Final = 4
HINTED_CHARS_MIN: Final = 16
"""Of a shorter secret no part is shown."""

OPERATIONS: Final = tuple(operation.name for operation in (CHAT, EMBEDDINGS, MESSAGES, RESPONSES))
CREDENTIALS: Final = {"authorization": "Bearer", "x-api-key": "", "api-key": ""}
"""Header that a customer's own server takes its key in, and the scheme before it."""

_ALIAS: Final = re.compile(r"byo-[a-z0-9][a-z0-9._-]*")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_BASE_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
)
"""No userinfo, query, fragment, encoding, upper-case host, trailing dot or zone: one spelling, so one reading."""
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_INSIDE: Final = frozenset({
    "localhost", "localdomain", "local", "internal", "intranet", "private", "lan", "home", "corp", "svc", "consul",
    "arpa", "test", "invalid", "onion",
})  # fmt: skip
"""Last labels of names that no public resolver knows (RFC 6761, RFC 6762, ICANN's name collisions)."""


class Invalid(Exception):
    """A registration cannot be made. `param` is the member at fault; the message never holds the secret."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Registration:
    """A customer's upstream as stored; the key itself is nowhere but in its sealed form."""

    id: str
    team: str
    alias: str
    upstream: str | None
    """A configured upstream; None: `base_url` is the customer's own."""
    base_url: str
    """Of a configured upstream: as it was when the key was registered."""
    model: str
    """What the upstream calls it."""
    operations: tuple[str, ...]
    credential_header: str
    hint: str
    """The last characters of the key, to tell keys apart."""
    created_ms: int
    rotated_ms: int | None = None
    revoked_ms: int | None = None

    @property
    def binding(self) -> Binding:
        """What the sealed key belongs to: all that was registered with it."""
        operations = ",".join(self.operations)
        return (
            self.id, self.team, self.alias, self.upstream or "", self.base_url, self.model, operations,
            self.credential_header,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """A registration that may be made."""

    alias: str
    upstream: str | None
    base_url: str
    model: str
    operations: tuple[str, ...]
    credential_header: str
    secret: str = field(repr=False)

    @classmethod
    def parse(
        cls,
        generation: Generation,
        *,
        alias: str,
        model: str,
        secret: str,
        upstream: str | None = None,
        base_url: str | None = None,
        operations: Collection[str] = (),
        credential_header: str | None = None,
    ) -> Wanted:
        """Raises Invalid. Where a base URL leads is judged by `check_public`, and again for each connection."""
        _check_alias(alias)
        if not model.isprintable() or not 0 < len(model) <= MODEL_CHARS_MAX or model != model.strip():
            raise Invalid("model", f"What the upstream calls the model: printable, up to {MODEL_CHARS_MAX} characters.")
        if (upstream is None) == (base_url is None):
            raise Invalid("upstream", "Say where it is: either 'upstream' or 'base_url'.")
        if upstream is not None:
            if credential_header is not None:
                raise Invalid("credential_header", "This goes with 'base_url' only: an upstream has its own.")
            base_url, header, served = _configured(generation, upstream)
        else:
            base_url = parse_base_url(base_url or "", generation.byo)
            header = credential_header or "authorization"
            if header not in CREDENTIALS:
                raise Invalid("credential_header", f"One of {', '.join(CREDENTIALS)}.")
            served = OPERATIONS if operations else (CHAT.name, EMBEDDINGS.name)
        return cls(
            alias, upstream, base_url, model, _operations(operations, served), header, parse_secret(secret, generation)
        )


def parse_secret(text: str, generation: Generation) -> str:
    """A provider's key as a header can carry it, and none of our own. Raises Invalid."""
    if not SECRET_CHARS_MIN <= len(text) <= SECRET_CHARS_MAX or not _VISIBLE.fullmatch(text):
        raise Invalid(
            "key", f"The provider's key: {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} visible ASCII characters, no spaces."
        )
    if text.startswith(dict(generation.chain).get("identity", {}).get("key_prefix", PREFIX)):
        raise Invalid("key", "This is a key of Tollway's own. Give the key that the provider gave you.")
    return text


def hint_of(secret: str) -> str:
    """What may be shown of a secret."""
    return secret[-HINT_CHARS:] if len(secret) >= HINTED_CHARS_MIN else ""


def parse_base_url(text: str, rules: Byo) -> str:
    """A customer's own base URL without a trailing slash. Raises Invalid. Nothing is looked up."""
    found = _BASE_URL.fullmatch(text) if len(text) <= BASE_URL_CHARS_MAX else None
    if found is None or any(not segment.strip(".") for segment in found["path"].split("/")[1:]):
        raise Invalid(
            "base_url",
            "Write it plainly, as https://api.example.com/v1: lower-case host, no user, query, fragment or encoding.",
        )
    port = int(found["port"] or (443 if found["scheme"] == "https" else 80))
    if not is_listed(text, rules):
        if found["scheme"] != "https":
            raise Invalid("base_url", "A base URL begins with https://.")
        if port not in rules.ports:
            raise Invalid("base_url", f"Its port is one of {', '.join(map(str, sorted(rules.ports)))}.")
        _check_host(found["host"])
    return text.rstrip("/")


async def check_public(wanted: Wanted, rules: Byo) -> None:
    """Raises Invalid where a customer's own base URL leads inside. One answer for all reasons: it maps no network."""
    if wanted.upstream is not None or is_listed(wanted.base_url, rules):
        return
    parts = urlsplit(wanted.base_url)
    try:
        await resolve_public(parts.hostname or "", parts.port or 443)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise Invalid("base_url", "Its host has to resolve to public addresses, and to no others.") from error


def is_listed(base_url: str, rules: Byo) -> bool:
    """Whether the operator lets this very host and port be private."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{port}" in rules.allow_private


def origin_of(base_url: str) -> str:
    """Scheme, host and port: what decides who gets the key."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _check_alias(alias: str) -> None:
    if len(alias) > ALIAS_CHARS_MAX or not _ALIAS.fullmatch(alias):
        raise Invalid(
            "alias",
            f"An alias is byo- and a name of lower-case letters, digits, '.', '_' and '-', {ALIAS_CHARS_MAX} "
            "characters at most: byo-openai-gpt-4o.",
        )


def _check_host(host: str) -> None:
    """Raises Invalid for what is not public whatever a resolver says."""
    refused = Invalid("base_url", "Its host must be public: a full DNS name, or a public address written plainly.")
    if host.startswith("["):
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = _address(host[1:-1], refused)
        if str(address) != host[1:-1]:
            raise refused
    else:
        labels = host.split(".")
        if not _NUMBER.fullmatch(labels[-1]):
            if len(labels) < 2 or labels[-1] in _INSIDE or len(host) > 253:
                raise refused
            return
        address = _address(host, refused)
    if not is_public(address):
        raise refused


def _address(text: str, refused: Invalid) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Octal, hexadecimal, decimal and shortened forms are no addresses here."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise refused from error


def _configured(generation: Generation, name: str) -> tuple[str, str, Iterable[str]]:
    """Base URL, credential header and operations of a configured upstream."""
    found = generation.upstream(name) if name in generation.byo.upstreams else None
    if found is None:
        offered = ", ".join(sorted(generation.byo.upstreams)) or "none"
        raise Invalid("upstream", f"Keys may be registered for: {offered}. Or give your own 'base_url'.")
    return found.base_url, found.credential_header, found.operations


def _operations(asked: Collection[str], served: Iterable[str]) -> tuple[str, ...]:
    possible = [name for name in OPERATIONS if name in set(served)]
    for name in asked:
        if name not in possible:
            raise Invalid("operations", f"What it serves, of: {', '.join(possible)}.")
    return tuple(name for name in possible if not asked or name in asked)
