"""One proxy for all client tests; each test makes the key it needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.world import World, world


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy in front of scripted OpenAI and Anthropic."""
    with world(tmp_path_factory.mktemp("clients"), listeners={"capture": {"default_team": "default"}}) as running:
        yield running


@pytest.fixture(scope="session")
def key(edge: World) -> str:
    """A key of ours without caps."""
    return edge.gateway.make_key()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes the clients that a test opened."""
    with ExitStack() as stack:
        yield stack
