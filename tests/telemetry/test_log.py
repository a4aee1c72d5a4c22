"""The log is JSON lines on one stream, ours and the libraries', with nothing secret in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from proxy.telemetry.log import QUIET_LIBRARIES, get_logger, setup_logging

KEY = "lld_0123456789abcdef0123456789abcdef"


class FixedClock:
    """Always the same moment."""

    def now_ms(self) -> int:
        return 1_700_000_000_123

    def monotonic(self) -> float:
        return 1.0


@pytest.fixture
def stream() -> Iterator[io.BytesIO]:
    """The log set up on a stream of the test's; what was configured before is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = io.BytesIO()
    setup_logging("info", stream=written, clock=FixedClock())
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_one_json_line(stream: io.BytesIO) -> None:
    """With its level, the clock's time, the logger's name and its fields."""
    get_logger("ledger").warning("soft_cap_crossed", scope="team", limit_nano=5)

    assert lines(stream) == [
        {
            "event": "soft_cap_crossed",
            "level": "warning",
            "component": "ledger",
            "at_ms": 1_700_000_000_123,
            "scope": "team",
            "limit_nano": 5,
        }
    ]


def test_line_breaks_in_values_make_no_second_line(stream: io.BytesIO) -> None:
    """A forged line stays inside its own, visibly."""
    get_logger().error('x\r\n{"event": "forged"}', path="/a\nb\x1b[1m")

    assert stream.getvalue().count(b"\n") == 1
    assert lines(stream)[0]["path"] == "/a\\nb\\x1b[1m"


def test_level_below_the_configured_one_is_not_written(stream: io.BytesIO) -> None:
    """INFO configured: DEBUG is dropped, INFO is written."""
    get_logger().debug("hidden")
    get_logger().info("shown")

    assert [line["event"] for line in lines(stream)] == ["shown"]


def test_unknown_level_is_refused() -> None:
    """With the levels there are."""
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        setup_logging("loud")


def test_traceback_is_logged_without_the_secrets_in_it(stream: io.BytesIO) -> None:
    """Messages of an exception, of its cause and its notes are searched, local variables are not shown."""

    def fail() -> None:
        prompt = "CANARY-local"
        try:
            raise ValueError(f"upstream refused Bearer {KEY}")
        except ValueError as cause:
            error = RuntimeError(f'body was {{"content": "CANARY {len(prompt)}"}}')
            error.add_note(f"key {KEY}")
            raise error from cause

    try:
        fail()
    except RuntimeError as error:
        get_logger().error("exchange_failed", request_id="req_1", exc_info=error)

    line = lines(stream)[0]
    assert "RuntimeError" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "\n" in line["exception"]
    assert b"CANARY" not in stream.getvalue()
    assert KEY[4:].encode() not in stream.getvalue()


def test_bound_fields_are_redacted_too(stream: io.BytesIO) -> None:
    """What is bound once goes the same way as what is given with an event."""
    get_logger().bind(authorization=f"Bearer {KEY}").info("x", headers={"X-Api-Key": "CANARY"})

    assert b"CANARY" not in stream.getvalue()
    assert KEY.encode() not in stream.getvalue()


@pytest.mark.parametrize("name", QUIET_LIBRARIES)
def test_libraries_come_through_our_log_from_warning_up(stream: io.BytesIO, name: str) -> None:
    """Their INFO is not wanted; their WARNING is redacted."""
    logging.getLogger(name).info("chatter")
    logging.getLogger(f"{name}.inner").warning("refused %s", f"Bearer {KEY}")

    assert [("library", f"{name}.inner", "refused Bearer [redacted]")] == [
        (line["event"], line["component"], line["message"]) for line in lines(stream)
    ]


def test_record_with_wrong_arguments_is_still_written(stream: io.BytesIO) -> None:
    """A library's mistake in a format string loses no line and prints nothing elsewhere."""
    setup_logging("info", stream=stream, clock=FixedClock())  # pytest has put a handler of its own beside ours
    logging.getLogger("aiohttp").warning("%d items", "CANARY")

    assert [line["message"] for line in lines(stream)] == ["%d items"]


async def test_exception_that_nobody_awaited_reaches_the_log_redacted(stream: io.BytesIO) -> None:
    """asyncio reports through its own logger."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": ValueError(f"bad key {KEY}")}
    )

    line = lines(stream)[0]
    assert (line["level"], line["component"]) == ("error", "asyncio")
    assert KEY not in stream.getvalue().decode()
    assert "ValueError" in line["exception"]


def test_python_warnings_come_through_our_log(stream: io.BytesIO) -> None:
    """They would otherwise go to stderr as plain text."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(f"deprecated {KEY}", stacklevel=1)

    assert [line["component"] for line in lines(stream)] == ["py.warnings"]
    assert KEY.encode() not in stream.getvalue()


def test_lone_surrogate_is_written_as_a_question_mark(stream: io.BytesIO) -> None:
    """Text that UTF-8 cannot carry still makes a line."""
    get_logger().warning("odd", path="/\ud800", nested={"a": ["\udfff"]})

    assert (lines(stream)[0]["path"], lines(stream)[0]["nested"]["a"]) == ("/?", ["?"])


def test_large_integer_is_written(stream: io.BytesIO) -> None:
    """An amount beyond 64 bits still makes a line."""
    get_logger().warning("big", amount=2**70)

    assert str(2**70) == lines(stream)[0]["amount"]


def test_setting_up_twice_writes_each_record_once(stream: io.BytesIO) -> None:
    """The handler on the root logger is replaced, not added to."""
    setup_logging("info", stream=stream, clock=FixedClock())
    logging.getLogger("mitmproxy").warning("once")

    assert len(lines(stream)) == 1


class _Full(io.BytesIO):
    """A disk that takes nothing until it is told to."""

    full = True

    def flush(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_raises_nothing(stream: io.BytesIO) -> None:
    """Exchanges go on, and so does the log once it can be written."""
    full = _Full()
    setup_logging("info", stream=full, clock=FixedClock())
    get_logger().error("lost")
    logging.getLogger("library").error("lost, too")
    full.full = False
    get_logger().info("written")
    assert lines(full)[-1]["event"] == "written"
