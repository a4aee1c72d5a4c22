"""One proxy with panels for the tests that need nothing of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.panel_world import Cast, PanelWorld, panel_world


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    """A running proxy, and the scripted provider of its members."""
    with panel_world(tmp_path_factory.mktemp("panels")) as running:
        yield running


@pytest.fixture(scope="session")
def key(house: PanelWorld) -> str:
    """Of ours, without caps."""
    return house.world.gateway.make_key(user="ann")


@pytest.fixture
def cast(house: PanelWorld) -> Cast:
    """Who plays in this test; everybody agrees until told otherwise."""
    return house.stage()
