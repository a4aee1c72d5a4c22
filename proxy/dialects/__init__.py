"""Wire formats by name. See `base.Dialect` for what each can tell."""

from __future__ import annotations

from typing import Final

from proxy.dialects.anthropic_messages import AnthropicMessages
from proxy.dialects.base import Dialect
from proxy.dialects.openai_chat import OpenAIChat
from proxy.dialects.openai_embeddings import OpenAIEmbeddings
from proxy.dialects.openai_responses import OpenAIResponses

_ALL: Final[tuple[Dialect, ...]] = (OpenAIChat(), OpenAIEmbeddings(), OpenAIResponses(), AnthropicMessages())

DIALECTS: Final[dict[str, Dialect]] = {dialect.name: dialect for dialect in _ALL}
"""`Operation.dialect` names one of these."""
