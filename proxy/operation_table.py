"""From method and path to an operation: the only place that matches paths.

A path is taken exactly as it is spelled. What is not known exactly but would normalise to a path that is known
(`%2F`, `//`, trailing slash, case, dot segments, ...) is refused on every listener and never forwarded, because a
provider may normalise it and answer a request that we took for another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.config.schema import CapturedHost
from proxy.errors import Refusal
from proxy.exchange import ListenerKind
from proxy.operations import (
    CHAT,
    EMBEDDINGS,
    LOCAL,
    MESSAGES,
    MODELS,
    ORCHESTRATE,
    PREFLIGHT,
    RESPONSES,
    UNMETERED,
    Operation,
)
from proxy.paths import ID, MODEL, Template, TooDeep, foldings, is_malformed

_READ: Final = ("GET", "HEAD")
_POST: Final = ("POST",)
_SAFE: Final = frozenset(_READ)
TABLES_MAX: Final = 512
"""Captured hosts whose table is kept; the cache is emptied past it."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is asked for, and the model that the path names."""

    operation: Operation
    model: str | None = None


@dataclass(frozen=True, slots=True)
class KnownPath:
    """A path template and the methods it answers."""

    template: str
    operation: Operation
    methods: tuple[str, ...]


PUBLIC: Final = (
    KnownPath("/v1/chat/completions", CHAT, _POST),
    KnownPath("/v1/chat/completions/{model}", CHAT, _POST),
    KnownPath("/v1/embeddings", EMBEDDINGS, _POST),
    KnownPath("/v1/embeddings/{model}", EMBEDDINGS, _POST),
    KnownPath("/v1/messages", MESSAGES, _POST),
    KnownPath("/v1/messages/{model}", MESSAGES, _POST),
    KnownPath("/v1/responses", RESPONSES, _POST),
    KnownPath("/v1/orchestrate", ORCHESTRATE, _POST),
    KnownPath("/v1/models", MODELS, _READ),
    KnownPath("/v1/models/{model}", MODELS, _READ),
    KnownPath("/health", LOCAL, _READ),
    KnownPath("/v1/health", LOCAL, _READ),
)
ADMIN: Final = (
    *(KnownPath(path, LOCAL, _READ) for path in ("/health", "/metrics", "/upstreams", "/ca.pem", "/credit/balances")),
    KnownPath("/reload", LOCAL, _POST),
    KnownPath("/credit/grants", LOCAL, _POST),
)
RESERVED: Final = frozenset({"/v1/messages/count_tokens", "/v1/messages/batches"})
"""Anthropic's other operations, which must not be taken for a model's name."""


class OperationTable:
    """Resolves every request before the chain. `local` adds endpoints of plugins on reverse listeners."""

    def __init__(self, local: Iterable[KnownPath] = ()) -> None:
        self._listeners = {
            ListenerKind.REVERSE: _Paths((*PUBLIC, *local)),
            ListenerKind.REGULAR: _Paths(known for known in PUBLIC if known.operation is LOCAL),
            ListenerKind.ADMIN: _Paths(ADMIN),
            ListenerKind.INWARD: _Paths(known for known in PUBLIC if known.operation.priced),
        }
        self._captured: dict[int, tuple[CapturedHost, _Paths]] = {}

    def resolve(self, method: str, path: str, captured: CapturedHost | None, listener_kind: ListenerKind) -> Resolution:
        """What is asked for. Raises Refusal `invalid_path`, `not_found` or `method_not_allowed`.

        On a captured host every other path, and a priced one that is only read (GET, HEAD), is UNMETERED.
        """
        paths = self._listeners[listener_kind] if captured is None else self._paths(captured)
        known, model = paths.find(path)
        if known is not None:
            if method == "OPTIONS" and known.operation.priced:
                return _PREFLIGHT
            if method in known.methods or method == "OPTIONS":
                return known.resolution if model is None else Resolution(known.operation, model)
            if captured is not None and method in _SAFE:
                return _UNMETERED
            raise _wrong_method(known)
        if is_malformed(path) or paths.resembles(path):
            raise Refusal(
                "invalid_path",
                "This path only resembles a known one. Spell it plainly: no encoded characters, no double or "
                "trailing slash, no dot segments, lower case.",
            )
        if captured is not None:
            return _UNMETERED
        raise Refusal("not_found", f"There is no such endpoint here. Known: {paths.listed}.")

    def _paths(self, captured: CapturedHost) -> _Paths:
        found = self._captured.get(id(captured))
        if found is not None:
            return found[1]
        if len(self._captured) >= TABLES_MAX:
            self._captured.clear()
        paths = _Paths(
            KnownPath(template, operation, _POST if operation.priced else _READ)
            for template, operation in captured.paths
        )
        self._captured[id(captured)] = (captured, paths)
        return paths


_UNMETERED: Final = Resolution(UNMETERED)
_PREFLIGHT: Final = Resolution(PREFLIGHT)


def _wrong_method(known: _Entry) -> Refusal:
    allowed = ", ".join((*known.methods, "OPTIONS"))
    return Refusal("method_not_allowed", f"This endpoint answers {allowed}.", headers={"allow": allowed})


class _Entry:
    """A known path with its resolution made ahead."""

    __slots__ = ("methods", "operation", "resolution", "template")

    def __init__(self, known: KnownPath) -> None:
        self.operation = known.operation
        self.methods = known.methods
        self.resolution = Resolution(known.operation)
        self.template = Template(known.template) if MODEL in known.template or ID in known.template else None


class _Paths:
    """The paths of one listener kind or one captured host: one dict lookup for those without a model or an id."""

    def __init__(self, known: Iterable[KnownPath]) -> None:
        self._exact: dict[str, _Entry] = {}
        self._templates: list[_Entry] = []
        for path in known:
            entry = _Entry(path)
            if entry.template is None:
                self._exact[path.template] = entry
            else:
                self._templates.append(entry)
        self.listed = ", ".join(self._exact)

    def find(self, path: str) -> tuple[_Entry | None, str | None]:
        """The entry for exactly this spelling, and the model it names; an id is for its endpoint to read."""
        entry = self._exact.get(path)
        if entry is not None:
            return entry, None
        if not _is_reserved(path):
            for entry in self._templates:
                if entry.template is not None and (value := entry.template.value(path)) is not None:
                    return entry, value if entry.template.names_model else None
        return None, None

    def resembles(self, path: str) -> bool:
        """Whether `path`, which is not known, could be taken for one that is."""
        try:
            return any(self._shadows(plain, path) for plain in foldings(path))
        except TooDeep:
            return True

    def _shadows(self, plain: str, path: str) -> bool:
        if plain in self._exact:
            return True
        if _is_reserved(plain):
            return plain != path
        return any(entry.template is not None and entry.template.between(plain) for entry in self._templates)


def _is_reserved(path: str) -> bool:
    return path in RESERVED or path.startswith("/v1/messages/batches/")
