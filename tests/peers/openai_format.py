"""OpenAI's wire format: chat completions, embeddings, models, errors (platform.openai.com/docs/api-reference)."""

from __future__ import annotations

import base64
import struct
from typing import Any

from tests.peers.answers import Answer, encode, output_words, reported, serial, text_of, words
from tests.peers.behaviour import Behaviour, Usage

CREATED = 1_790_000_000
MODELS = ("gpt-5", "gpt-5-mini", "gpt-4o-mini", "text-embedding-3-small")
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", None),
}


def headers() -> list[tuple[str, str]]:
    """What api.openai.com sends beside the content's own headers."""
    return [
        ("date", "Sat, 21 Nov 2026 04:00:00 GMT"),
        ("openai-organization", "org-scripted"),
        ("openai-processing-ms", "42"),
        ("openai-project", "proj_scripted"),
        ("openai-version", "2020-10-01"),
        ("x-request-id", serial("req_")),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999900"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "3ms"),
        ("set-cookie", "__cf_bm=scripted; path=/; HttpOnly; Secure; SameSite=None"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("server", "cloudflare"),
        ("cf-ray", "9a1b2c3d4e5f-AMS"),
        ("alt-svc", 'h3=":443"; ma=86400'),
    ]


def error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Answer:
    """The error envelope with OpenAI's type and code for `status`."""
    type_, usual = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    body = encode({"error": {"message": message, "type": type_, "param": param, "code": code or usual}})
    return Answer(status, [body])


def models() -> Answer:
    """GET /v1/models."""
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "openai"} for name in MODELS]
    return Answer(200, [encode({"object": "list", "data": data})])


def embeddings(request: dict[str, Any], behaviour: Behaviour) -> Answer:
    """POST /v1/embeddings: 8 deterministic numbers for each input, as floats or base64."""
    if "input" not in request or not isinstance(request.get("model"), str):
        return error(400, "you must provide a model and an input parameter")
    given = request["input"]
    inputs = given if isinstance(given, list) and not (given and isinstance(given[0], int)) else [given]
    data = []
    for index, one in enumerate(inputs):
        vector = [((len(str(one)) * 31 + place * 17) % 97) / 97 for place in range(8)]
        packed = base64.b64encode(struct.pack("<8f", *vector)).decode()
        value = packed if request.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": value})
    tokens = sum(len(one) if isinstance(one, list) else len(words(str(one))) for one in inputs)
    body: dict[str, Any] = {"object": "list", "data": data, "model": request["model"]}
    if behaviour.usage is not Usage.MISSING:
        body["usage"] = reported(behaviour.usage, {"prompt_tokens": tokens, "total_tokens": tokens})
    return Answer(200, [encode(body)])


def chat(request: dict[str, Any], behaviour: Behaviour) -> Answer:
    """POST /v1/chat/completions, streamed or not."""
    if not isinstance(request.get("model"), str):
        return error(400, "you must provide a model parameter")
    if not isinstance(request.get("messages"), list):
        missing = "missing_required_parameter"
        return error(400, "Missing required parameter: 'messages'.", param="messages", code=missing)
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    pieces, cut = output_words(behaviour, limit)
    choices = int(request.get("n") or 1)
    finish = "tool_calls" if behaviour.tool else "length" if cut else "stop"
    usage = _usage(request, behaviour, len(pieces) * choices)
    base = {"id": serial("chatcmpl-"), "created": CREATED, "model": request["model"]}
    if request.get("stream"):
        return _stream(request, behaviour, base, pieces, choices, finish, usage)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces), "refusal": None, "annotations": []}
    if behaviour.tool:
        message |= {"content": None, "tool_calls": [_tool_call(behaviour.tool)]}
    listed = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish} for index in range(choices)
    ]
    body = base | {"object": "chat.completion", "choices": listed}
    if behaviour.usage is not Usage.MISSING:
        body["usage"] = usage
    return Answer(200, [encode(body | {"service_tier": "default", "system_fingerprint": "fp_scripted"})])


def _stream(
    request: dict[str, Any],
    behaviour: Behaviour,
    base: dict[str, Any],
    pieces: list[str],
    choices: int,
    finish: str,
    usage: Any,
) -> Answer:
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    base = base | {
        "object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": "fp_scripted"
    }  # fmt: skip
    if asked:
        base["usage"] = None

    def event(choice: int, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        one = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + encode(base | {"choices": [one]} | more) + b"\n\n"

    events = []
    for choice in range(choices):
        events.append(event(choice, {"role": "assistant", "content": "", "refusal": None}))
        if behaviour.tool:
            call = _tool_call(behaviour.tool)
            arguments = call["function"]["arguments"]
            call["function"]["arguments"] = ""
            events.append(event(choice, {"tool_calls": [{"index": 0} | call]}))
            for start in range(0, len(arguments), 8):
                part = {"index": 0, "function": {"arguments": arguments[start : start + 8]}}
                events.append(event(choice, {"tool_calls": [part]}))
        else:
            events += [event(choice, {"content": piece}) for piece in pieces]
        last = choice == choices - 1 and behaviour.usage_with_choices
        events.append(event(choice, {}, finish, **({"usage": usage} if last else {})))
    if asked and behaviour.usage is not Usage.MISSING and not behaviour.usage_with_choices:
        events.append(b"data: " + encode(base | {"choices": [], "usage": usage}) + b"\n\n")
    events.append(b"data: [DONE]\n\n")
    failed = b"data: " + error(500, "The server had an error while processing your request.").pieces[0] + b"\n\n"
    return Answer(200, events, "text/event-stream; charset=utf-8", length=False, error_event=failed)


def _tool_call(tool: tuple[str, str]) -> dict[str, Any]:
    return {"id": serial("call_"), "type": "function", "function": {"name": tool[0], "arguments": tool[1]}}


def _usage(request: dict[str, Any], behaviour: Behaviour, generated: int) -> Any:
    prompt = sum(len(words(text_of(message.get("content")))) for message in request["messages"])
    prompt += behaviour.cached_tokens
    output = generated + behaviour.reasoning_tokens
    regular = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": behaviour.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": behaviour.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    return reported(behaviour.usage, regular)
