"""What is free although payment is asked for elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.client_addresses import parse
from proxy.payments.free import is_free
from tests.support.fakes import exchange, model, origin


@pytest.mark.parametrize(
    ("loopback", "named", "open_", "free"),
    [
        (True, None, True, True),
        (True, "127.0.0.1", True, True),
        (True, "::1", True, True),
        (True, "203.0.113.9", True, False),
        (False, "203.0.113.9", True, False),
        (False, None, True, False),
        (True, "127.0.0.1", False, False),
    ],
)
def test_open_models_are_free_on_this_machine_alone(loopback: bool, named: str | None, open_: bool, free: bool) -> None:
    """Not for the world behind a front that stands on it."""
    seen = exchange(at=origin(loopback=loopback))
    seen.model = replace(model("demo"), open=open_)
    seen.client_address = None if named is None else parse(named)
    assert is_free(seen) is free
