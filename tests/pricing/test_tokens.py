"""Counts are the tokenizer's own, whatever the text, in bounded time."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects import DIALECTS
from proxy.pricing import tokens, vocabulary
from proxy.pricing.tokens import (
    CUT_TOKENS,
    HARMONY_TOKENS,
    TEXT_CHARS_MAX,
    WINDOW_CHARS,
    count,
    count_async,
    count_call,
    count_call_async,
)
from proxy.pricing.vocabulary import ENCODINGS, VocabularyDamaged, encoding_of

BOTH = ["cl100k_base", "o200k_base"]
WORD = st.sampled_from(
    [
        "hello",
        "Wörter",
        "你好",
        "😀",
        "  ",
        " ",
        "\n",
        "\n\n",
        "\t ",
        "don't",
        "1234567",
        "<|endoftext|>",
        "...",
        "\x00",
        "\x1c ",
        "\u3000",
        "\xa0 ",
        "if(x):\r\n",
        " /",
        "a" * 40,
    ]
)


def plain(text: str, encoding: str) -> int:
    """What the tokenizer says of the whole text at once."""
    return len(encoding_of(encoding).encode_ordinary(text))


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("", "cl100k_base", 0),
        ("hello world", "cl100k_base", 2),
        ("tiktoken is great!", "cl100k_base", 6),
        ("お誕生日おめでとう", "cl100k_base", 9),
        ("お誕生日おめでとう", "o200k_base", 8),
        ("2 + 2 = 4", "o200k_harmony", 7),
    ],
)
def test_published_counts(text: str, encoding: str, expected: int) -> None:
    """Examples of OpenAI's own documentation, and their like."""
    assert count(text, encoding) == expected


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_special_token_text_is_text(encoding: str) -> None:
    """It is several ordinary tokens, and raises nothing."""
    counted = count("<|endoftext|><|start|>", encoding)
    assert counted is not None
    assert counted > 6


@pytest.mark.parametrize("encoding", BOTH)
@given(st.lists(WORD, min_size=1, max_size=40), st.integers(1, 64))
@settings(deadline=None)
def test_cutting_at_boundaries_changes_no_count(encoding: str, words: list[str], window: int) -> None:
    """The parts have the tokens of the whole; a cut elsewhere never counts fewer."""
    text = "".join(words)
    exact = True
    total, start = 0, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "WINDOW_CHARS", window)
        counted = count(text, encoding)
        while start < len(text) > window:
            end, at_boundary = tokens._window_end(text, start)
            assert start < end <= start + window
            exact, total, start = exact and at_boundary, total + plain(text[start:end], encoding), end
    assert counted is not None
    if exact:
        assert counted == plain(text, encoding)
    else:
        assert counted >= plain(text, encoding)


