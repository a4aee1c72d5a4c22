"""The log: JSON lines on stderr, redacted, for ourselves and for every library that uses `logging`."""

from __future__ import annotations

import logging
import sys
from typing import Any, BinaryIO, Final, cast

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from proxy.clock import Clock, SystemClock
from proxy.telemetry.redact import redact_event

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
QUIET_LIBRARIES: Final = ("mitmproxy", "aiohttp", "asyncio", "hpack", "urllib3", "uvicorn", "httpx", "httpcore")
"""Loggers of libraries, held at WARNING whatever our own level is."""


def setup_logging(level: str = "info", *, stream: BinaryIO | None = None, clock: Clock | None = None) -> Any:
    """Configure once, at start, and return a logger.

    `level` is a key of `LEVELS`; `stream` is stderr unless a test brings its own.
    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"log level '{level}' is not one of {', '.join(LEVELS)}")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _Timestamper(clock or SystemClock()),
            structlog.processors.format_exc_info,
            redact_event,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Lossy(stream or sys.stderr.buffer))),
        cache_logger_on_first_use=False,
    )
    _route_libraries()
    return get_logger()


def get_logger(name: str = "tollway") -> Any:
    """A logger: `log.warning("event_name", field=value)`. Bind what repeats with `log.bind(...)`."""
    return structlog.get_logger(component=name)


class _Lossy:
    """A stream that drops what cannot be written (a full disk, a reader that is gone): a log ends no exchange."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """All of it, or nothing is said."""
        try:
            self._stream.write(data)
        except OSError:
            self.dropped += 1

    def flush(self) -> None:
        """What is buffered stays so until the next line where it cannot be written."""
        try:
            self._stream.flush()
        except OSError:
            self.dropped += 1


class _Timestamper:
    """Adds `at_ms`, milliseconds since the epoch by our own clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["at_ms"] = self._clock.now_ms()
        return event


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    """One JSON line. A lone surrogate, which UTF-8 has no bytes for, is shown as a question mark."""
    try:
        return orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_encodable(event))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value if value is None or isinstance(value, (bool, float)) else str(value)


def _route_libraries() -> None:
    root = logging.getLogger()
    root.handlers[:] = [_IntoOurLog(logging.WARNING)]  # any other one would print what ours redacts
    root.setLevel(logging.WARNING)
    for name in QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _IntoOurLog(logging.Handler):
    """Hands records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            text = str(record.msg)
        log = structlog.get_logger(component=record.name)
        if record.levelno >= logging.ERROR:
            log.error("library", message=text, exc_info=record.exc_info)
        else:
            log.warning("library", message=text, exc_info=record.exc_info)
