"""The caveats of our macaroons, spelled `Key = value`. What is not known, or there twice, is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.payments.l402.terms import Limits

_NUMBERS: Final = frozenset({"ExpiresAt", "MaxTokens", "MaxInputChars", "MaxInputTokens", "MaxInputItems", "NotBefore"})
_TEXTS: Final = frozenset({"RequestPath", "Model"})
_REQUIRED: Final = (_NUMBERS | _TEXTS) - {"MaxInputItems"}
_CAVEAT: Final = re.compile(r"([A-Za-z]{1,32}) = (.{1,2048})")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


class BadCaveat(ValueError):
    """The macaroon has a caveat that nobody here can keep, or lacks one; the message says which."""


@dataclass(frozen=True, slots=True)
class Caveats:
    """What a macaroon restricts its holder to."""

    limits: Limits
    expires_at: int
    """Unix seconds."""
    epoch: int
    """`NotBefore`: the root key that it was signed with."""

    def encode(self) -> tuple[bytes, ...]:
        """As they stand in the macaroon."""
        limits = self.limits
        pairs: list[tuple[str, str | int]] = [
            ("RequestPath", limits.path),
            ("ExpiresAt", self.expires_at),
            ("MaxTokens", limits.output_tokens),
            ("MaxInputChars", limits.input_chars),
            ("MaxInputTokens", limits.input_tokens),
            ("NotBefore", self.epoch),
        ]
        if limits.input_items is not None:
            pairs.append(("MaxInputItems", limits.input_items))
        pairs.append(("Model", limits.model))
        return tuple(f"{name} = {value}".encode() for name, value in pairs)


def parse_caveats(raw: tuple[bytes, ...]) -> Caveats:
    """Raises BadCaveat: an unknown one, one given twice (even where it narrows), one that is missing or malformed."""
    found: dict[str, str] = {}
    for one in raw:
        try:
            match = _CAVEAT.fullmatch(one.decode())
        except UnicodeDecodeError:
            match = None
        if match is None:
            raise BadCaveat("a caveat is not of the form 'Key = value'")
        name, value = match.groups()
        if name not in _NUMBERS and name not in _TEXTS:
            raise BadCaveat(f"the caveat '{name}' is not known here")
        if name in found:
            raise BadCaveat(f"the caveat '{name}' is there twice")
        if name in _NUMBERS and _NUMBER.fullmatch(value) is None:
            raise BadCaveat(f"the caveat '{name}' is not a number")
        found[name] = value
    missing = _REQUIRED - found.keys()
    if missing:
        raise BadCaveat(f"the caveat '{min(missing)}' is missing")
    items = found.get("MaxInputItems")
    limits = Limits(
        path=found["RequestPath"],
        model=found["Model"],
        output_tokens=int(found["MaxTokens"]),
        input_chars=int(found["MaxInputChars"]),
        input_tokens=int(found["MaxInputTokens"]),
        input_items=None if items is None else int(items),
    )
    return Caveats(limits, int(found["ExpiresAt"]), int(found["NotBefore"]))
