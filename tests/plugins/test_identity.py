"""Who is calling."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.identity.plugin import IdentityPlugin, IdentitySettings
from proxy.config.schema import CapturedHost
from proxy.errors import Refusal
from proxy.exchange import ListenerKind
from proxy.forwarding import own_headers
from proxy.identities import IdentityKind
from proxy.operations import MODELS, PLAIN, UNMETERED
from proxy.payments.settings import Payments
from tests.support.fakes import KEY, Rest, exchange, generation, origin

OTHER = "lld_" + "f" * 32
BALANCE = "bal_" + "b" * 43
FOREIGN = {"authorization": "Bearer sk-own"}
CAPTURED = CapturedHost("api.openai.com", "openai", ("authorization",), ())
AZURE = CapturedHost("*.openai.azure.com", "azure", ("api-key",), ())
AT_CAPTURE = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="api.openai.com", captured_port=443)


class Keys:
    """One known key."""

    def lookup(self, key: str) -> Any:
        if key != KEY:
            return None
        return SimpleNamespace(key_id="key_1", user="ann", team="default", tier=None, caps=(), name="")


def plugin() -> IdentityPlugin:
    return IdentityPlugin(IdentitySettings(), SimpleNamespace(keys=Keys()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY},
        {"authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()},
        {"authorization": f"Bearer {KEY}", "x-api-key": KEY},
    ],
)
async def test_key_is_found_wherever_a_client_may_put_it(headers: dict[str, str]) -> None:
    """Bearer, X-API-Key, Basic, or the same key twice: the same identity, with the team's organisation and tier."""
    seen, rest = exchange(headers=headers), Rest()
    await plugin()(seen, rest)
    assert seen.identity is not None
    assert (seen.identity.kind, seen.identity.user, seen.identity.team) == (IdentityKind.KEY, "ann", "default")
    assert (seen.identity.organisation, seen.identity.tier) == ("acme", "standard")
    assert seen.identity.provider_credential is False
    assert set(seen.our_credentials) == {KEY}


@pytest.mark.parametrize(
    "key", [OTHER, KEY.upper(), KEY + "0", KEY[:-1], "lld_" + "g" * 32, "lld_", KEY.replace("lld_", "lld_ ")]
)
async def test_malformed_or_unknown_key_is_401_and_goes_no_further(key: str) -> None:
    """What looks like a key of ours but is none is refused, also on loopback where nobody needs one for `demo`."""
    rest = Rest()
    if not key.startswith("lld_"):
        key = "lld_" + key
    with pytest.raises(Refusal) as refused:
        await plugin()(exchange(headers={"authorization": f"Bearer {key}"}), rest)
    assert (refused.value.code, refused.value.status) == ("invalid_api_key", 401)
    assert rest.seen == []


async def test_two_different_keys_of_ours_are_refused() -> None:
    """Nobody can tell which of two keys is meant to pay."""
    headers = {"authorization": f"Bearer {KEY}", "x-api-key": OTHER}
    with pytest.raises(Refusal) as refused:
        await plugin()(exchange(headers=headers), Rest())
    assert refused.value.code == "invalid_request"


async def test_dummy_key_on_loopback_is_nobody() -> None:
    """A Bearer that is not ours counts as no credential: an SDK's placeholder reaches open models on loopback."""
    seen = exchange(headers={"authorization": "Bearer sk-anything"})
    await plugin()(seen, Rest())
    assert seen.identity is not None
    assert seen.identity.kind is IdentityKind.ANONYMOUS


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-anything"}])
async def test_off_loopback_without_our_key_is_401(headers: dict[str, str]) -> None:
    """Nobody reaches the operator's keys anonymously."""
    away = origin(peer="192.0.2.7", loopback=False)
    with pytest.raises(Refusal) as refused:
        await plugin()(exchange(headers=headers, at=away), Rest())
    assert refused.value.code == "invalid_api_key"


async def test_local_endpoints_need_no_key_anywhere() -> None:
    """The public catalogue and health are for everybody."""
    seen = exchange(operation=MODELS, at=origin(peer="192.0.2.7", loopback=False))
    await plugin()(seen, Rest())
    assert seen.identity is not None
    assert seen.identity.kind is IdentityKind.ANONYMOUS


async def test_captured_our_key_in_the_providers_header_is_swapped() -> None:
    """A key of ours in the provider's own header uses the operator's credential."""
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="x.openai.azure.com")
    seen = exchange(at=at, captured=AZURE, headers={"api-key": KEY})
    await plugin()(seen, Rest())
    assert seen.identity is not None
    assert seen.identity.provider_credential is False


