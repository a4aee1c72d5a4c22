"""Listeners: addresses parsed, and what may not stand together refused."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.config.addresses import bind_address, is_target
from proxy.config.problems import Marks, Problem, near
from proxy.config.schema import Listener, ListenerEntry, Team
from proxy.operations import BY_NAME

TOKEN_CHARACTERS_MIN: Final = 16
PUBLIC_BODY_BYTES_MAX: Final = 256 << 10
"""Of a priced request at a reverse listener that others than this machine can reach."""
_PRICED: Final = tuple(name for name, operation in BY_NAME.items() if operation.priced)
_ONLY_FOR = {"default_team": "regular", "other_targets": "regular", "allow_targets": "regular", "token": "admin"}


def build_listeners(
    entries: tuple[ListenerEntry, ...], marks: Marks, problems: list[Problem], *, teams: dict[str, Team], root: Path
) -> tuple[Listener, ...]:
    """The listeners that are in order; what is not goes to `problems`."""
    if not entries:
        problems.append(marks.problem((), "at least one listener is needed"))
    listeners: list[Listener] = []
    for index, entry in enumerate(entries):
        part = marks.below(index)
        found = list(_problems(entry, part, teams, root))
        problems.extend(found)
        try:
            host, port, loopback = bind_address(entry.bind)
        except ValueError as error:
            problems.append(part.problem(("bind",), str(error)))
            continue
        if entry.kind == "admin" and not loopback and len(entry.token or "") < TOKEN_CHARACTERS_MIN:
            problems.append(
                part.problem(
                    ("bind",),
                    f"an admin listener off loopback needs a token of {TOKEN_CHARACTERS_MIN} characters or more: "
                    "token: ${TOLLWAY_ADMIN_TOKEN}",
                )
            )
        listener = Listener(
            name=entry.name,
            kind=entry.kind,
            host=host,
            port=port,
            loopback=loopback,
            cert_file=root / entry.tls.cert_file if entry.tls else None,
            key_file=root / entry.tls.key_file if entry.tls else None,
            default_team=entry.default_team,
            other_targets=entry.other_targets,
            token=entry.token or None,
            allow_targets=entry.allow_targets,
            body_bytes_max=_body_bytes_max(entry, loopback),
        )
        problems.extend(_clashes(listener, listeners, part))
        listeners.append(listener)
    return tuple(listeners)


def _body_bytes_max(entry: ListenerEntry, loopback: bool) -> dict[str, int]:
    public = entry.kind == "reverse" and not loopback
    return dict.fromkeys(_PRICED if public else (), PUBLIC_BODY_BYTES_MAX) | entry.body_bytes_max


def _problems(entry: ListenerEntry, marks: Marks, teams: dict[str, Team], root: Path) -> Iterator[Problem]:
    for key, kind in _ONLY_FOR.items():
        if marks.has((key,)) and entry.kind != kind:
            yield marks.problem((key,), f"only a listener of kind '{kind}' has '{key}'", key=True)
    for name in entry.body_bytes_max:
        if name not in _PRICED:
            yield marks.problem(
                ("body_bytes_max", name),
                f"'{name}' is not one of {', '.join(_PRICED)}",
                suggestion=near(name, _PRICED),
                key=True,
            )
    if entry.tls is not None and entry.kind == "regular":
        yield marks.problem(("tls",), "a regular listener has no certificate of its own", key=True)
    if entry.tls is not None:
        yield from _file_problems(root / entry.tls.cert_file, marks, "cert_file", private=False)
        yield from _file_problems(root / entry.tls.key_file, marks, "key_file", private=True)
    if entry.default_team is not None and entry.default_team not in teams:
        yield marks.problem(
            ("default_team",),
            f"there is no team '{entry.default_team}' in teams.yaml",
            suggestion=near(entry.default_team, teams),
        )
    for position, target in enumerate(entry.allow_targets):
        if not is_target(target):
            yield marks.problem(
                ("allow_targets", position), f"'{target}' is not HOST:PORT, a host, an address or a network"
            )


def _file_problems(path: Path, marks: Marks, key: str, *, private: bool) -> Iterator[Problem]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield marks.problem(("tls", key), f"{path} cannot be read: {error.strerror}")
        return
    if not stat.S_ISREG(mode):
        yield marks.problem(("tls", key), f"{path} is not a file")
    elif private and mode & stat.S_IRWXO:
        yield marks.problem(("tls", key), f"every user of this machine can read {path}: chmod 600 {path}")


def _clashes(listener: Listener, earlier: list[Listener], marks: Marks) -> Iterator[Problem]:
    for other in earlier:
        if other.name == listener.name:
            yield marks.problem(("name",), f"a listener named '{listener.name}' stands above already")
        if other.port == listener.port != 0 and _overlap(other.host, listener.host):
            yield marks.problem(("bind",), f"the listener '{other.name}' already has this address")


def _overlap(one: str, other: str) -> bool:
    """Whether two addresses cannot both be bound on one port."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified
