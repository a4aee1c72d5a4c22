"""From method and path to an operation, and that no other spelling of a priced path gets through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import shipped
from proxy.config.load import load_generation
from proxy.config.schema import CapturedHost
from proxy.errors import Refusal
from proxy.exchange import ListenerKind
from proxy.operation_table import KnownPath, OperationTable, Resolution
from proxy.operations import (
    CHAT,
    EMBEDDINGS,
    LOCAL,
    MESSAGES,
    MODELS,
    ORCHESTRATE,
    PREFLIGHT,
    RESPONSES,
    UNMETERED,
    Operation,
)
from proxy.paths import MODEL

CAPTURE = load_generation(shipped.folder() / "config.yaml", environment={}).capture
TABLE = OperationTable()
REVERSE, REGULAR, ADMIN = ListenerKind.REVERSE, ListenerKind.REGULAR, ListenerKind.ADMIN


def host(pattern: str) -> CapturedHost:
    return next(one for one in CAPTURE if one.pattern == pattern)


OPENAI, AZURE, ANTHROPIC = host("api.openai.com"), host("*.openai.azure.com"), host("api.anthropic.com")


def code(method: str, path: str, captured: CapturedHost | None = None, kind: ListenerKind = REVERSE) -> str:
    with pytest.raises(Refusal) as refused:
        TABLE.resolve(method, path, captured, kind)
    return refused.value.code


@pytest.mark.parametrize(
    ("method", "path", "operation", "model"),
    [
        ("POST", "/v1/chat/completions", CHAT, None),
        ("POST", "/v1/chat/completions/gpt-4o", CHAT, "gpt-4o"),
        ("POST", "/v1/chat/completions/nvidia/llama-3.3-70b", CHAT, "nvidia/llama-3.3-70b"),
        ("POST", "/v1/embeddings", EMBEDDINGS, None),
        ("POST", "/v1/embeddings/text-embedding-3-small", EMBEDDINGS, "text-embedding-3-small"),
        ("POST", "/v1/messages", MESSAGES, None),
        ("POST", "/v1/messages/claude-sonnet-4-5", MESSAGES, "claude-sonnet-4-5"),
        ("POST", "/v1/responses", RESPONSES, None),
        ("POST", "/v1/orchestrate", ORCHESTRATE, None),
        ("GET", "/v1/models", MODELS, None),
        ("HEAD", "/v1/models", MODELS, None),
        ("GET", "/v1/models/vendor/model", MODELS, "vendor/model"),
        ("GET", "/health", LOCAL, None),
        ("GET", "/v1/health", LOCAL, None),
        ("OPTIONS", "/v1/chat/completions", PREFLIGHT, None),
        ("OPTIONS", "/v1/models/x", MODELS, "x"),
    ],
)
def test_what_a_reverse_listener_knows(method: str, path: str, operation: Operation, model: str | None) -> None:
    """Each path with its methods, and preflights of all of them."""
    assert TABLE.resolve(method, path, None, REVERSE) == Resolution(operation, model)


def test_unknown_paths_are_not_found() -> None:
    """On every listener of ours; on the admin listener priced paths too."""
    assert code("GET", "/nope") == "not_found"
    assert code("POST", "/v1/completions") == "not_found"
    assert code("POST", "/v1/chat/completions", kind=ADMIN) == "not_found"
    assert code("POST", "/v1/chat/completions", kind=REGULAR) == "not_found"
    assert code("OPTIONS", "*") == "not_found"


@pytest.mark.parametrize("path", ["/metrics", "/upstreams", "/health", "/ca.pem"])
def test_what_the_admin_listener_knows(path: str) -> None:
    """Its own endpoints only."""
    assert TABLE.resolve("GET", path, None, ADMIN).operation is LOCAL
    assert code("POST", path, kind=ADMIN) == "method_not_allowed"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "post", "TRACE", ""])
def test_another_method_is_told_which_are_allowed(method: str) -> None:
    """405 with Allow."""
    with pytest.raises(Refusal) as refused:
        TABLE.resolve(method, "/v1/chat/completions", None, REVERSE)
    assert refused.value.code == "method_not_allowed"
    assert refused.value.headers == {"allow": "POST, OPTIONS"}


@pytest.mark.parametrize(
    "path", ["/v1/messages/count_tokens", "/v1/messages/batches", "/v1/messages/batches/b_1/results"]
)
def test_other_operations_of_a_provider_are_not_models(path: str) -> None:
    """They would be answered as messages, and charged."""
    assert code("POST", path) == "not_found"
    assert code("POST", path.upper()) == "invalid_path"
    assert TABLE.resolve("POST", path, ANTHROPIC, REGULAR).operation is UNMETERED


def test_other_paths_of_a_captured_host_are_unmetered() -> None:
    """And what is only read of a priced one: stored completions."""
    for method, path in (
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/files/f%20x"),
        ("GET", "/v1/chat/completions"),
    ):
        assert TABLE.resolve(method, path, OPENAI, REGULAR) == Resolution(UNMETERED)
    assert code("PUT", "/v1/chat/completions", OPENAI, REGULAR) == "method_not_allowed"
    assert code("post", "/v1/chat/completions", OPENAI, REGULAR) == "method_not_allowed"


def test_captured_paths_name_their_operation_and_model() -> None:
    """Under each provider's own prefix."""
    found = TABLE.resolve("POST", "/openai/deployments/gpt-4o/chat/completions", AZURE, REGULAR)
    assert found == Resolution(CHAT, "gpt-4o")
    assert TABLE.resolve("POST", "/openai/v1/chat/completions", host("api.groq.com"), REGULAR).operation is CHAT
    assert TABLE.resolve("POST", "/v1/chat/completions", host("api.groq.com"), REGULAR).operation is UNMETERED
    for captured, path in (
        (OPENAI, "/v1/responses"),
        (AZURE, "/openai/responses"),
        (AZURE, "/openai/v1/responses"),
        (host("api.groq.com"), "/openai/v1/responses"),
        (host("api.x.ai"), "/v1/responses"),
        (host("openrouter.ai"), "/api/v1/responses"),
    ):
        assert TABLE.resolve("POST", path, captured, REGULAR) == Resolution(RESPONSES)
        assert TABLE.resolve("GET", path + "/resp_1", captured, REGULAR) == Resolution(UNMETERED)


