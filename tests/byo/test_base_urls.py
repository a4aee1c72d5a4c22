"""Whatever passes as a base URL is read alike by every parser, and leads to no address inside."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import httpx
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from proxy.addresses import is_public
from proxy.byo.registrations import Invalid, is_listed, origin_of, parse_base_url
from proxy.config.schema import Byo

RULES = Byo(keys=("k",), ports=frozenset({443, 8443}))
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6, network="::ffff:0:0/96").map(lambda address: f"[{address}]"),
    st.ip_addresses(v=4).map(lambda address: str(int(address))),
    st.ip_addresses(v=4).map(lambda address: hex(int(address))),
    st.ip_addresses(v=4).map(lambda address: ".".join(f"0{int(part):o}" for part in str(address).split("."))),
    st.from_regex(r"\A[a-z0-9.-]{1,20}(\.(com|local|internal|1|0x7f))?\Z"),
    st.sampled_from(["localhost", "llm.example.com", "127.1", "0", "example.com.", "EXAMPLE.com", "ex%61mple.com"]),
)
WRAPPINGS = st.tuples(
    st.sampled_from(["https://", "http://", "https:\\\\", "//", "https:/", "https:///"]),
    st.sampled_from(["", "", "", "user@", "user:pass@", "a@b@", "@", "\\@", "%40"]),
    st.sampled_from(["", "", "", ":443", ":8443", ":22", ":0", ":00443", ":", ":443:443", ":４４３"]),
    st.sampled_from(
        ["", "/", "/v1", "/v1/", "/../v1", "//evil.example.com", "/v1?x=1", "#@127.0.0.1", "\\@127.0.0.1", "\n"]
    ),
)  # fmt: skip


def taken(url: str) -> str | None:
    """The base URL as it is stored; None where it is refused."""
    try:
        return parse_base_url(url, RULES)
    except Invalid:
        return None


def check(url: str) -> None:
    found = taken(url)
    if found is None:
        return
    host, port = URL(found, encoded=True).raw_host, URL(found, encoded=True).port
    parts = urlsplit(found)
    assert (parts.scheme, parts.hostname, parts.port or 443) == ("https", host, port)
    assert (parts.username, parts.password, parts.query, parts.fragment) == (None, None, "", "")
    modern = httpx.URL(found)
    assert (modern.host, modern.port or 443, modern.userinfo) == (host, port, b"")
    assert port in RULES.ports
    assert host == host.lower() and not host.endswith(".")
    assert origin_of(found) == f"https://{host}:{port}"
    assert not is_listed(found, RULES)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        assert "." in host and not host.rpartition(".")[2].isdigit()
    else:
        assert is_public(address)
    assert taken(found) == found


@given(HOSTS, WRAPPINGS)
@example("1.1.1.1", ("https://", "", ":8443", "/v1/"))
@example("llm.example.com", ("https://", "", "", "/v1"))
def test_hosts_in_every_wrapping(host: str, wrapping: tuple[str, str, str, str]) -> None:
    """Built from what attackers put together."""
    scheme, user, port, path = wrapping
    check(f"{scheme}{user}{host}{port}{path}")


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """After https://, too."""
    check(text)
    check(f"https://{text}")
    check(f"https://llm.example.com{text}")


def test_the_usual_is_taken() -> None:
    """The properties above are about something."""
    assert taken("https://llm.example.com/v1/") == "https://llm.example.com/v1"
    assert taken("https://1.1.1.1:8443/v1") == "https://1.1.1.1:8443/v1"
