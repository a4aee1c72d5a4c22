"""An upstream's refusal is understood, told in our words, and never repeated."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from plugins.conceal.refusals import READ_BYTES_MAX, told
from proxy.dialects import DIALECTS
from proxy.errors import CODES, Refusal

BODY = {
    "model": "llama",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "weather"}}],
    "temperature": 9,
}
CALL = DIALECTS["openai.chat"].parse(orjson.dumps(BODY))


def refusal(document: Any, status: int = 400) -> Refusal:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return told(status, body, CALL, "req_test")


def error(message: str, **members: Any) -> dict[str, Any]:
    return {"error": {"message": message, **members}}


TOO_LONG: list[Any] = [
    error("...", type="invalid_request_error", code="context_length_exceeded", param="messages"),
    error("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
    },
    error("input length and `max_tokens` exceed context limit: 8 + 8 > 9, decrease input length"),
    [
        {
            "error": {
                "code": 400,
                "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            }
        }
    ],
    error("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193."),
    {"object": "error", "message": "Prompt contains 9 tokens, too large for model with 8 maximum context length"},
    {"error": "This model's maximum prompt length is 8 but the request contains 9 tokens."},
    error("max_model_len is 8", code="400"),
]


@pytest.mark.parametrize("document", TOO_LONG, ids=str)
def test_too_long_an_input_is_understood_in_every_vendors_words(document: Any) -> None:
    """Clients shorten and retry on this code."""
    refused = refusal(document)
    assert (refused.status, refused.code) == (400, "context_length_exceeded")


REFUSED_CONTENT: list[Any] = [
    error("Your request was rejected as a result of our safety system.", code="content_policy_violation"),
    error("The response was filtered due to the prompt triggering a content management policy.", code="content_filter"),
    error("...", innererror={}, code="ResponsibleAIPolicyViolation"),
    error("Your input was flagged by our filters."),
    error("...", code="moderation_blocked"),
]


@pytest.mark.parametrize("document", REFUSED_CONTENT, ids=str)
def test_refused_content_is_understood(document: Any) -> None:
    """A retry would not help, another wording may."""
    assert refusal(document).code == "content_refused"


@pytest.mark.parametrize(
    ("document", "param"),
    [
        (error("...", param="temperature"), "temperature"),
        (error("...", param="messages[1].content[0].text"), "messages[1].content[0].text"),
        (error("...", param="messages.[1].role"), "messages[1].role"),
        (error("tools.0.function.name: too short"), "tools[0].function.name"),
        ({"detail": [{"loc": ["body", "messages", 1, "content"], "msg": "..."}]}, "messages[1].content"),
        ({"detail": [{"loc": ["body", "cnry"], "msg": "..."}]}, None),
        (error("...", param="messages[2].role"), None),
        (error("...", param="messages[-1]"), None),
        (error("...", param="messages[٠]"), None),
        (error("...", param="cnry"), None),
        (error("...", param="temperature.cnry"), None),
        (error("...", param=""), None),
        (error("...", param=["temperature"]), None),
        (error("...", param="temperature" + "." * 300), None),
        (error("https://cnry: no"), None),
        ({"detail": "cnry"}, None),
    ],
    ids=str,
)
def test_param_leads_to_a_member_of_the_clients_own_body_or_is_left_out(document: Any, param: str | None) -> None:
    """Spelled our way; a member that only the upstream knows would tell who it is."""
    refused = refusal(document)
    assert (refused.code, refused.param) == ("invalid_request", param)
    assert (f"'{param}'" in refused.message) == (param is not None)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>cnry</html>", b"null", b"[]", b"[1]", b'"cnry"', b'{"error":7}', b"{" * 5000, b"\xff"],
    ids=str,
)
def test_refusal_that_is_no_envelope_is_told_by_its_status(body: bytes) -> None:
    """HTML of a load balancer, mostly."""
    assert refusal(body).code == "invalid_request"
    assert refusal(body, 413).code == "payload_too_large"
    assert refusal(b'{"a":"' + b"x" * READ_BYTES_MAX + b'"}', 422).status == 422


@pytest.mark.parametrize(
    "document", [*TOO_LONG, *REFUSED_CONTENT, error("cnry", type="cnry", code="cnry", param="cnry")]
)
def test_nothing_of_the_upstreams_words_is_repeated(document: Any) -> None:
    """Marked in every member."""
    marked = orjson.loads(orjson.dumps(document).replace(b'"message":"', b'"message":"cnry '))
    refused = refusal(marked)
    assert b"cnry" not in refused.envelope() and refused.code in CODES


def test_long_refusal_is_searched_in_little_time() -> None:
    """A customer's own upstream may send what it likes."""
    started = time.perf_counter()
    for word in ("input ", "input too long ", "token count ", "maximum input ", "a.", "messages[0]."):
        refusal(error(word * (60_000 // len(word)), param=word * (60_000 // len(word))))
    assert time.perf_counter() - started < 2