@pytest.mark.parametrize("encoding", BOTH)
@pytest.mark.parametrize("unit", [" ", "a", "\n", " \n", "😀", "1", "aGVsbG8", "\t", "é", "'", "<|endoftext|>"])
def test_pathological_texts_are_counted(unit: str, encoding: str) -> None:
    """A million spaces make the tokenizer panic when it is given them at once."""
    text = (unit * 200_000)[:200_000]
    counted = count(text, encoding)
    truth = plain(text, encoding)
    assert counted is not None
    assert truth <= counted <= truth + CUT_TOKENS * (len(text) // WINDOW_CHARS + 1)


def test_a_million_spaces() -> None:
    """Neither a panic nor a refusal."""
    counted = count(" " * 1_000_000, "o200k_base")
    assert counted is not None
    assert 1_000_000 // 128 <= counted < 20_000


def test_a_text_beyond_the_limit_is_not_counted() -> None:
    """The caller takes the byte bound."""
    assert count("a" * (TEXT_CHARS_MAX + 1), "cl100k_base") is None


def test_an_unknown_encoding_is_an_error() -> None:
    """Not a guess."""
    with pytest.raises(KeyError):
        count("x", "p99k_base")


def test_a_damaged_vocabulary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SHA-256 is checked at each load."""
    known = vocabulary._VOCABULARIES["cl100k_base"]
    content = (vocabulary._FOLDER / known.file).read_bytes()
    (tmp_path / known.file).write_bytes(content[:-1] + b"0")
    monkeypatch.setattr(vocabulary, "_FOLDER", tmp_path)
    monkeypatch.setattr(vocabulary, "_loaded", {})
    with pytest.raises(VocabularyDamaged):
        count("x", "cl100k_base")


def test_the_vocabularies_are_tiktokens_own() -> None:
    """Patterns and special tokens agree with the library's definitions."""
    from tiktoken_ext import openai_public

    for name in BOTH:
        known = vocabulary._VOCABULARIES[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
            theirs = getattr(openai_public, name)()
        assert known.pattern == theirs["pat_str"]
        assert known.special_tokens == theirs["special_tokens"]


async def test_counting_leaves_the_loop_free() -> None:
    """It happens in another thread."""
    assert await count_async("hello world", "cl100k_base") == 2


async def test_counts_beyond_the_waiting_limit_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """They answer None at once, and the places are free again after."""
    release = threading.Event()
    monkeypatch.setattr(tokens, "_waiting", threading.BoundedSemaphore(2))
    monkeypatch.setattr(tokens, "count", lambda *_: 7 if release.wait(20) else 0)
    under_way = [asyncio.ensure_future(count_async("x", "cl100k_base")) for _ in range(2)]
    await asyncio.sleep(0)
    assert await count_async("x", "cl100k_base") is None
    release.set()
    assert await asyncio.gather(*under_way) == [7, 7]
    assert await count_async("x", "cl100k_base") == 7


async def test_a_cancelled_count_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its thread has ended, or at once if it had not begun."""
    release = threading.Event()
    places = threading.BoundedSemaphore(5)
    monkeypatch.setattr(tokens, "_waiting", places)
    monkeypatch.setattr(tokens, "count", lambda *_: 7 if release.wait(20) else 0)
    counts = [asyncio.ensure_future(count_async("x", "cl100k_base")) for _ in range(5)]
    await asyncio.sleep(0)
    for made in counts:
        made.cancel()
    assert all(
        isinstance(made, asyncio.CancelledError) for made in await asyncio.gather(*counts, return_exceptions=True)
    )
    release.set()
    monkeypatch.setattr(tokens, "count", lambda *_: 8)
    assert await asyncio.gather(*(count_async("x", "cl100k_base") for _ in range(1))) == [8]
    for _ in range(5):
        assert await asyncio.to_thread(places.acquire, timeout=20)


def call(dialect: str, **members: Any) -> Any:
    return DIALECTS[dialect].parse(orjson.dumps({"model": "m"} | members))


def test_messages_with_their_wrapping() -> None:
    """OpenAI's own example of how to count: 3 a message, 1 a name, 3 to prime."""
    messages = [{"role": "system", "content": "hello world"}, {"role": "user", "name": "tom", "content": "hello world"}]
    expected = 2 * 3 + 3 + (1 + 2) + (1 + 2 + 1 + 1)
    counted = call("openai.chat", messages=messages)
    assert count_call(counted, "cl100k_base") == expected
    assert count_call(counted, "o200k_harmony") == (count_call(counted, "o200k_base") or 0) + HARMONY_TOKENS


def test_parts_tools_and_calls_count() -> None:
    """More text is never fewer tokens; images count as their maximum and need one."""
    user = {"role": "user", "content": [{"type": "text", "text": "hello world"}]}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    pictured = {"role": "user", "content": [*user["content"], image]}
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "i", "function": {"name": "f", "arguments": "{}"}}],
    }
    tools = [{"type": "function", "function": {"name": "f", "description": "looks"}}]
    base = count_call(call("openai.chat", messages=[user]), "o200k_base")
    assert base == 3 + 3 + 1 + 2
    with_tools = count_call(call("openai.chat", messages=[user, called], tools=tools), "o200k_base")
    assert with_tools is not None
    assert with_tools > base + 20
    assert count_call(call("openai.chat", messages=[pictured]), "o200k_base", image_tokens_max=765) == base + 765
    assert count_call(call("openai.chat", messages=[pictured]), "o200k_base") is None


def test_a_message_of_anthropics() -> None:
    """System, results of tools and documents are text."""
    content = [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "hello world"}]},
        {"type": "text", "text": "hello world"},
    ]
    counted = call("anthropic.messages", system="hello world", messages=[{"role": "user", "content": content}])
    assert count_call(counted, "cl100k_base") == 3 + 3 + 1 + 3 * 2


@pytest.mark.parametrize(
    ("given", "expected"), [("hello world", 2), (["hello world"] * 3, 6), ([5, 6, 7], 3), ([[5, 6], [7]], 3)]
)
def test_embeddings(given: Any, expected: int) -> None:
    """Token ids count one each."""
    assert count_call(call("openai.embeddings", input=given), "cl100k_base") == expected


async def test_a_call_is_counted_in_a_thread_and_bounded() -> None:
    """Too long a call is None."""
    assert await count_call_async(call("openai.embeddings", input="hello world"), "cl100k_base") == 2
    assert count_call(call("openai.embeddings", input="a" * (TEXT_CHARS_MAX + 1)), "cl100k_base") is None


def test_what_a_server_may_put_into_the_prompt_is_counted() -> None:
    """A count near a cap must not leave out what the byte bound held in."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    plain = count_call(DIALECTS["openai.chat"].parse(orjson.dumps(body)), "o200k_base")
    documents = {**body, "documents": [{"text": "word " * 500}], "user": "ann", "metadata": {"a": "b" * 99}}
    counted = count_call(DIALECTS["openai.chat"].parse(orjson.dumps(documents)), "o200k_base")
    assert plain is not None and counted is not None
    assert 500 <= counted - plain <= 520


def test_a_question_to_a_panel_counts_as_its_members_are_asked_it() -> None:
    """A prompt as the message that it stands for; what no model reads is not counted, a schema is."""
    user = {"role": "user", "content": "hello world"}
    asked = count_call(call("openai.chat", messages=[user]), "o200k_base")
    beside = {"mode": "deep", "webhook_url": "https://example.com/a/long/way", "metadata": {"a": "b c d"}}
    panel = "tollway.orchestrate"

    def counted(**members: Any) -> int | None:
        return count_call(DIALECTS[panel].parse(orjson.dumps({**beside, **members})), "o200k_base")

    assert counted(prompt="hello world") == counted(messages=[user]) == asked
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    with_form = count_call(call("openai.chat", messages=[user], response_format=form), "o200k_base")
    assert counted(prompt="hello world", response_format=form) == with_form
