"""One spelling for each mint."""

from __future__ import annotations

import pytest

from proxy.payments.cashu.urls import is_loopback, mint_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://mint.test", "https://mint.test"),
        ("https://mint.test/", "https://mint.test"),
        ("HTTPS://Mint.TEST:443/Bitcoin//", "https://mint.test/Bitcoin"),
        ("HTTPS://Mint.TEST:443/Bitcoin/", "https://mint.test/Bitcoin"),
        ("https://mint.test.", "https://mint.test"),
        ("https://mint.test:8443/a/b", "https://mint.test:8443/a/b"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:3338/", "http://[::1]:3338"),
    ],
)
def test_spellings_of_one_mint_are_one(text: str, url: str) -> None:
    """Case of scheme and host, a default port and a slash at the end make no difference; the path's case does."""
    assert mint_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mint.test",
        "ftp://mint.test",
        "https://",
        "https://mint.test@evil.test",
        "https://mint.test:pw@evil.test",
        "https://mint.test?x",
        "https://mint.test#x",
        "https://mint.test/../a",
        "https://mint.test/./a",
        "https://mint.test/%2e%2e",
        "https://mint.test//a",
        "https://mint.test\\@evil.test",
        "https://mint.test /a",
        "https://mint.test\n",
        "https://mint\u3002test",
        "https://mint.test:0",
        "https://mint.test:99999",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://" + "a" * 600,
    ],
)
def test_anything_else_is_no_mint(text: str) -> None:
    """Nothing is decoded or mended: what could be read in two ways is refused."""
    assert mint_url(text) is None


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:3338", True),
        ("http://127.9.9.9", True),
        ("http://localhost:3338/a", True),
        ("http://[::1]:3338", True),
        ("http://169.254.169.254", False),
        ("http://127.0.0.1.evil.test", False),
        ("https://mint.test", False),
    ],
)
def test_loopback_is_told_by_name_or_address(url: str, loopback: bool) -> None:
    """Nothing is looked up."""
    assert is_loopback(url) is loopback
