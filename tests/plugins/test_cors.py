"""Browsers may call: preflights are answered first, every other answer carries the headers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from plugins.cors.plugin import EXPOSED_HEADERS, CorsPlugin, CorsSettings
from proxy.chain import compose, compose_observers
from proxy.errors import Refusal
from proxy.exchange import Exchange, ListenerKind, Response
from proxy.headers import Headers
from proxy.operations import LOCAL, PLAIN, UNMETERED, WEBSOCKET
from tests.support.fakes import Log, Rest, exchange, generation, origin

PAGE = "https://app.example"
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST"}


def plugin(**settings: Any) -> CorsPlugin:
    services: Any = SimpleNamespace(generation=generation())
    return CorsPlugin(CorsSettings(**settings), services)


def preflight(**headers: str) -> Exchange:
    seen = exchange(headers={**PREFLIGHT, **{name.replace("_", "-"): value for name, value in headers.items()}})
    seen.request.method = "OPTIONS"
    return seen


def names(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}


async def test_preflight_is_answered_before_anything_else() -> None:
    """204 without calling the rest: no identity, no limit, no upstream."""
    rest = Rest()
    response = await plugin()(preflight(), rest)

    assert rest.seen == []
    assert (response.status, response.body) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert {"GET", "POST", "OPTIONS"} <= set(response.headers["access-control-allow-methods"].split(", "))
    assert response.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in response.headers


async def test_preflight_allows_what_clients_and_payments_send() -> None:
    """The published list, and what the SDKs need in a browser."""
    response = await plugin()(preflight(), Rest())

    assert {
        "content-type", "authorization", "payment-signature", "x-cashu", "x-api-key", "anthropic-version",
        "anthropic-beta", "anthropic-dangerous-direct-browser-access",
    } <= names(response.headers["access-control-allow-headers"])  # fmt: skip


async def test_headers_of_the_sdks_are_allowed_by_pattern() -> None:
    """x-stainless-* as asked for; others that are asked for are not."""
    asked = "content-type,X-Stainless-Lang, x-stainless-retry-count,x-evil,x-stainless-,x-stainless-a\x1bb"
    response = await plugin()(preflight(access_control_request_headers=asked), Rest())
    allowed = names(response.headers["access-control-allow-headers"])

    assert {"x-stainless-lang", "x-stainless-retry-count"} <= allowed
    assert not {"x-evil", "x-stainless-", "x-stainless-a\x1bb"} & allowed


async def test_long_list_of_asked_headers_is_bounded() -> None:
    """Neither the number nor the length of what is asked for comes back without end."""
    many = ",".join(f"x-stainless-{number}" for number in range(200))
    answered = await plugin()(preflight(access_control_request_headers=many), Rest())
    assert 50 < answered.headers["access-control-allow-headers"].count("x-stainless-") <= 64

    long = ",".join(f"x-stainless-{'a' * 60}{number}" for number in range(1_000))
    answered = await plugin()(preflight(access_control_request_headers=long), Rest())
    assert "x-stainless-" not in answered.headers["access-control-allow-headers"]


async def test_options_without_a_preflights_headers_goes_on() -> None:
    """It is an ordinary request of somebody who is no browser."""
    rest = Rest()
    seen = exchange(headers={"origin": PAGE})
    seen.request.method = "OPTIONS"
    await plugin()(seen, rest)

    assert rest.seen == [seen]


async def test_every_answer_carries_the_headers_and_exposes_ours() -> None:
    """Page or not, so that caches may keep one answer for both."""
    response = await plugin(expose=("x-mine",))(exchange(), Rest())

    assert response.headers["access-control-allow-origin"] == "*"
    exposed = names(response.headers["access-control-expose-headers"])
    assert {name.lower() for name in EXPOSED_HEADERS} <= exposed
    assert {
        "x-route-model", "x-route-category", "payment-required", "www-authenticate", "x-cashu-change", "x-dedup",
        "x-cashu-consumed", "payment-response", "retry-after", "x-tollway-request-id", "x-mine",
    } <= exposed  # fmt: skip


async def test_refusals_carry_the_headers() -> None:
    """A page must be able to read why it was refused."""

    async def refuse(_: Exchange) -> Response:
        raise Refusal("invalid_api_key", "no")

    response = await compose([plugin()], refuse, Log())(exchange())
    assert (response.status, response.headers["access-control-allow-origin"]) == (401, "*")


async def test_fault_of_ours_carries_the_headers() -> None:
    """A 500, too."""

    async def fail(_: Exchange) -> Response:
        raise RuntimeError

    response = await compose([plugin()], fail, Log())(exchange())
    assert (response.status, response.headers["access-control-allow-origin"]) == (500, "*")


@pytest.mark.parametrize("code", ["method_not_allowed", "not_found", "invalid_path", "draining"])
async def test_preflight_of_a_refused_request_is_answered_so_that_the_refusal_can_be_read(code: str) -> None:
    """The operation table knows no OPTIONS; the exchange is not recorded as refused."""
    seen = preflight()
    seen.refusal = Refusal(code, "no")

    async def refuse(refused: Exchange) -> Response:
        raise refused.refusal or AssertionError

    response = await compose_observers([plugin()], refuse, Log())(seen)
    assert (response.status, seen.refusal) == (204, None)


@pytest.mark.parametrize("code", ["invalid_header", "headers_too_large", "misdirected_request"])
async def test_malformed_preflight_stays_refused(code: str) -> None:
    """What cannot be trusted is not answered."""
    seen = preflight()
    seen.refusal = Refusal(code, "no")

    async def refuse(refused: Exchange) -> Response:
        raise refused.refusal or AssertionError

    response = await compose_observers([plugin()], refuse, Log())(seen)
    assert response.status >= 400
    assert response.headers["access-control-allow-origin"] == "*"


async def test_named_origin_is_echoed_and_caches_are_told() -> None:
    """Vary: Origin on every answer, allowed or not."""
    only = plugin(origins=(PAGE,), credentials=True)
    answered = await only(preflight(), Rest())
    response = await only(exchange(headers={"origin": PAGE}), Rest())

    for one in (answered, response):
        assert one.headers["access-control-allow-origin"] == PAGE
        assert one.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in one.headers.getall("vary")


@pytest.mark.parametrize(
    "other", ["https://evil.example", "https://app.example.evil", "HTTPS://APP.EXAMPLE", "null", ""]
)
async def test_other_origin_gets_no_permission(other: str) -> None:
    """Compared exactly; the request itself is answered, the browser keeps it from the page."""
    only = plugin(origins=(PAGE,))
    answered = await only(preflight(origin=other), Rest())
    response = await only(exchange(headers={"origin": other}), Rest())

    for one in (answered, response):
        assert not [name for name in one.headers if name.lower().startswith("access-control-")]
        assert "Origin" in one.headers.getall("vary")


async def test_vary_of_the_answer_is_kept() -> None:
    """Ours is added beside it."""
    upstream = Response(200, Headers({"vary": "Accept-Encoding", "access-control-allow-origin": "https://x"}))
    response = await plugin(origins=(PAGE,))(exchange(headers={"origin": PAGE}), Rest([upstream]))

    assert response.headers.getall("vary") == ["Accept-Encoding", "Origin"]
    assert response.headers.getall("access-control-allow-origin") == [PAGE]


async def test_upstreams_own_headers_stand_on_unmetered_paths() -> None:
    """What passes untouched keeps its provider's word."""
    upstream = Response(200, Headers({"access-control-allow-origin": "https://console.example"}))
    response = await plugin()(exchange(operation=UNMETERED), Rest([upstream]))

    assert dict(response.headers) == {"access-control-allow-origin": "https://console.example"}


@pytest.mark.parametrize("operation", [PLAIN, WEBSOCKET])
async def test_traffic_of_others_is_left_alone(operation: Any) -> None:
    """No answer of ours, no header of ours."""
    seen, rest = preflight(), Rest()
    seen.operation = operation
    response = await plugin()(seen, rest)

    assert rest.seen == [seen]
    assert "access-control-allow-origin" not in response.headers


async def test_no_page_may_read_the_admin_listener() -> None:
    """An operator's browser on the same machine is no way to metrics."""
    response = await plugin()(exchange(operation=LOCAL, at=origin(kind=ListenerKind.ADMIN)), Rest())

    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "settings",
    [
        {"origins": ("app.example",)},
        {"origins": ("https://app.example/",)},
        {"origins": ("https://*.example",)},
        {"origins": ("*", PAGE)},
        {"origins": ()},
        {"credentials": True},
        {"headers": ("x y",)},
        {"expose": ("x\r\ny",)},
        {"methods": ("",)},
        {"max_age_seconds": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """At start, not in a browser."""
    with pytest.raises(ValidationError):
        CorsSettings(**settings)
