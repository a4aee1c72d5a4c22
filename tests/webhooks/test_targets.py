"""Where a webhook may go."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from proxy import addresses
from proxy.webhooks import targets
from proxy.webhooks.settings import WebhookRules
from proxy.webhooks.targets import BadTarget, check, parse

RULES = WebhookRules()


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://hooks.example.com/a/b?c=d&e=%20", "hooks.example.com", 443, "/a/b?c=d&e=%20"),
        ("https://hooks.example.com", "hooks.example.com", 443, "/"),
        ("https://hooks.example.com?x=1", "hooks.example.com", 443, "/?x=1"),
        ("https://hooks.example.com:8443/", "hooks.example.com", 8443, "/"),
        ("https://[2606:4700::1111]/x", "2606:4700::1111", 443, "/x"),
        ("https://93.184.216.34/x", "93.184.216.34", 443, "/x"),
    ],
)
def test_plain_public_url_is_taken(url: str, host: str, port: int, target: str) -> None:
    """With its query, which a request's target keeps."""
    found = parse(url, RULES)
    assert (found.host, found.port, found.target, found.private) == (host, port, target, False)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com/#x",
        "https://HOOKS.example.com/",
        "https://hooks.example.com./",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:0/",
        "https://hooks example.com/",
        "https://hooks.example.com/\r\nx: y",
        "https://hooks.example.com/\u00e9",
        "https://hooks.example.com/" + "x" * 2048,
        "https:///x",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "",
    ],
)
def test_anything_else_is_refused_and_not_repeated(url: str) -> None:
    """Nothing is looked up for it."""
    with pytest.raises(BadTarget) as refused:
        parse(url, RULES)
    assert not url or url not in str(refused.value)


@pytest.mark.parametrize(
    ("resolved", "public"),
    [
        (["93.184.216.34"], True),
        (["10.0.0.1"], False),
        (["93.184.216.34", "127.0.0.1"], False),
        (["::1"], False),
        ([], False),
    ],
)
async def test_every_address_of_a_name_has_to_be_public(
    resolved: list[str], public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not spoils the name."""

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [ipaddress.ip_address(text) for text in resolved]

    monkeypatch.setattr(addresses, "resolve", resolve)
    if public:
        assert (await check("https://hooks.example.com/", RULES)).host == "hooks.example.com"
        return
    with pytest.raises(BadTarget, match="public"):
        await check("https://hooks.example.com/", RULES)


async def test_name_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same words: an answer maps no network."""

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        raise OSError

    monkeypatch.setattr(targets, "resolve_public", resolve)
    with pytest.raises(BadTarget, match="public"):
        await check("https://hooks.example.com/", RULES)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/x", "http://localhost:9000/", "http://[::1]:9000/"])
async def test_development_allows_this_very_machine_and_no_other(url: str) -> None:
    """Over http as well, and only where the operator says so."""
    assert (await check(url, WebhookRules(development=True))).private
    with pytest.raises(BadTarget):
        await check(url, RULES)
    for other in ("http://10.0.0.1/", "https://10.0.0.1/", "http://hooks.example.com/"):
        with pytest.raises(BadTarget):
            parse(other, WebhookRules(development=True))


async def test_listed_host_and_port_may_be_private() -> None:
    """That very port, and no other."""
    rules = WebhookRules(allow_private=frozenset({"hooks.internal:8080"}))
    assert (await check("http://hooks.internal:8080/x", rules)).private
    with pytest.raises(BadTarget):
        parse("http://hooks.internal/x", rules)
