"""What becomes of a CONNECT target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.capture import CaptureTable
from proxy.config.schema import CapturedHost
from proxy.connect_policy import CapturePolicy
from proxy.listeners.api import ConnectVerdict
from tests.support.fakes import KEY, generation

CAPTURED = CapturedHost("api.openai.com", "openai", ("authorization",), ())


class Keys:
    def lookup(self, key: str) -> Any:
        return object() if key == KEY else None


def policy(**listener: Any) -> CapturePolicy:
    now = generation(capture=(CAPTURED,))
    entries = tuple(replace(entry, **listener) if entry.name == "capture" else entry for entry in now.listeners)
    now = replace(now, listeners=entries)
    return CapturePolicy(lambda: now, lambda: CaptureTable(now.capture), Keys())  # type: ignore[arg-type]


async def decide(policy: CapturePolicy, host: str, port: int = 443, **fields: Any) -> ConnectVerdict:
    call = {"listener": "capture", "peer": "127.0.0.1", "loopback": True, "credential": None, **fields}
    return await policy.decide(host=host, port=port, **call)


async def test_provider_host_is_captured() -> None:
    """On loopback without credentials."""
    assert (await decide(policy(), "api.openai.com")).action == "capture"


@pytest.mark.parametrize("host", ["api.openai.com", "127.0.0.1", "8.8.8.8"])
async def test_off_loopback_without_credentials_is_407_tunnels_included(host: str) -> None:
    """Nobody uses us as an open relay."""
    verdict = await decide(policy(), host, loopback=False)
    assert verdict.refusal is not None
    assert (verdict.action, verdict.refusal.status) == ("refuse", 407)
    assert "proxy-authenticate" in verdict.refusal.headers


async def test_wrong_credentials_are_407_even_on_loopback() -> None:
    """A typo is answered, not ignored."""
    verdict = await decide(policy(), "api.openai.com", credential="lld_wrong")
    assert verdict.refusal is not None and verdict.refusal.status == 407


async def test_right_credentials_off_loopback_capture() -> None:
    """A key of ours opens the way."""
    assert (await decide(policy(), "api.openai.com", loopback=False, credential=KEY)).action == "capture"


async def test_other_hosts_are_refused_where_the_listener_says_so() -> None:
    """other_targets: refuse."""
    verdict = await decide(policy(other_targets="refuse"), "8.8.8.8")
    assert verdict.refusal is not None and verdict.refusal.status == 403


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "::1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0",
     "::ffff:127.0.0.1", "fe80::1", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::", "100.64.0.1", "224.0.0.1",
     "0x7f.1", "2130706433", "no-such-host.invalid"],
)  # fmt: skip
async def test_private_targets_are_refused_in_every_spelling(host: str) -> None:
    """Loopback, private, link-local, shared, multicast, wrapped, or not to be resolved."""
    verdict = await decide(policy(), host)
    assert verdict.refusal is not None
    assert (verdict.action, verdict.refusal.code) == ("refuse", "target_not_allowed")


@pytest.mark.parametrize("entry", ["127.0.0.1:8443", "127.0.0.1", "127.0.0.0/8", "localhost:8443"])
async def test_listed_private_target_is_tunnelled_to_its_pinned_address(entry: str) -> None:
    """By name, address or network; only on the port that is listed."""
    host = "localhost" if entry.startswith("localhost") else "127.0.0.1"
    verdict = await decide(policy(allow_targets=(entry,)), host, 8443)
    assert verdict.action == "tunnel"
    assert verdict.address is not None and verdict.address[1] == 8443
    if entry.endswith(":8443"):
        assert (await decide(policy(allow_targets=(entry,)), host, 22)).action == "refuse"


async def test_public_address_is_tunnelled_pinned() -> None:
    """The address connected to is the one tested."""
    verdict = await decide(policy(), "8.8.8.8")
    assert (verdict.action, verdict.address) == ("tunnel", ("8.8.8.8", 443))


async def test_this_machines_model_server_is_not_captured_for_others() -> None:
    """A key of ours is no way to whatever listens on the proxy's loopback."""
    now = generation(capture=(CapturedHost("127.0.0.1", "vllm", ("authorization",), (), ports=(8000,)),))
    asked = CapturePolicy(lambda: now, lambda: CaptureTable(now.capture), Keys())  # type: ignore[arg-type]
    assert (await decide(asked, "127.0.0.1", 8000)).action == "capture"
    verdict = await decide(asked, "127.0.0.1", 8000, loopback=False, credential=KEY)
    assert verdict.refusal is not None
    assert (verdict.action, verdict.refusal.code) == ("refuse", "target_not_allowed")
