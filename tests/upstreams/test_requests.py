"""Request heads, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.upstreams.requests import declared_length, request_head


def test_head_is_the_callers_fields_between_host_and_framing():
    """Order, case and repeats are kept."""
    head = request_head("POST", "/v1/x?a=b", "h:1", CIMultiDict([("B", "1"), ("a", ""), ("b", "2")]), b"xyz")
    assert head == b"POST /v1/x?a=b HTTP/1.1\r\nhost: h:1\r\nB: 1\r\na: \r\nb: 2\r\ncontent-length: 3\r\n\r\n"


def test_bytes_that_are_not_utf8_survive():
    """What was read with surrogateescape is written back as it was."""
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert b"x: caf\xe9\r\n" in request_head("GET", "/", "h", CIMultiDict({"x": value}), None)


@given(st.text(max_size=20), st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=20)), max_size=5))
def test_no_input_adds_a_line(path, fields):
    """Whatever the caller lets through: as many lines as fields, or a ValueError."""
    try:
        head = request_head("POST", "/" + path, "h", CIMultiDict(fields), b"")
    except (ValueError, UnicodeEncodeError):
        return
    lines = head.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert len(lines) <= len(fields) + 5
    assert all(b"\r" not in line and b"\n" not in line for line in lines)
    assert lines[0].count(b" ") == 2


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("12", 12), ("-1", None), ("+1", None), ("\u0661", None), ("1,1", None)]
)
def test_declared_length_takes_digits_only(value, expected):
    """Anything else is sent chunked."""
    assert declared_length(CIMultiDict() if value is None else CIMultiDict({"content-length": value})) == expected
