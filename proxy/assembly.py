"""From the configured chain to plugins, and from plugins to the endpoints that they bring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from fastapi.routing import APIRoute
from pydantic import ValidationError

from proxy import discovery
from proxy.chain import ChainError, check
from proxy.config.schema import Generation
from proxy.endpoints.bodies import body_bytes_max_of
from proxy.operation_table import KnownPath
from proxy.operations import LOCAL
from proxy.paths import ID, is_endpoint
from proxy.plugin import Plugin


class StartError(Exception):
    """The gateway cannot start; the message says what to change."""


def build_plugins(generation: Generation, services: Any) -> list[Plugin[Any]]:
    """The configured plugins, in the file's order. Raises StartError."""
    plugins: list[Plugin[Any]] = []
    for name, settings in generation.chain:
        try:
            kind = discovery.find(name)
            plugins.append(kind(kind.Settings.model_validate(settings), services))
        except (discovery.UnknownPlugin, ValidationError) as error:
            raise StartError(f"chain: plugin '{name}': {error}") from error
    try:
        check(plugins)
    except ChainError as error:
        raise StartError(f"chain: {error}") from error
    return plugins


def endpoints_of(plugins: Iterable[Plugin[Any]]) -> Iterator[KnownPath]:
    """The paths of the plugins' own endpoints, as the operation table knows them. Raises StartError."""
    methods: dict[str, set[str]] = {}
    bodies: dict[str, int] = {}
    for plugin in plugins:
        router = plugin.router()
        for route in router.routes if router is not None else ():
            if not isinstance(route, APIRoute) or not is_endpoint(route.path):
                path = getattr(route, "path", route)
                raise StartError(
                    f"plugin '{plugin.name}': its endpoint {path!r} is not a plain lower-case path, with {ID} in it "
                    "once at most"
                )
            methods.setdefault(route.path, set()).update(route.methods or ())
            bodies[route.path] = max(bodies.get(route.path, 0), body_bytes_max_of(route))
    for path, answered in methods.items():
        longest = bodies[path]
        operation = LOCAL if longest == LOCAL.body_bytes_max else replace(LOCAL, body_bytes_max=longest)
        yield KnownPath(path, operation, tuple(sorted(answered)))
