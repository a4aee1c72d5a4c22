"""What may be registered."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from proxy import addresses
from proxy.byo.registrations import Invalid, Wanted, check_public, hint_of, parse_base_url
from proxy.config.schema import Byo
from tests.byo.making import SECRET, configured, wanted

RULES = Byo(keys=("k",), upstreams=("openai",))


def refused(**changes: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        wanted(configured(), **changes)
    assert SECRET not in str(caught.value)
    return caught.value


def test_a_configured_upstream_brings_its_own_settings() -> None:
    """Base URL, header and operations are the operator's; the secret is in no repr."""
    found = wanted(configured())
    assert (found.upstream, found.base_url, found.credential_header) == (
        "openai", "https://api.openai.com/v1", "authorization",
    )  # fmt: skip
    assert found.operations == ("chat.completions", "embeddings")
    assert SECRET not in repr(found)


def test_a_base_url_has_a_header_and_operations_of_its_own() -> None:
    """Bearer and OpenAI's formats where nothing is said."""
    plain = wanted(configured(), base_url="https://llm.example.com/v1/")
    assert (plain.base_url, plain.credential_header) == ("https://llm.example.com/v1", "authorization")
    assert plain.operations == ("chat.completions", "embeddings")
    told = wanted(
        configured(), base_url="https://llm.example.com/v1", operations=["messages"], credential_header="x-api-key"
    )
    assert (told.operations, told.credential_header) == (("messages",), "x-api-key")


@pytest.mark.parametrize(
    "alias",
    ["gpt-4o", "byo-", "byo-Gpt", "BYO-gpt", "byo-a b", "byo-a/b", "byo-é", "byo-.a", "byo-a\n", "byo-" + "a" * 61],
)
def test_an_alias_is_byo_and_a_plain_name(alias: str) -> None:
    """So that it can be no model of the catalogue, and stands in a path as it is."""
    assert refused(alias=alias).param == "alias"


@pytest.mark.parametrize(
    "alias", ["byo-openai-gpt-4o", "byo-anthropic-sonnet", "byo-groq-llama-70b", "byo-" + "a" * 60]
)
def test_aliases_as_they_are_sold(alias: str) -> None:
    """The examples of the public API."""
    assert wanted(configured(), alias=alias).alias == alias


@pytest.mark.parametrize(
    "secret", ["", "short", "with space in it", "line\nend-of-it", "é" * 20, "x" * 1025, "a\x00bcdefgh"]
)
def test_a_secret_fits_a_header(secret: str) -> None:
    """No line end can smuggle a header, and the message does not repeat it."""
    error = refused(secret=secret)
    assert error.param == "key"
    assert not secret or secret not in str(error)


def test_a_key_of_ours_is_not_a_providers() -> None:
    """A mistake that would send it away."""
    assert "Tollway's own" in str(refused(secret="lld_" + "0" * 32))


@pytest.mark.parametrize("model", ["", " gpt", "gpt\n", "a\x00b", "m" * 201])
def test_a_model_is_printable(model: str) -> None:
    """It goes into a body and into logs."""
    assert refused(model=model).param == "model"


def test_where_it_is_has_to_be_said_once() -> None:
    """Neither and both are refused; so is a header beside an upstream that has its own."""
    assert refused(upstream=None).param == "upstream"
    with pytest.raises(Invalid, match="either"):
        Wanted.parse(
            configured(), alias="byo-x", model="m", secret=SECRET, upstream="openai", base_url="https://a.example.com"
        )
    assert refused(credential_header="x-api-key").param == "credential_header"
    assert refused(base_url="https://llm.example.com", credential_header="cookie").param == "credential_header"


def test_an_upstream_that_is_not_offered_is_not_told_from_one_that_is_not_there() -> None:
    """The operator's own machines are nobody's business."""
    assert str(refused(upstream="vllm")) == str(refused(upstream="no-such"))


@pytest.mark.parametrize("operations", [["responses"], ["chat.completions", "models"], ["x"]])
def test_operations_are_those_that_the_upstream_serves(operations: list[str]) -> None:
    """Nothing is translated."""
    assert refused(operations=operations).param == "operations"


INSIDE = [
    "https://localhost/v1", "https://localhost.localdomain", "https://sub.localhost", "https://intranet",
    "https://metadata.google.internal/computeMetadata/v1", "https://printer.local", "https://nas.lan",
    "https://127.0.0.1", "https://127.0.0.2", "https://0.0.0.0", "https://10.0.0.1", "https://172.16.0.1",
    "https://192.168.1.1", "https://169.254.169.254", "https://100.64.0.1", "https://224.0.0.1",
    "https://255.255.255.255", "https://198.18.0.1", "https://192.0.2.1",
    "https://2130706433", "https://0177.0.0.1", "https://0x7f.0.0.1", "https://0x7f000001", "https://127.1",
    "https://127.0.1", "https://1.1.1.1.1", "https://example.com.1", "https://example.0x7f",
    "https://[::1]", "https://[::]", "https://[::ffff:127.0.0.1]", "https://[::ffff:7f00:1]", "https://[fe80::1]",
    "https://[fc00::1]", "https://[fd00:ec2::254]", "https://[64:ff9b::7f00:1]", "https://[2002:7f00:1::]",
    "https://[2001:db8::1]", "https://[::127.0.0.1]", "https://[ff02::1]",
    "https://[2606:4700:4700:0:0:0:0:1111]", "https://[2606:4700:4700::1111%25eth0]",
]  # fmt: skip


