"""From a name in config.yaml to a plugin class; the proxy knows no plugin by name."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from typing import Any

from proxy.plugin import Plugin

ENTRY_POINT_GROUP = "tollway.plugins"
_BUILT_IN = "plugins"


class UnknownPlugin(Exception):
    """No plugin of that name; the message says what was tried."""


def built_in() -> tuple[str, ...]:
    """Short names of the plugins that ship."""
    package = importlib.import_module(_BUILT_IN)
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg))


def known() -> tuple[str, ...]:
    """Every short name that config.yaml may use: built-in plugins and entry points."""
    return tuple(sorted({*built_in(), *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def find(name: str) -> type[Plugin[Any]]:
    """The class behind a short name, an entry point, or `package.module:Class`. Raises UnknownPlugin."""
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        return _checked(name, _attribute(name, module_name, attribute))
    if name in built_in():
        return _checked(name, _attribute(name, f"{_BUILT_IN}.{name}.plugin", "PLUGIN"))
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return _checked(name, point.load())
    raise UnknownPlugin(f"there is no plugin '{name}': known are {', '.join(known())}, or write package.module:Class")


def _attribute(name: str, module_name: str, attribute: str) -> Any:
    try:
        module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownPlugin(f"plugin '{name}' cannot be imported: {error}") from error


def _checked(name: str, found: Any) -> type[Plugin[Any]]:
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise UnknownPlugin(f"'{name}' is not a Plugin class")
    return found
