"""The shape of one scope's rules in policies/teams.yaml: what may be called, from where, when, and how."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from proxy.config.strict import Strict

ITEMS_MAX: Final = 1000
"""Entries of one list of models or paths."""
WINDOWS_MAX: Final = 64
RANGES_MAX: Final = 256
CONTENT_RULES_MAX: Final = 64
PATTERN_CHARS_MAX: Final = 2000
PREFIX_CHARS_MAX: Final = 20_000
MATCH_CHARS_MAX: Final = 4096

Entries = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=512)], ...], Field(max_length=ITEMS_MAX)]


class ListsEntry(Strict):
    """What is allowed and what is denied; a name that both lists have is denied."""

    allow: Entries | None = Field(default=None, description="Nothing but these; * stands for any text.")
    deny: Entries = Field(default=(), description="None of these.")


class HoursEntry(Strict):
    """A part of the week."""

    days: tuple[str, ...] = Field(
        default=("mon-sun",), max_length=7, description="mon, tue, ... sun, or from-to as in mon-fri."
    )
    start: str = Field(default="00:00", alias="from", description="HH:MM of the wall clock.")
    end: str = Field(
        default="24:00", alias="to", description="HH:MM, no longer included; at or before 'from': on the next day."
    )
    time_zone: str | None = Field(default=None, description="IANA name; absent: time_zone of config.yaml.")


class ContentEntry(Strict):
    """A pattern that requests or answers must not carry; without one, a rule that ships with Tollway."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(
        description="Shown to callers; or a shipped rule: api_keys, card_numbers, mail_addresses."
    )
    pattern: str | None = Field(default=None, description="RE2 syntax; must not match the empty text.")
    action: Literal["refuse", "redact"] | None = Field(
        default=None, description="refuse: nothing passes; redact: the match is replaced. Absent: as shipped; redact."
    )
    on: tuple[Literal["requests", "answers"], ...] | None = Field(
        default=None, description="Where it is looked for; absent: both."
    )
    replacement: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="Put in a match's place."
    )
    match_chars_max: Annotated[int, Field(ge=1, le=MATCH_CHARS_MAX)] | None = Field(
        default=None, description="The longest text that counts as one match; of a stream, so much is held back."
    )
    check: Literal["luhn"] | None = Field(
        default=None, description="luhn: only digits with the check sum of card numbers count."
    )


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class RulesEntry(Strict):
    """What one scope says about its callers. Absent: nothing."""

    models: ListsEntry | None = Field(default=None, description="Names of models.yaml, any of a model's; * in them.")
    paths: ListsEntry | None = Field(default=None, description="Paths as clients send them, {model} or * in them.")
    hours: Annotated[tuple[HoursEntry, ...], Field(max_length=WINDOWS_MAX)] | None = Field(
        default=None, description="Calls are served within these times only."
    )
    ip_ranges: Annotated[tuple[str, ...], Field(max_length=RANGES_MAX)] | None = Field(
        default=None, description="CIDR; calls are served from these addresses only."
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="A client's larger output limit is lowered to this, a model's default, too."
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Members forced into every body.")
    system_prefix: Annotated[str, Field(min_length=1, max_length=PREFIX_CHARS_MAX)] | None = Field(
        default=None, description="Put before every system prompt."
    )
    content: Annotated[
        tuple[Annotated[ContentEntry, BeforeValidator(_named)], ...],
        Field(max_length=CONTENT_RULES_MAX),
    ] = Field(default=(), description="Patterns that are refused or redacted; a shipped rule's bare name is enough.")
