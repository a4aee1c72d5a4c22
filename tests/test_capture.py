"""Which targets are captured, and what their paths mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.capture import CaptureTable, match_path, normal_host
from proxy.config.schema import CapturedHost
from proxy.errors import Refusal
from proxy.operations import CHAT, EMBEDDINGS

OPENAI = CapturedHost("api.openai.com", "openai", ("authorization",), (("/v1/chat/completions", CHAT),))
AZURE = CapturedHost(
    "*.openai.azure.com",
    "azure",
    ("api-key",),
    (
        ("/openai/deployments/{model}/chat/completions", CHAT),
        ("/openai/deployments/{model}/embeddings", EMBEDDINGS),
    ),
)
EAST = CapturedHost("*.east.openai.azure.com", "east", ("api-key",), ())
OLLAMA = CapturedHost("localhost", "ollama", ("authorization",), (), ports=(11434,), scheme="http")
TABLE = CaptureTable([OPENAI, AZURE, EAST, OLLAMA])


@pytest.mark.parametrize(
    "host", ["api.openai.com", "API.OpenAI.com", "api.openai.com.", "\uff41pi.openai.com", "api\u3002openai\uff0ecom"]
)
def test_every_spelling_that_resolves_to_a_captured_name_is_captured(host: str) -> None:
    """Case, the root's dot, IDNA's widths and stops."""
    assert TABLE.match(host, 443, local=True) is OPENAI


@pytest.mark.parametrize(
    "host",
    [
        "openai.com", "xapi.openai.com", "api.openai.com.evil.example", "evil-api.openai.com.evil.example",
        "api-openai.com", "openai.azure.com", "evilopenai.azure.com", "x.openai.azure.com.evil.example",
        "127.0.0.1", "::1",
    ],
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    """No prefix, no suffix beyond a whole label, not the suffix itself."""
    assert TABLE.match(host, 443, local=True) is None


def test_a_wildcard_takes_one_label_or_more_and_the_longest_suffix_wins() -> None:
    """As the policy says."""
    assert TABLE.match("mine.openai.azure.com", 443, local=True) is AZURE
    assert TABLE.match("a.b.openai.azure.com", 443, local=True) is AZURE
    assert TABLE.match("a.east.openai.azure.com", 443, local=True) is EAST
    assert TABLE.match("east.openai.azure.com", 443, local=True) is AZURE


def test_the_port_belongs_to_the_target() -> None:
    """Another port is another server."""
    assert TABLE.match("api.openai.com", 8443, local=True) is None
    assert TABLE.match("localhost", 11434, local=True) is OLLAMA
    assert TABLE.match("localhost", 443, local=True) is None


@pytest.mark.parametrize(
    "host", ["", ".", "a b", "api..openai.com", "api.openai.com..", "-", "a/b", "a@b", "x" * 300, "\udcff", "a:b"]
)
def test_what_is_no_host_name_is_refused(host: str) -> None:
    """Never tunnelled on a guess."""
    with pytest.raises(Refusal) as refused:
        TABLE.match(host, 443, local=True)
    assert refused.value.code == "target_not_allowed"


def test_addresses_lose_their_brackets() -> None:
    """As resolvers want them."""
    assert normal_host("[::1]") == "::1"
    assert normal_host("2001:DB8::1") == "2001:db8::1"


@given(st.text(min_size=1, max_size=30))
def test_any_text_is_a_name_or_a_refusal(host: str) -> None:
    """Nothing else is raised, and what comes out is ASCII in lower case."""
    try:
        name = normal_host(host)
    except Refusal:
        return
    assert name.isascii()
    assert name == name.lower()


@given(st.sampled_from(["api.openai.com", "mine.openai.azure.com"]), st.text("abc-.", min_size=1, max_size=8))
def test_a_suffix_never_confuses(host: str, tail: str) -> None:
    """Whatever is put behind a captured name makes another name."""
    try:
        found = TABLE.match(f"{host}{tail}", 443, local=True)
    except Refusal:
        return
    assert found is None or tail == "."


def test_paths_are_matched_exactly_and_name_their_model() -> None:
    """With a vendor's name too."""
    assert match_path(OPENAI, "/v1/chat/completions") == (CHAT, None)
    assert match_path(OPENAI, "/v1/chat/completions/") is None
    assert match_path(AZURE, "/openai/deployments/gpt-4o/chat/completions") == (CHAT, "gpt-4o")
    assert match_path(AZURE, "/openai/deployments/v/m/embeddings") == (EMBEDDINGS, "v/m")
    assert match_path(AZURE, "/openai/deployments//chat/completions") is None


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "ollama.localhost"])
def test_this_machine_is_captured_for_its_own_clients_only(name: str) -> None:
    """To others the name means their own machine, and ours holds more than the model server."""
    patterns = ("localhost", "127.0.0.1", "::1", "ollama.localhost")
    table = CaptureTable([CapturedHost(pattern, "ollama", (), (), ports=(11434,)) for pattern in patterns])
    assert table.match(name, 11434, local=True) is not None
    assert table.match(name, 11434, local=False) is None
