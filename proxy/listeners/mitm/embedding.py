"""mitmproxy as a library: the one version, the options set from code, and none of its addons.

A `Master` would import all addons (40 MB, a web server and a flow store among them) and answer hooks by
them; hooks are answered by `hooks` here, so the layers need nothing but `Options`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from mitmproxy import version
from mitmproxy.options import Options

VERSION: Final = "12.2.3"
"""The layers are internal to mitmproxy and change without notice; 12.3 embeds a compromised CA's key."""

SETTINGS: Final[dict[str, Any]] = {"mode": [], "server": False, "http3": False, "rawtcp": False, "websocket": False}
"""The only options that are ever set, whatever config.yaml says, beside `confdir`."""
ADDED: Final[dict[str, tuple[type, Any]]] = {
    "connection_strategy": (str, "lazy"),
    "keep_host_header": (bool, True),
    "validate_inbound_headers": (bool, True),
    "store_streamed_bodies": (bool, False),
}
"""Options that addons would define; layers that ask for them find the safe value."""
_FORBIDDEN: Final = "emudhra"


class EmbeddingError(Exception):
    """This mitmproxy cannot be used."""


def make_options(confdir: Path) -> Options:
    """Options for every layer. Raises EmbeddingError if they are not what the layers here were written for."""
    if version.VERSION != VERSION:
        raise EmbeddingError(f"mitmproxy {version.VERSION} is installed; this engine is written for {VERSION}")
    logging.getLogger("mitmproxy").setLevel(logging.WARNING)
    options = Options()
    for name, (kind, value) in ADDED.items():
        options.add_option(name, kind, value, "")
    options.update(confdir=str(confdir), **SETTINGS)  # type: ignore[no-untyped-call]
    check_options(options)
    return options


def check_options(options: Options) -> None:
    """Raises EmbeddingError unless every option is at its default or at the value of `SETTINGS`."""
    for name in options.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118
        if _FORBIDDEN in name:
            raise EmbeddingError(f"mitmproxy has the option {name}, which signs with a compromised CA")
        if name == "confdir":
            continue
        value, wanted = getattr(options, name), SETTINGS.get(name, options.default(name))
        if value != wanted:
            raise EmbeddingError(f"the mitmproxy option {name} is {value!r}, not {wanted!r}")
