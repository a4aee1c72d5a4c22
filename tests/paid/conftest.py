"""Counterparts of payments for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.ways_to_pay import Counterparts


@pytest.fixture(scope="session")
def counterparts() -> Iterator[Counterparts]:
    """Each is started when first asked for, and ended here."""
    with ExitStack() as stack:
        yield Counterparts(stack)
