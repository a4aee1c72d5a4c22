"""Counterparts of payments for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.paid.crashing import Crashes
from tests.support.ways_to_pay import Counterparts


@pytest.fixture(scope="session")
def counterparts() -> Iterator[Counterparts]:
    """Each is started when first asked for, and ended here."""
    with ExitStack() as stack:
        yield Counterparts(stack)


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory, counterparts: Counterparts) -> Iterator[Crashes]:
    """Shops to be killed; in the end their books hold."""
    with ExitStack() as stack:
        made = Crashes(stack, counterparts, tmp_path_factory.mktemp("crashes"))
        yield made
        made.prove()
