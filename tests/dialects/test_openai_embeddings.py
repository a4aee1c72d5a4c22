"""Embeddings: what may be embedded, and what of it counts."""

from typing import Any

import orjson
import pytest

from proxy.dialects import DIALECTS
from proxy.errors import Refusal

EMBEDDINGS = DIALECTS["openai.embeddings"]


@pytest.mark.parametrize(("given", "parts"), [("a text", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_texts_and_token_ids(given: Any, parts: int) -> None:
    """One part a text or list of ids."""
    call = EMBEDDINGS.parse(orjson.dumps({"model": "e", "input": given}))
    assert (call.input_parts, call.stream, call.output_tokens_max, call.unbounded) == (parts, False, None, None)
    assert EMBEDDINGS.output_fields == ()


@pytest.mark.parametrize(
    "given", [None, "", [], [""], ["a", ""], [1, "a"], [[1], "a"], [[]], [True], [1.5], [-1], {"a": 1}, ["x"] * 2049]
)
def test_anything_else_is_a_400(given: Any) -> None:
    """With the member's name."""
    with pytest.raises(Refusal) as caught:
        EMBEDDINGS.parse(orjson.dumps({"model": "e", "input": given}))
    assert caught.value.status == 400
    assert str(caught.value.param).startswith("input")


def test_only_the_model_is_rewritten() -> None:
    """There is no output to limit and no stream."""
    call = EMBEDDINGS.parse(b'{"input": "x", "model": "e"}')
    changed = EMBEDDINGS.rewrite(call, model="real", output_tokens=5, output_field="max_tokens", report_usage=True)
    assert changed == b'{"input": "x", "model": "real"}'
    assert EMBEDDINGS.rewrite(call, model="e", output_tokens=None, output_field=None, report_usage=False) == call.body


def test_a_chat_beside_the_input_is_unbounded() -> None:
    """Some servers embed that in place of the input, images included."""
    call = EMBEDDINGS.parse(b'{"model":"e","input":[1],"messages":[{"role":"user","content":"x"}]}')
    assert call.unbounded is not None
