"""Captured hosts: patterns, ports and path templates, checked so that none shadows another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.config.addresses import is_host
from proxy.config.policies import CaptureEntry
from proxy.config.problems import Marks, Problem, near
from proxy.config.schema import CapturedHost
from proxy.config.upstreams import Upstreams
from proxy.operations import BY_NAME
from proxy.paths import MODEL, is_template


def build_capture(
    entries: Mapping[str, CaptureEntry], marks: Marks, problems: list[Problem], *, upstreams: Upstreams
) -> tuple[CapturedHost, ...]:
    """One CapturedHost for each host of each entry."""
    hosts: list[CapturedHost] = []
    taken: dict[tuple[str, int], str] = {}
    for name, entry in entries.items():
        part = marks.below(name)
        problems.extend(_problems(entry, part, upstreams))
        paths = tuple(
            (entry.base_path + template, BY_NAME[operation])
            for template, operation in entry.paths.items()
            if operation in BY_NAME
        )
        for index, host in enumerate(entry.hosts):
            pattern = host.lower()
            if not _is_pattern(pattern):
                problems.append(
                    part.problem(
                        ("hosts", index), f"'{host}' is neither a host name nor *.suffix with two labels or more"
                    )
                )
            problems.extend(
                part.problem(("hosts", index), f"'{other}' above already captures {host}:{port}")
                for port in entry.ports
                if (other := taken.setdefault((pattern, port), name)) != name
            )
            hosts.append(
                CapturedHost(
                    pattern=pattern,
                    upstream=entry.upstream,
                    credential_headers=tuple(header.lower() for header in entry.credential_headers),
                    paths=paths,
                    ports=entry.ports,
                    scheme=entry.scheme,
                    base_path=entry.base_path,
                )
            )
    return tuple(hosts)


def _is_pattern(pattern: str) -> bool:
    if pattern.startswith("*."):
        suffix = pattern[2:]
        return is_host(suffix) and "." in suffix
    return is_host(pattern)


def _problems(entry: CaptureEntry, marks: Marks, upstreams: Upstreams) -> Iterator[Problem]:
    known = upstreams.known
    if entry.upstream not in known:
        yield marks.problem(
            ("upstream",),
            f"there is no upstream '{entry.upstream}' in config.yaml",
            suggestion=near(entry.upstream, known),
        )
    if entry.base_path and not is_template(entry.base_path):
        yield marks.problem(("base_path",), "write it as /one/two, without a slash at the end")
    for template, operation in entry.paths.items():
        if not is_template(template):
            yield marks.problem(
                ("paths", template),
                f"write it as /one/two, lower case, with at most one {MODEL} as a segment",
                key=True,
            )
        if operation not in BY_NAME:
            yield marks.problem(
                ("paths", template),
                f"'{operation}' is not one of {', '.join(BY_NAME)}",
                suggestion=near(operation, BY_NAME),
            )
