"""Wire formats by name. See `base.Dialect` for what each can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.dialects.anthropic_messages import AnthropicMessages
from proxy.dialects.base import Call, Dialect
from proxy.dialects.json_scan import respliced
from proxy.dialects.openai_chat import OpenAIChat
from proxy.dialects.openai_embeddings import OpenAIEmbeddings
from proxy.dialects.openai_responses import OpenAIResponses
from proxy.dialects.orchestrate import Orchestrate

_ALL: Final[tuple[Dialect, ...]] = (
    OpenAIChat(),
    OpenAIEmbeddings(),
    OpenAIResponses(),
    AnthropicMessages(),
    Orchestrate(),
)

DIALECTS: Final[dict[str, Dialect]] = {dialect.name: dialect for dialect in _ALL}
"""`Operation.dialect` names one of these."""


def changed(call: Call, changes: Mapping[str, bytes]) -> Call:
    """The call with top-level members put in or replaced, every other byte as it was.

    The values are JSON of our own making, or taken out of the call. Raises Refusal as `parse` does.
    """
    body, found = respliced(call.body, call.spans, changes)
    return DIALECTS[call.dialect].parse(body, found)