async def test_captured_proxy_key_beside_own_provider_key_is_bring_your_own() -> None:
    """Our key in the proxy credentials identifies; the client's provider key is what goes upstream."""
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="api.openai.com", proxy_credential=KEY)
    seen = exchange(at=at, captured=CAPTURED, headers={"authorization": "Bearer sk-own"})
    await plugin()(seen, Rest())
    assert seen.identity is not None
    assert (seen.identity.kind, seen.identity.provider_credential) == (IdentityKind.KEY, True)


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {BALANCE}"}, {"x-whatever": BALANCE}])
async def test_captured_balance_is_kept_from_providers(headers: dict[str, str]) -> None:
    """It is money with us, and no key of theirs; where nothing is sold, it is a stranger's word like any other."""
    under = replace(generation(default_team="default"), payments=Payments())
    with pytest.raises(Refusal) as refused:
        await plugin()(exchange(at=AT_CAPTURE, captured=CAPTURED, headers=headers, under=under), Rest())
    assert refused.value.code == "payment_not_accepted"
    assert BALANCE not in refused.value.message
    own = {"authorization": "Bearer sk-own", **headers}
    await plugin()(
        exchange(at=AT_CAPTURE, captured=CAPTURED, headers=own, under=generation(default_team="default")), Rest()
    )


@pytest.mark.parametrize("operation", [UNMETERED, MODELS])
async def test_captured_own_key_alone_is_the_default_teams(operation: Any) -> None:
    """Where the listener names a default team, a provider key alone is accounted to it."""
    seen = exchange(
        operation=operation,
        at=AT_CAPTURE,
        captured=CAPTURED,
        headers={"authorization": "Bearer sk-own"},
        under=generation(default_team="default"),
    )
    await plugin()(seen, Rest())
    assert seen.identity is not None
    assert (seen.identity.kind, seen.identity.team) == (IdentityKind.OWN_KEY, "default")


async def test_captured_own_key_without_default_team_is_refused() -> None:
    """No default team: somebody has to say who they are."""
    with pytest.raises(Refusal) as refused:
        await plugin()(exchange(at=AT_CAPTURE, captured=CAPTURED, headers={"authorization": "Bearer sk-own"}), Rest())
    assert refused.value.code == "invalid_api_key"


async def test_captured_without_any_credential_is_refused_even_on_loopback() -> None:
    """`demo` is open on the reverse listener only."""
    with pytest.raises(Refusal) as refused:
        await plugin()(exchange(at=AT_CAPTURE, captured=CAPTURED, under=generation(default_team="default")), Rest())
    assert refused.value.code == "invalid_api_key"


async def test_key_of_a_team_that_is_gone_is_refused() -> None:
    """A key outlives its team in the store, not in its rights."""
    from tests.support.fakes import team

    seen = exchange(headers={"x-api-key": KEY}, under=generation(teams=(team("other"),)))
    with pytest.raises(Refusal) as refused:
        await plugin()(seen, Rest())
    assert refused.value.code == "invalid_api_key"


async def test_captured_our_key_in_any_other_header_never_crosses() -> None:
    """A header that this provider does not look at identifies nobody, but the key in it is still ours."""
    seen = exchange(
        at=AT_CAPTURE,
        captured=CAPTURED,
        headers={"authorization": "Bearer sk-own", "api-key": KEY, "cookie": f"a=b; k={OTHER}"},
        under=generation(default_team="default"),
    )
    await plugin()(seen, Rest())
    assert seen.identity is not None and seen.identity.kind is IdentityKind.OWN_KEY
    assert set(seen.our_credentials) == {KEY, OTHER}
    assert not {"api-key", "cookie"} & own_headers(seen).keys()


async def test_captured_our_key_in_the_url_is_refused() -> None:
    """It would stand in the provider's logs."""
    seen = exchange(at=AT_CAPTURE, captured=CAPTURED, headers={"authorization": "Bearer sk-own"})
    seen.request.query = f"key={KEY}"
    with pytest.raises(Refusal) as refused:
        await plugin()(seen, Rest())
    assert refused.value.code == "invalid_request"


async def test_plain_http_with_credentials_of_its_own_needs_no_default_team() -> None:
    """They are the site's business, as within a tunnel."""
    at = origin(listener="capture", kind=ListenerKind.REGULAR, captured_host="example.com", captured_port=80)
    seen = exchange(operation=PLAIN, at=at, headers={"authorization": "Basic YTpi"})
    await plugin()(seen, Rest())
    assert seen.identity is not None and seen.identity.kind is IdentityKind.ANONYMOUS
