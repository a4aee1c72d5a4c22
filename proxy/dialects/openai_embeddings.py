"""OpenAI's embeddings: `POST /v1/embeddings`. Never streamed, nothing generated."""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.dialects import fields, openai_answers
from proxy.dialects.base import Call, UsageReader
from proxy.dialects.json_scan import Scan, scan, splice
from proxy.dialects.sse import make_event

INPUTS_MAX: Final = 2048
"""Texts in one request, and token ids of one text: the provider's own limit is the same for both."""

TokenIds = list[int]
_DECIDING: Final = fields.spellings("model", "input", "stream", "messages")


class OpenAIEmbeddings:
    """See Dialect."""

    name: str = "openai.embeddings"
    output_fields: tuple[str, ...] = ()

    def parse(self, body: bytes, found: Scan | None = None) -> Call:
        """See Dialect."""
        document, spans, _ = found or scan(body)
        fields.check_spelling(document, _DECIDING)
        inputs = _count_inputs(document)
        if fields.flag(document, "stream"):
            fields.wrong("stream", "left out: embeddings are not streamed")
        return Call(
            dialect=self.name,
            body=body,
            spans=spans,
            model=fields.model_of(document),
            stream=False,
            wants_usage=False,
            output_tokens_max=None,
            output_field=None,
            choices=1,
            input_parts=inputs,
            images=0,
            cache_write=False,
            unbounded="a chat in the place of texts ('messages')" if document.get("messages") else None,
            document=document,
        )

    def rewrite(
        self, call: Call, *, model: str, output_tokens: int | None, output_field: str | None, report_usage: bool
    ) -> bytes:
        """See Dialect. There is no output to limit, and the usage is always reported."""
        if model == call.model:
            return call.body
        return splice(call.body, call.spans, {"model": orjson.dumps(model)})

    def usage_reader(self, *, stream: bool) -> UsageReader:
        """See Dialect."""
        return openai_answers.EmbeddingsReader()

    def is_error_event(self, event: bytes) -> bool:
        """See Dialect."""
        return openai_answers.is_error_event(event)

    def is_content_event(self, event: bytes) -> bool:
        """See Dialect: there are no events."""
        return False

    def says_something(self, event: bytes) -> bool:
        """See Dialect."""
        return self.is_content_event(event)

    def withholds(self, event: bytes) -> bool:
        """See Dialect."""
        return False

    def error_event(self, body: bytes) -> bytes:
        """See Dialect."""
        return make_event(body)


def _count_inputs(document: dict[str, Any]) -> int:
    """How many texts: a string or a list of token ids is one. Raises Refusal for anything else."""
    given = document.get("input")
    if isinstance(given, str) and given:
        return 1
    if not isinstance(given, list) or not given:
        fields.wrong("input", "a text, a list of texts, a list of token ids or a list of such lists, and not empty")
    kinds = set(map(type, given))
    if kinds == {int}:
        _check_ids(given, "input")
        return 1
    if len(given) > INPUTS_MAX:
        fields.wrong("input", f"at most {INPUTS_MAX} texts")
    if kinds == {list}:
        for index, ids in enumerate(given):
            if not ids or set(map(type, ids)) != {int}:
                fields.wrong(f"input[{index}]", "a list of token ids, and not empty")
            _check_ids(ids, f"input[{index}]")
    elif kinds != {str} or "" in given:
        fields.wrong("input", "a list of texts only or of token ids only, none of them empty")
    return len(given)


def _check_ids(ids: TokenIds, param: str) -> None:
    if min(ids) < 0:
        fields.wrong(param, "token ids of 0 or more")
