"""Cross-origin requests: preflights answered before anything else, the CORS headers on every answer."""

from __future__ import annotations

import re
from typing import ClassVar, Final, Self

from pydantic import Field, field_validator, model_validator

from proxy.exchange import Exchange, ListenerKind, Response
from proxy.headers import Headers
from proxy.operations import Target
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage

ALLOWED_HEADERS: Final = (
    "Content-Type", "Authorization", "Payment-Signature", "X-Cashu", "X-Payment", "X-API-Key", "API-Key",
    "Anthropic-Version", "Anthropic-Beta", "Anthropic-Dangerous-Direct-Browser-Access", "OpenAI-Organization",
    "OpenAI-Project", "OpenAI-Beta", "Idempotency-Key", "X-No-Cache",
)  # fmt: skip
EXPOSED_HEADERS: Final = (
    "X-Route-Model", "X-Route-Category", "Payment-Required", "WWW-Authenticate", "X-Cashu-Change", "X-Dedup",
    "X-Cashu-Consumed", "PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE", "Payment-Receipt", "X-Payment-Id",
    "Idempotent-Replayed", "Retry-After", "Request-Id", "X-Request-Id",
)  # fmt: skip
_SDK_HEADER: Final = re.compile(r"x-stainless-[a-z0-9-]{1,64}")
"""What the SDKs of OpenAI and Anthropic send of themselves; new ones come with new releases."""
REQUESTED_BYTES_MAX: Final = 4096
REQUESTED_COUNT_MAX: Final = 64
"""Of Access-Control-Request-Headers; what is beyond is not allowed."""

_ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/\s,*?#@]+")
_ANSWERED_REFUSALS: Final = frozenset(
    {"method_not_allowed", "not_found", "invalid_path", "path_not_allowed", "draining"}
)
"""Refusals before the chain that a preflight does not stop at: the request after it gets a readable answer."""


class CorsSettings(PluginSettings):
    """Which pages may call, and with what."""

    origins: tuple[str, ...] = Field(
        default=("*",), min_length=1, description='Origins of pages that may call, as SCHEME://HOST[:PORT]; "*": any.'
    )
    credentials: bool = Field(default=False, description="Let pages send cookies; not with origins: ['*'].")
    methods: tuple[str, ...] = Field(
        default=("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), min_length=1, description="Methods allowed."
    )
    headers: tuple[str, ...] = Field(
        default=(), max_length=64, description="Request headers allowed beside those of the SDKs and payments."
    )
    expose: tuple[str, ...] = Field(
        default=(), max_length=64, description="Answer headers that pages may read beside our own."
    )
    max_age_seconds: int = Field(
        default=600, ge=0, le=86_400, description="How long a browser may remember a preflight's answer."
    )

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is not an origin: write SCHEME://HOST[:PORT] without a path, or '*'")
        if "*" in origins and len(origins) > 1:
            raise ValueError("'*' stands alone: it already allows every origin")
        return origins

    @field_validator("methods", "headers", "expose")
    @classmethod
    def _are_tokens(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'+.^_`|~-]{1,64}", name):
                raise ValueError(f"'{name}' is not the name of a header or method")
        return names

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials need origins named one by one: browsers refuse them with '*'")
        return self


class CorsPlugin(Plugin[CorsSettings]):
    """Answers preflights itself, adds to every other answer.

    The admin listener gets none of it (no page may read metrics), nor does traffic to hosts that are not captured.
    """

    name = "cors"
    stage = Stage.OBSERVE
    Settings: ClassVar[type[PluginSettings]] = CorsSettings

    def __init__(self, settings: CorsSettings, services: Services) -> None:
        super().__init__(settings, services)
        exposed = (*EXPOSED_HEADERS, services.generation.file.request_id_header, *settings.expose)
        self._any = settings.origins == ("*",)
        self._origins = frozenset(settings.origins)
        self._methods = ", ".join(settings.methods)
        self._allowed = (*ALLOWED_HEADERS, *settings.headers)
        self._known = frozenset(name.lower() for name in self._allowed)
        self._exposed = ", ".join(exposed)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        target = exchange.operation.target
        if exchange.origin.kind is ListenerKind.ADMIN or target is Target.PLAIN or target is Target.WEBSOCKET:
            return await call_next(exchange)
        request = exchange.request
        if request.method == "OPTIONS" and _is_preflight(exchange):
            exchange.refusal = None
            return self._preflight(request.headers)
        response = await call_next(exchange)
        if target is Target.UNMETERED and "access-control-allow-origin" in response.headers:
            return response
        if self._admit(request.headers, response.headers):
            response.headers["access-control-expose-headers"] = self._exposed
        return response

    def _preflight(self, asked: Headers) -> Response:
        response = Response(204, Headers())
        headers = response.headers
        headers.add("vary", "Access-Control-Request-Headers")
        if self._admit(asked, headers):
            headers["access-control-allow-methods"] = self._methods
            headers["access-control-allow-headers"] = self._allowed_of(asked)
            headers["access-control-max-age"] = str(self.settings.max_age_seconds)
        return response

    def _admit(self, asked: Headers, headers: Headers) -> bool:
        """Name the page's origin as allowed if it is; whether it is."""
        if self._any:
            headers["access-control-allow-origin"] = "*"
            return True
        headers.add("vary", "Origin")
        headers.popall("access-control-allow-origin", None)
        origin = asked.get("origin")
        if origin not in self._origins:
            return False
        headers["access-control-allow-origin"] = origin
        if self.settings.credentials:
            headers["access-control-allow-credentials"] = "true"
        return True

    def _allowed_of(self, asked: Headers) -> str:
        """The fixed list, and those asked for that an SDK may have added."""
        requested = asked.get("access-control-request-headers", "")
        if len(requested) > REQUESTED_BYTES_MAX:
            requested = ""
        names = (name.strip().lower() for name in requested.split(",", REQUESTED_COUNT_MAX)[:REQUESTED_COUNT_MAX])
        return ", ".join((*self._allowed, *(name for name in names if _SDK_HEADER.fullmatch(name))))


def _is_preflight(exchange: Exchange) -> bool:
    headers, refusal = exchange.request.headers, exchange.refusal
    if "origin" not in headers or "access-control-request-method" not in headers:
        return False
    return refusal is None or refusal.code in _ANSWERED_REFUSALS


PLUGIN = CorsPlugin