def test_endpoints_of_plugins_join_the_reverse_listeners() -> None:
    """And are guarded like the others."""
    table = OperationTable([KnownPath("/v1/balance", LOCAL, ("GET",))])
    assert table.resolve("GET", "/v1/balance", None, REVERSE).operation is LOCAL
    with pytest.raises(Refusal) as refused:
        table.resolve("GET", "/v1/balance/", None, REVERSE)
    assert refused.value.code == "invalid_path"


ENDPOINTS = OperationTable(
    [KnownPath("/v1/payments/{id}", LOCAL, ("GET",)), KnownPath("/v1/payments/refund", LOCAL, ("POST",))]
)


def test_an_endpoint_may_have_an_id_in_its_path() -> None:
    """It names no model; a plain endpoint beside it stays what it is."""
    assert ENDPOINTS.resolve("GET", "/v1/payments/pay_0a1b", None, REVERSE) == Resolution(LOCAL)
    assert ENDPOINTS.resolve("POST", "/v1/payments/refund", None, REVERSE) == Resolution(LOCAL)
    with pytest.raises(Refusal) as refused:
        ENDPOINTS.resolve("GET", "/v1/payments/refund", None, REVERSE)
    assert refused.value.code == "method_not_allowed"
    with pytest.raises(Refusal) as refused:
        ENDPOINTS.resolve("GET", "/v1/payments", None, REVERSE)
    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/payments/pay_1/", "/v1/payments/%70ay_1", "/v1/payments/a%2fb", "/v1/payments//pay_1",
        "/v1/Payments/pay_1", "/v1/payments/a.b", "/v1/payments/a/b", "/v1/x/../payments/pay_1",
        "/v1/payments/pay_1%00", "/v1/payments/..;/x/y",
        "/v1\\payments\\pay_1", "/v1/payments/" + "a" * 65,
    ],
)  # fmt: skip
def test_an_id_is_spelled_plainly(path: str) -> None:
    """As strictly as a model, and one segment only."""
    with pytest.raises(Refusal) as refused:
        ENDPOINTS.resolve("GET", path, None, REVERSE)
    assert refused.value.code == "invalid_path"


def test_tables_of_captured_hosts_are_made_once_each() -> None:
    """And two hosts never share one."""
    table = OperationTable()
    first = table.resolve("POST", "/v1/chat/completions", OPENAI, REGULAR)
    assert table.resolve("POST", "/v1/chat/completions", OPENAI, REGULAR) is first
    assert table.resolve("POST", "/v1/chat/completions", AZURE, REGULAR).operation is UNMETERED


PRICED = [
    (None, REVERSE, path, model)
    for path, model in (
        ("/v1/chat/completions", ""),
        ("/v1/embeddings", ""),
        ("/v1/messages", ""),
        ("/v1/chat/completions/m", "m"),
    )
] + [
    (captured, REGULAR, template.replace(MODEL, "m"), "m" if MODEL in template else "")
    for captured in CAPTURE
    for template, operation in captured.paths
    if operation.priced
]


CHANGES = ("encode", "case", "upper", "double", "end", "dot", "climb", "backslash", "parameter", "nul", "space")