@pytest.mark.parametrize("url", INSIDE)
def test_a_host_inside_is_refused_however_it_is_spelled(url: str) -> None:
    """Addresses in every notation, names that no public resolver knows."""
    with pytest.raises(Invalid) as caught:
        parse_base_url(url, RULES)
    assert caught.value.param == "base_url"


UNPLAIN = [
    "", "llm.example.com", "http://llm.example.com/v1", "ftp://llm.example.com", "HTTPS://llm.example.com",
    "https://LLM.example.com", "https://llm.example.com.", "https://llm.example.com./v1", "https://.example.com",
    "https://user@llm.example.com", "https://user:pass@llm.example.com", "https://a@b@llm.example.com",
    "https://llm.example.com\\@127.0.0.1", "https://llm.example.com#@127.0.0.1", "https://llm.example.com?x=1",
    "https://llm.example.com/v1?x", "https://llm.example.com/v1#x", "https://llm.example.com/%2e%2e/v1",
    "https://llm.example.com/../v1", "https://llm.example.com/./v1", "https://llm.example.com//v1",
    "https://llm.example.com/v1//", "https://llm.example.com/v1 ", " https://llm.example.com/v1",
    "https://llm.example.com/v1\n", "https://llm.example.com\t/v1", "https://llm.example.com:0/v1",
    "https://llm.example.com:80/v1", "https://llm.example.com:8443/v1", "https://llm.example.com:22",
    "https://llm.example.com:443443", "https://llm.example.com:/v1", "https://llm.example.com:+443",
    "https://llm_x.example.com", "https://-a.example.com", "https://exämple.com", "https://1.1.1.1。1",
    "https://①②⑦.0.0.1", "https://" + "a." * 130 + "com", "https://example.com/" + "a" * 512,
]  # fmt: skip


@pytest.mark.parametrize("url", UNPLAIN)
def test_a_base_url_has_one_spelling(url: str) -> None:
    """What two parsers could read in two ways is refused; so are other ports and http."""
    with pytest.raises(Invalid) as caught:
        parse_base_url(url, RULES)
    assert caught.value.param == "base_url"


@pytest.mark.parametrize(
    "url",
    ["https://llm.example.com", "https://llm.example.com/openai/v1", "https://llm.example.com:443/v1",
     "https://1.1.1.1/v1", "https://[2606:4700:4700::1111]/v1", "https://xn--bcher-kva.example/v1"],
)  # fmt: skip
def test_public_hosts_are_taken(url: str) -> None:
    """Names and public addresses."""
    assert parse_base_url(url, RULES) == url


def test_ports_are_the_operators() -> None:
    """Listed ones are open."""
    rules = Byo(ports=frozenset({443, 8443}))
    assert parse_base_url("https://llm.example.com:8443/v1", rules) == "https://llm.example.com:8443/v1"


def test_a_listed_host_may_be_private_and_http_at_that_very_port() -> None:
    """Spelled as listed; its neighbour ports and other spellings stay closed."""
    rules = Byo(allow_private=frozenset({"127.0.0.1:8000", "vllm.internal:80", "[::1]:9000"}))
    for url in ("http://127.0.0.1:8000/v1", "https://127.0.0.1:8000/v1", "http://vllm.internal", "http://[::1]:9000"):
        assert parse_base_url(url, rules) == url
    for url in ("http://127.0.0.1:8001/v1", "https://127.0.0.1/v1", "https://vllm.internal/v1", "http://127.1:8000"):
        with pytest.raises(Invalid):
            parse_base_url(url, rules)


@pytest.mark.parametrize(
    "found", [["10.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["1.1.1.1", "::1"], ["2606:4700::1", "fe80::1%1"], []]
)
async def test_a_name_that_leads_inside_is_refused(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One private address among public ones is enough."""

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        assert (host, port) == ("llm.example.com", 443)
        return [ipaddress.ip_address(one) for one in found]

    monkeypatch.setattr(addresses, "resolve", resolve)
    with pytest.raises(Invalid, match="public addresses"):
        await check_public(wanted(configured(), base_url="https://llm.example.com/v1"), RULES)


async def test_a_name_that_is_not_there_is_refused_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer maps no network of ours."""
    said = set()
    for failure in (OSError("no such name"), TimeoutError(), addresses.NotPublic("10.0.0.1")):

        async def resolve(host: str, port: int, failure: OSError = failure, **_: Any) -> list[addresses.Address]:
            raise failure

        monkeypatch.setattr(addresses, "resolve", resolve)
        with pytest.raises(Invalid) as caught:
            await check_public(wanted(configured(), base_url="https://llm.example.com/v1"), RULES)
        said.add(str(caught.value))
    assert len(said) == 1


async def test_configured_upstreams_and_listed_hosts_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator said where they are."""

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        raise AssertionError

    monkeypatch.setattr(addresses, "resolve", resolve)
    under = configured(allow_private=frozenset({"127.0.0.1:8000"}))
    await check_public(wanted(under), under.byo)
    await check_public(wanted(under, base_url="http://127.0.0.1:8000/v1"), under.byo)


def test_of_a_short_secret_nothing_is_shown() -> None:
    """Four characters of eight would be half of it."""
    assert hint_of("sk-0123456789abcdef") == "cdef"
    assert hint_of("12345678") == ""
