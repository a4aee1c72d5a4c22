"""The bound of the input is never below what a tokenizer counts."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.pricing.bounds import input_bound
from proxy.pricing.tokens import count_call

TEXT = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=30)
    | st.sampled_from(
        ["<|endoftext|>", "😀👩‍👩‍👧", "\x00\x01\x1f\x7f", "    ", "𒀀𒁀", '\\"/', "\u2028", "العربية", "aa" * 30]
    ),
    max_size=6,
).map("".join)
ENCODING = st.sampled_from(["cl100k_base", "o200k_base"])
PART = st.builds(lambda text: {"type": "text", "text": text}, TEXT)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXT | st.lists(PART, max_size=3)},
    optional={"name": TEXT},
)
TOOL = st.builds(
    lambda name, text: {
        "type": "function",
        "function": {"name": name, "description": text, "parameters": {"type": "object"}},
    },
    TEXT,
    TEXT,
)


def parsed(dialect: str, document: dict[str, Any], ascii_only: bool = False) -> Call:
    body = json.dumps(document, separators=(",", ":")).encode() if ascii_only else orjson.dumps(document)
    return DIALECTS[dialect].parse(body)


@given(st.lists(MESSAGE, min_size=1, max_size=4), st.lists(TOOL, max_size=2), ENCODING, st.booleans())
@settings(deadline=None)
def test_a_chat_has_no_more_tokens_than_its_bound(
    messages: list[Any], tools: list[Any], encoding: str, ascii_only: bool
) -> None:
    """Unicode, emoji, control characters, special-token text; escaped or not."""
    call = parsed("openai.chat", {"model": "m", "messages": messages, "tools": tools}, ascii_only)
    bound = input_bound(call, image_tokens_max=None)
    counted = count_call(call, encoding)
    assert bound is not None
    assert counted is not None
    assert counted <= bound


@given(st.lists(MESSAGE, min_size=1, max_size=3), TEXT, ENCODING)
@settings(deadline=None)
def test_a_message_has_no_more_tokens_than_its_bound(messages: list[Any], system: str, encoding: str) -> None:
    """The same for Anthropic's format, whose vocabulary falls back to bytes as well."""
    call = parsed("anthropic.messages", {"model": "m", "messages": messages, "system": system})
    bound, counted = input_bound(call, image_tokens_max=None), count_call(call, encoding)
    assert bound is not None
    assert counted is not None
    assert counted <= bound


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=5), ENCODING)
@settings(deadline=None)
def test_embeddings_have_no_more_tokens_than_their_bound(texts: list[str], encoding: str) -> None:
    """One text or several."""
    for given_input in (texts, texts[0]):
        call = parsed("openai.embeddings", {"model": "m", "input": given_input})
        bound, counted = input_bound(call, image_tokens_max=None), count_call(call, encoding)
        assert bound is not None
        assert counted is not None
        assert counted <= bound


@pytest.mark.parametrize(("ids", "tokens"), [([100_000] * 50, 50), ([[1] * 20, [123456] * 30], 50)])
def test_token_ids_count_once_each(ids: Any, tokens: int) -> None:
    """However many digits they have."""
    bound = input_bound(parsed("openai.embeddings", {"model": "m", "input": ids}), image_tokens_max=None)
    empty = input_bound(parsed("openai.embeddings", {"model": "m", "input": ids[:1]}), image_tokens_max=None)
    assert bound is not None
    assert empty is not None
    assert tokens <= bound < tokens + 512


IMAGES = [
    ("openai.chat", {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}),
    (
        "anthropic.messages",
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}},
    ),
]


@pytest.mark.parametrize(("dialect", "image"), IMAGES)
def test_images_count_as_their_maximum(dialect: str, image: dict[str, Any]) -> None:
    """Their data does not; without a maximum there is no bound."""
    call = parsed(dialect, {"model": "m", "messages": [{"role": "user", "content": [image, image]}]})
    bound = input_bound(call, image_tokens_max=1500)
    assert bound is not None
    assert 3000 < bound < 5000
    assert input_bound(call, image_tokens_max=None) is None


def test_an_image_by_url_counts_as_its_maximum() -> None:
    """Its address is text at most."""
    image = {"type": "image_url", "image_url": {"url": "https://x/" + "y" * 500}}
    bound = input_bound(
        parsed("openai.chat", {"model": "m", "messages": [{"role": "user", "content": [image]}]}), image_tokens_max=1500
    )
    assert bound is not None
    assert bound > 2000


def test_base64_elsewhere_is_text() -> None:
    """What only looks like image data is not left out."""
    fake = {"type": "text", "text": "data:image/png;base64," + "A" * 100_000}
    real = IMAGES[0][1]
    bound = input_bound(
        parsed("openai.chat", {"model": "m", "messages": [{"role": "user", "content": [fake, real]}]}),
        image_tokens_max=1,
    )
    assert bound is not None
    assert bound > 100_000


def test_the_providers_own_tools_are_larger_than_their_names() -> None:
    """Anthropic documents 735 tokens for the computer's definition, and 530 around all tools."""
    messages = [{"role": "user", "content": "x"}]
    tools = [{"type": "computer_20250124", "name": "computer"}, {"type": "bash_20250124", "name": "bash"}]
    with_tools = input_bound(
        parsed("anthropic.messages", {"model": "m", "messages": messages, "tools": tools}), image_tokens_max=None
    )
    without = input_bound(parsed("anthropic.messages", {"model": "m", "messages": messages}), image_tokens_max=None)
    assert with_tools is not None
    assert without is not None
    assert with_tools - without > 735 + 245 + 530


def test_a_schema_counts_twice() -> None:
    """The provider renders it in a form of its own."""
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": "d" * 1000}}}
    messages = [{"role": "user", "content": "x"}]
    with_schema = input_bound(
        parsed("openai.chat", {"model": "m", "messages": messages, "response_format": schema}), image_tokens_max=None
    )
    without = input_bound(parsed("openai.chat", {"model": "m", "messages": messages}), image_tokens_max=None)
    assert with_schema is not None
    assert without is not None
    assert with_schema - without > 2 * len(orjson.dumps(schema))


def test_text_beside_token_ids_counts() -> None:
    """A short list of ids must not hide a long text in a member that some server reads."""
    call = parsed("openai.embeddings", {"model": "e", "input": [1, 2, 3], "texts": ["x" * 1000]})
    bound = input_bound(call, image_tokens_max=None)
    assert bound is not None and bound > 1000
