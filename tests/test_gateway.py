"""Building from a configuration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter

from proxy.assembly import StartError, build_plugins, endpoints_of
from proxy.exchange import Request
from proxy.gateway import Gateway
from proxy.headers import Headers
from proxy.listeners.api import Arrival
from proxy.operation_table import OperationTable
from proxy.operations import LOCAL
from proxy.telemetry.metrics import Metrics
from proxy.upstreams.health import UpstreamStates
from tests.support.fakes import Body, FakeClock, Log, generation, origin
from tests.support.ledger import MemoryLedger

FULL = ("identity", "catalogue", "team_policy", "pricing", "spend_caps", "routing", "metering")


def chained(*names: str, **settings: dict[str, Any]) -> Any:
    from dataclasses import replace

    return replace(generation(), chain=tuple((name, settings.get(name, {})) for name in names))


def services() -> Any:
    """What plugins are made with."""
    clock = FakeClock()
    return SimpleNamespace(
        clock=clock, log=Log(), metrics=Metrics(), ledger=MemoryLedger(), states=UpstreamStates(clock),
        generation=generation(),
    )  # fmt: skip


class WithEndpoint:
    """As much of a plugin as has endpoints."""

    name = "hello"

    def __init__(self, path: str) -> None:
        self._router = APIRouter()

        @self._router.get(path)
        async def hello() -> str:
            return "hello"

    def router(self) -> APIRouter:
        return self._router


def test_chain_of_the_file_is_built_in_its_order() -> None:
    """Names become plugins."""
    assert [plugin.name for plugin in build_plugins(chained(*FULL), services())] == list(FULL)


@pytest.mark.parametrize("left_out", FULL)
def test_chain_without_a_money_plugin_does_not_start(left_out: str) -> None:
    """Removing a plugin closes the priced path."""
    with pytest.raises(StartError, match="chain"):
        build_plugins(chained(*(name for name in FULL if name != left_out)), services())


def test_unknown_plugin_and_unknown_setting_stop_the_start() -> None:
    """Each says which."""
    with pytest.raises(StartError, match="no plugin 'nope'"):
        build_plugins(chained("nope", *FULL), services())
    with pytest.raises(StartError, match="attempts_maximum"):
        build_plugins(chained(*FULL, routing={"attempts_maximum": 3}), services())


def test_endpoint_of_a_plugin_is_known_to_the_operation_table() -> None:
    """Its path resolves to a local operation, other methods to 405."""
    from proxy.exchange import ListenerKind

    table = OperationTable(endpoints_of([WithEndpoint("/v1/hello")]))  # type: ignore[list-item]
    assert table.resolve("GET", "/v1/hello", None, ListenerKind.REVERSE).operation is LOCAL


def test_endpoint_of_a_plugin_may_take_a_longer_body() -> None:
    """What its route says of itself; every other one takes what all endpoints take."""
    from fastapi import APIRouter

    from proxy.endpoints.bodies import body_bytes_max

    class WithLongBody:
        name = "long"

        def router(self) -> APIRouter:
            routes = APIRouter()
            routes.post("/v1/long", openapi_extra=body_bytes_max(1 << 20))(lambda: None)
            routes.get("/v1/{id}/long")(lambda id: {})  # noqa: A006
            return routes

    known = {path.template: path for path in endpoints_of([WithLongBody()])}  # type: ignore[list-item]
    assert known["/v1/long"].operation.body_bytes_max == 1 << 20
    assert known["/v1/{id}/long"].operation is LOCAL


def test_endpoint_with_an_odd_path_stops_the_start() -> None:
    """What the table could not guard is not served."""
    with pytest.raises(StartError, match="hello"):
        list(endpoints_of([WithEndpoint("/v1/Hello/{name}")]))  # type: ignore[list-item]


@pytest.mark.parametrize("path", ["/v1/chat/completions/health", "/x/health"])
def test_while_draining_nothing_but_health_is_taken(path: str) -> None:
    """A path that merely ends so is no health."""
    gateway = Gateway(generation(), log=Log())
    gateway._operations = OperationTable()
    gateway._accepting = False

    def arrive(path: str) -> Any:
        request = Request(method="GET", path=path, headers=Headers(), reader=Body())
        return gateway._open(Arrival(origin(), request))

    assert arrive("/v1/health").refusal is None
    refusal = arrive(path).refusal
    assert refusal is not None and refusal.code == "draining"
