"""Upstreams: those the operator has a key for, those without, and what would change that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.config.addresses import host_port, is_host
from proxy.config.problems import Marks, Problem, near
from proxy.config.schema import UpstreamEntry
from proxy.operations import CHAT, EMBEDDINGS, MESSAGES, RESPONSES
from proxy.upstreams.api import Deadlines, Probe, Upstream

BUILT_IN_SCHEME: Final = "builtin:"
"""builtin:demo is answered by Tollway itself."""

OPERATIONS: Final = frozenset(one.name for one in (CHAT, EMBEDDINGS, MESSAGES, RESPONSES))
"""What an upstream may speak."""

_OF_OPENAI: Final = (".openai.com", ".openai.azure.com", ".cognitiveservices.azure.com")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(slots=True)
class Upstreams:
    """All upstreams of the file, by what they can serve."""

    available: dict[str, Upstream] = field(default_factory=dict)
    keyless: dict[str, Upstream] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> tuple[str, ...]:
        """Every configured name."""
        return (*self.available, *self.keyless)

    def find(self, name: str) -> Upstream | None:
        """The upstream of that name, with a key or without."""
        return self.available.get(name) or self.keyless.get(name)


def build_upstreams(
    entries: Mapping[str, UpstreamEntry],
    marks: Marks,
    problems: list[Problem],
    *,
    unset: Mapping[str, str],
    root: Path,
) -> Upstreams:
    """`unset` maps an upstream to the environment variable that its key should have come from."""
    built = Upstreams()
    for name, entry in entries.items():
        problems.extend(_problems(name, entry, marks.below(name), root))
        upstream = _upstream(name, entry, root)
        if entry.key or entry.keyless:
            built.available[name] = upstream
        else:
            built.keyless[name] = upstream
            variable = unset.get(name)
            built.unavailable[name] = (
                f"set {variable} in the environment"
                if variable
                else f"set 'key' (or 'keyless: true', if it needs none) of upstreams.{name} in config.yaml"
            )
    return built


def _upstream(name: str, entry: UpstreamEntry, root: Path) -> Upstream:
    connect_to: tuple[str, int] | None = None
    if entry.connect_to is not None:
        try:
            connect_to = host_port(entry.connect_to)
        except ValueError:
            connect_to = None
    return Upstream(
        name=name,
        base_url=entry.base_url.rstrip("/"),
        key=entry.key or None,
        credential_header=entry.credential_header.lower(),
        credential_scheme=entry.credential_scheme,
        headers=tuple((key.lower(), value) for key, value in entry.headers.items()),
        output_field=entry.output_field or _output_field(entry.base_url),
        connect_to=connect_to,
        ca_file=None if entry.ca_file is None else str(root / entry.ca_file),
        deadlines=Deadlines(**entry.deadlines.model_dump()),
        connections_max=entry.connections_max,
        retry_stale=entry.retry_stale,
        reports_usage=entry.reports_usage,
        operations=frozenset(entry.operations),
        partner=entry.partner,
        probe=None if entry.probe is None else Probe(**entry.probe.model_dump()),
    )


def _output_field(base_url: str) -> str:
    """OpenAI's own models want the newer member; servers that speak its format may know the older one only."""
    host = base_url.partition("://")[2].partition("/")[0].partition(":")[0].lower()
    return "max_completion_tokens" if host.endswith(_OF_OPENAI) else "max_tokens"


def _problems(name: str, entry: UpstreamEntry, marks: Marks, root: Path) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        yield marks.problem((), "an upstream's name is lower-case letters, digits, '-' and '_'", key=True)
    if (wrong := _wrong_url(entry.base_url)) is not None:
        yield marks.problem(("base_url",), wrong)
    if entry.connect_to is not None:
        try:
            host_port(entry.connect_to)
        except ValueError as error:
            yield marks.problem(("connect_to",), str(error))
    if entry.ca_file is not None and not (root / entry.ca_file).is_file():
        yield marks.problem(("ca_file",), f"{root / entry.ca_file} is not a file")
    if not _HEADER_NAME.fullmatch(entry.credential_header):
        yield marks.problem(("credential_header",), "this is not a header name")
    if entry.key is not None and not _HEADER_VALUE.fullmatch(entry.key):
        yield marks.problem(("key",), "the key holds characters that no header may hold (a line end?)")
    for header, value in entry.headers.items():
        if not _HEADER_NAME.fullmatch(header) or not _HEADER_VALUE.fullmatch(value):
            yield marks.problem(("headers", header), "this is not a valid header")
        if header.lower() == entry.credential_header.lower():
            yield marks.problem(("headers", header), "the credential comes from 'key', not from 'headers'")
    if not entry.operations:
        yield marks.problem(("operations",), "an upstream that serves no operation serves nothing")
    for number, operation in enumerate(entry.operations):
        if operation not in OPERATIONS:
            listed = ", ".join(sorted(OPERATIONS))
            hint = near(operation, OPERATIONS)
            yield marks.problem(("operations", number), f"unknown operation; there are {listed}", suggestion=hint)


def _wrong_url(url: str) -> str | None:
    """What is wrong with a base URL, None if nothing."""
    if url.startswith(BUILT_IN_SCHEME):
        return None if url == "builtin:demo" else "the only built-in upstream is builtin:demo"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"not a URL: {error}"
    if parts.scheme not in ("http", "https"):
        return "a base URL begins with https:// or http://"
    if parts.username or parts.password:
        return "the credential comes from 'key', not from the URL"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "a base URL has no query and no fragment"
    if not parts.hostname or not (is_host(parts.hostname) or ":" in parts.hostname) or port == 0:
        return "the URL names no host"
    return None
