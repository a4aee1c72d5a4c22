"""HOST:PORT in its spellings."""

from __future__ import annotations

import pytest

from proxy.config.addresses import bind_address, host_port, is_host, is_target


def test_names_and_addresses_with_a_port() -> None:
    """IPv6 comes in brackets and leaves without."""
    assert host_port("example.com:443") == ("example.com", 443)
    assert host_port("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:-1", "host:65536", "::1:80", "a b:80", "[x]:1", "h:\u0661"]
)
def test_anything_else_is_refused(text: str) -> None:
    """With ValueError, never by guessing."""
    with pytest.raises(ValueError, match=r"\w"):
        host_port(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("127.8.8.8:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("10.0.0.1:1", False)],
)  # fmt: skip
def test_loopback_is_told_by_the_address(text: str, loopback: bool) -> None:
    """What is bound everywhere is not loopback."""
    assert bind_address(text)[2] is loopback


def test_targets_may_be_networks_and_bare_hosts() -> None:
    """As `allow_targets` documents."""
    assert all(map(is_target, ("10.0.0.0/8", "fd00::/8", "db.internal:5432", "db.internal", "::1", "[::1]:80")))
    assert not any(map(is_target, ("10.0.0.0/99", "a b", "", "http://x", "x:")))


def test_host_names_are_bounded() -> None:
    """DNS's own limits."""
    assert is_host("a" * 63 + ".example")
    assert not is_host("a" * 64 + ".example")
    assert not is_host(".".join(["a" * 60] * 5))
