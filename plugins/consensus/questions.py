"""From a call, chat completion or orchestration, to the question that a panel is asked."""

from __future__ import annotations

from typing import Any

from proxy.consensus.api import Message, Question
from proxy.consensus.settings import AUTO
from proxy.dialects import chat_options, fields
from proxy.dialects.base import Call
from proxy.operations import ORCHESTRATE
from proxy.panel_calls import check_panel_call, extension_of


def question_of(call: Call, output_tokens: int) -> Question:
    """The question, with an output limit that was set or clamped before.

    Raises Refusal `invalid_request` for what a panel cannot do, saying what to do instead.
    """
    check_panel_call(call)
    document = call.document
    if call.dialect == ORCHESTRATE.dialect:
        domain, verified = document.get("domain") or AUTO, fields.flag(document, "verified")
    else:
        domain, verified = extension_of(document)
    return Question(
        messages=_messages(document),
        output_tokens=output_tokens,
        domain=domain,
        tools=tuple(fields.objects(document, "tools")),
        tool_choice=document.get("tool_choice"),
        parallel_tool_calls=document.get("parallel_tool_calls"),
        response_format=chat_options.response_format_of(document),
        images=call.images,
        sampling=chat_options.sampling_of(document),
        verified=verified,
    )


def _messages(document: dict[str, Any]) -> tuple[Message, ...]:
    prompt = document.get("prompt")
    return tuple(document["messages"]) if prompt is None else ({"role": "user", "content": prompt},)
