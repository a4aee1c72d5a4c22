"""mitmproxy as a library: the one version, the options set from code, no addon that keeps anything."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from mitmproxy import version
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.options import Options

VERSION: Final = "12.2.3"
"""The layers are internal to mitmproxy and change without notice; 12.3 embeds a compromised CA's key."""

SETTINGS: Final[dict[str, Any]] = {
    "mode": [],
    "server": False,
    "http2": True,
    "http3": False,
    "rawtcp": False,
    "websocket": False,
    "connection_strategy": "lazy",
    "validate_inbound_headers": True,
    "keep_host_header": True,
}
"""The only options that are ever set, whatever config.yaml says, beside `confdir`."""
_FORBIDDEN: Final = "emudhra"


class EmbeddingError(Exception):
    """This mitmproxy cannot be used."""


def make_options(confdir: Path) -> Options:
    """Options for every layer. Raises EmbeddingError if they are not what the layers here were written for."""
    if version.VERSION != VERSION:
        raise EmbeddingError(f"mitmproxy {version.VERSION} is installed; this engine is written for {VERSION}")
    for name in ("mitmproxy", "mitmproxy.proxy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    options = Options()
    master = Master(options)
    master._legacy_log_events.uninstall()  # it would run on every log record of the whole process
    master.addons.add(Proxyserver())  # type: ignore[no-untyped-call]
    options.update(confdir=str(confdir), **SETTINGS)  # type: ignore[no-untyped-call]
    check_options(options)
    return options


def check_options(options: Options) -> None:
    """Raises EmbeddingError unless every option is at its default or at the value of `SETTINGS`."""
    for name in options.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118
        if _FORBIDDEN in name:
            raise EmbeddingError(f"mitmproxy has the option {name}, which signs with a compromised CA")
        value = getattr(options, name)
        if name == "confdir":
            continue
        wanted = SETTINGS.get(name, options.default(name))
        if value != wanted:
            raise EmbeddingError(f"the mitmproxy option {name} is {value!r}, not {wanted!r}")