def _encoded(path: str, position: int, layers: int) -> str:
    character = "".join(f"%{byte:02x}" for byte in path[position].encode())
    for _ in range(layers - 1):
        character = character.replace("%", "%25")
    return path[:position] + character + path[position + 1 :]


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[CapturedHost | None, ListenerKind, str]:
    """A priced path after one to four changes that a server may undo."""
    captured, kind, path, model = draw(st.sampled_from(PRICED))
    original = path
    for _ in range(draw(st.integers(1, 4))):
        slashes = [index for index, letter in enumerate(path) if letter == "/"]
        if not slashes:
            break
        slash = draw(st.sampled_from(slashes))
        change = draw(st.sampled_from(CHANGES))
        if change == "encode":
            path = _encoded(path, draw(st.integers(0, len(path) - 1)), draw(st.integers(1, 4)))
        elif change == "case":
            position = draw(st.integers(0, len(path) - 1))
            path = path[:position] + path[position].swapcase() + path[position + 1 :]
        elif change == "upper":
            path = path.upper()
        elif change == "double":
            path = path[:slash] + "/" * draw(st.integers(2, 4)) + path[slash + 1 :]
        elif change == "end":
            path += draw(st.sampled_from(["/", "//", "/.", "%2f", "%5c", "\\", ".", "%2e", "%00", "%3f", "%23"]))
        elif change == "dot":
            path = path[:slash] + draw(st.sampled_from(["/./", "/%2e/", "/.%2f", "/;/"])) + path[slash + 1 :]
        elif change == "climb":
            path = (
                path[:slash]
                + draw(st.sampled_from(["/x/../", "/x/%2e%2e/", "/x/..;/", "/x/..%2f"]))
                + path[slash + 1 :]
            )
        elif change == "backslash":
            path = (
                path[:slash] + draw(st.sampled_from(["\\", "%5c", "%255c", "\uff0f", "%ef%bc%8f"])) + path[slash + 1 :]
            )
        elif change == "parameter":
            path = path[:slash] + ";a=b" + path[slash:] if slash else path + ";a"
        elif change == "nul":
            path += "%00" + draw(st.sampled_from(["", ".txt", "/x"]))
        elif change == "space":
            position = draw(st.integers(1, len(path)))
            path = (
                path[:position]
                + draw(st.sampled_from(["%20", "%09", "%0a", "\u200b", "\t", "%c2%ad"]))
                + path[position:]
            )
    if path == original or (model and path == original.replace("/m", "/M")):
        path = original + "/"
    return captured, kind, path


@pytest.mark.parametrize(
    "path",
    ["/V%%20C2%AD1/CHAT/COMPLETIONS", "/v1/chat/completions%", "/v1/%zz/files", "/x%2", "/x%C2%20%AD"],
)
def test_percent_that_encodes_no_text_is_refused(path: str) -> None:
    """Nobody can say what the next parser makes of it."""
    for captured in (None, OPENAI):
        with pytest.raises(Refusal) as refused:
            TABLE.resolve("POST", path, captured, ListenerKind.REVERSE)
        assert refused.value.code == "invalid_path"


@given(misspelt())
def test_no_misspelt_priced_path_passes_as_something_else(case: tuple[CapturedHost | None, ListenerKind, str]) -> None:
    """It is refused, or (where only the model's name changed) still priced; never unmetered, never local."""
    captured, kind, path = case
    try:
        found = TABLE.resolve("POST", path, captured, kind)
    except Refusal as refusal:
        assert refusal.code in ("invalid_path", "not_found")
        if captured is not None:
            assert refusal.code == "invalid_path"
    else:
        assert found.operation.priced


@given(st.text(alphabet=st.sampled_from("/v1chatompleinsgdb.%2eF5cC;\\?#AM \x00\uff0f"), max_size=40))
def test_any_path_is_resolved_or_refused(path: str) -> None:
    """Noise raises nothing else, and on our own listeners is never unmetered."""
    for captured, kind in ((None, REVERSE), (None, ADMIN), (OPENAI, REGULAR), (AZURE, REGULAR)):
        try:
            found = TABLE.resolve("POST", f"/{path}", captured, kind)
        except Refusal as refusal:
            assert refusal.code in ("invalid_path", "not_found", "method_not_allowed")
        else:
            assert captured is not None or found.operation is not UNMETERED


def test_the_shipped_files_are_those_under_test() -> None:
    """The property above runs over every provider."""
    assert len({captured.upstream for captured, *_ in PRICED if captured is not None}) == 14
    assert Path(shipped.folder(), "policies", "capture.yaml").is_file()


def test_no_captured_host_serves_panels() -> None:
    """No provider has the path: it is another of theirs, unmetered, for their own keys."""
    assert TABLE.resolve("POST", "/v1/orchestrate", OPENAI, REGULAR) == Resolution(UNMETERED)
