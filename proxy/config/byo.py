"""Customers' own upstream keys: the encryption keys, and what a customer's upstream may be."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final

from proxy.config.addresses import host_port
from proxy.config.problems import Marks, Problem, near
from proxy.config.schema import Byo, ByoEntry, UpstreamEntry
from proxy.config.upstreams import Upstreams

KEY_BYTES: Final = 32
"""Of an encryption key, before base64 (the Fernet specification)."""


def build_byo(
    entry: ByoEntry,
    marks: Marks,
    problems: list[Problem],
    *,
    entries: Mapping[str, UpstreamEntry],
    upstreams: Upstreams,
) -> Byo:
    """What a customer may register. An empty encryption key is one whose variable is not set, and is left out."""
    suitable = tuple(name for name in entries if _suitable(entries[name], upstreams, name))
    problems.extend(_problems(entry, marks, suitable))
    return Byo(
        keys=tuple(key for key in entry.keys if key),
        upstreams=suitable if entry.upstreams is None else tuple(n for n in entry.upstreams if n in suitable),
        ports=frozenset(entry.ports),
        allow_private=frozenset(text.lower() for text in entry.allow_private),
        registrations_max=entry.registrations_max,
    )


def _suitable(entry: UpstreamEntry, upstreams: Upstreams, name: str) -> bool:
    """A public provider that asks for a key: the operator's own machines serve nobody for a made-up one."""
    if entry.keyless or not entry.base_url.startswith("https://"):
        return False
    built = upstreams.available.get(name) or upstreams.keyless.get(name)
    return built is not None and built.partner is None


def _problems(entry: ByoEntry, marks: Marks, suitable: tuple[str, ...]) -> Iterator[Problem]:
    for index, key in enumerate(entry.keys):
        unset = key.startswith("${")  # Told where references are replaced.
        if key and not unset and not _is_key(key):
            yield marks.problem(
                ("keys", index), "this is not an encryption key; 'tollway byo new-key' prints a fresh one"
            )
    for index, text in enumerate(entry.allow_private):
        try:
            host_port(text)
        except ValueError as error:
            yield marks.problem(("allow_private", index), str(error))
    for index, name in enumerate(entry.upstreams or ()):
        if name not in suitable:
            yield marks.problem(
                ("upstreams", index),
                f"'{name}' is not an upstream above that is https, asks for a key and is no partner's",
                suggestion=near(name, suitable),
            )


def _is_key(text: str) -> bool:
    try:
        raw = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == KEY_BYTES and base64.urlsafe_b64encode(raw).decode() == text
