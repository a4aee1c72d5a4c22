"""Lists of policies/teams.yaml: models by name or pattern, paths, address ranges."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import translate
from ipaddress import IPv6Network, ip_network
from typing import Final

from proxy.catalogue import Model
from proxy.config.problems import Marks, Problem, near
from proxy.config.rules import ListsEntry
from proxy.paths import MODEL

OWN_PREFIX: Final = "byo-"
"""Models that customers register themselves: not in the catalogue when the files are read."""
_TYPO: Final = 0.93
"""So much alike are a known path and one that was meant to be it."""
_PATH: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~@:+-]+|\{model\}))*(?:/?\*|/[A-Za-z0-9._~@:+-]+\*)?")


class ModelNames:
    """What lists of models mean: a model has several names, and a rule about one is about all."""

    def __init__(self, catalogue: Mapping[str, Model]) -> None:
        self._catalogue = catalogue
        self._spellings: dict[str, set[str]] = {}
        for spelling, model in catalogue.items():
            self._spellings.setdefault(model.name, {model.name}).add(spelling)
        self._found: dict[str, frozenset[str]] = {}

    def named(self, patterns: Iterable[str], marks: Marks, problems: list[Problem]) -> frozenset[str]:
        """Every name of every model that a pattern fits; one that fits nothing goes to `problems`."""
        found: set[str] = set()
        for index, pattern in enumerate(patterns):
            if set(pattern) & set("?[] "):
                problems.append(marks.problem((index,), f"'{pattern}': of patterns only * is known in names"))
                continue
            names = self._fitting(pattern)
            if not names and not pattern.startswith(OWN_PREFIX):
                problems.append(self._unknown(pattern, index, marks))
            found |= names
        return frozenset(found)

    def _fitting(self, pattern: str) -> frozenset[str]:
        found = self._found.get(pattern)
        if found is None:
            if "*" in pattern:
                fits = re.compile(translate(pattern)).match
                models = {model.name for name, model in self._catalogue.items() if fits(name)}
            else:
                models = {self._catalogue[pattern].name} if pattern in self._catalogue else set()
            found = frozenset(name for model in models for name in self._spellings[model])
            self._found[pattern] = found
        return found

    def _unknown(self, pattern: str, index: int, marks: Marks) -> Problem:
        if "*" not in pattern:
            message = f"there is no model '{pattern}' in models.yaml"
            return marks.problem((index,), message, suggestion=near(pattern, self._catalogue))
        hint = near(pattern, _wholesale(self._catalogue)) or near(pattern.replace("*", ""), self._catalogue)
        return marks.problem((index,), f"no model in models.yaml fits '{pattern}'", suggestion=hint)


def _wholesale(names: Iterable[str]) -> set[str]:
    """The patterns that people write: vendor/* and family-*."""
    found = set()
    for name in names:
        for separator in "/-":
            before, found_one, _ = name.partition(separator)
            if found_one:
                found.add(f"{before}{separator}*")
    return found


def check_paths(entry: ListsEntry | None, marks: Marks, known: frozenset[str]) -> Iterator[Problem]:
    """Paths that no request can have, and near misses of known ones."""
    if entry is None:
        return
    for key, paths in (("allow", entry.allow or ()), ("deny", entry.deny)):
        for index, path in enumerate(paths):
            if not _is_path(path):
                message = f"'{path}' is not a path as in /v1/embeddings, with {MODEL} in it or * at its end"
                yield marks.problem((key, index), message, suggestion=_plain_path(path))
            elif path not in known and "*" not in path:
                close = difflib.get_close_matches(path, known, n=1, cutoff=_TYPO)
                if close:
                    yield marks.problem((key, index), f"there is no path '{path}'", suggestion=close[0])


def _is_path(text: str) -> bool:
    segments = text.rstrip("*").split("/")[1:]
    dots = any(segment and not segment.strip(".") for segment in segments)
    return bool(text) and _PATH.fullmatch(text) is not None and not dots and text.count(MODEL) <= 1


def _plain_path(path: str) -> str | None:
    plain = "/" + re.sub(r"/+", "/", path.strip()).strip("/")
    return plain if plain != path and _is_path(plain) else None


def check_ranges(ranges: Iterable[str], marks: Marks) -> Iterator[Problem]:
    """What is not a network, or is one with host bits set."""
    for index, text in enumerate(ranges):
        try:
            network = ip_network(text)
        except ValueError:
            message = f"'{text}' is not an address or a network as in 10.0.0.0/8 or 2001:db8::/32"
            yield marks.problem((index,), message, suggestion=_network(text))
            continue
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
            yield marks.problem((index,), f"'{text}': write the IPv4 network; mapped addresses are taken as IPv4")


def _network(text: str) -> str | None:
    """The network that was probably meant: host bits cleared, missing octets as 0."""
    address, slash, length = text.strip().partition("/")
    octets = address.rstrip(".").split(".")
    if slash and 1 <= len(octets) < 4 and ":" not in address:
        address = ".".join([*octets, *("0" for _ in range(4 - len(octets)))])
    try:
        return str(ip_network(f"{address}{slash}{length}", strict=False))
    except ValueError:
        return None
