"""The built-in demo, judged by the official SDKs."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest

from proxy.upstreams.demo import CHOICES_MAX, DemoUpstream

ASKED = [{"role": "user", "content": "what is this?"}]


@pytest.fixture
async def base_url():
    """Its base URL, without pauses between words."""
    demo = DemoUpstream(piece_seconds=0)
    yield await demo.start()
    await demo.stop()
    await demo.stop()


@pytest.fixture
async def chat(base_url):
    """The official OpenAI SDK."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def messages(base_url):
    """The official Anthropic SDK."""
    root = base_url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=root, api_key="none", max_retries=0) as sdk:
        yield sdk


async def test_it_says_what_it_is_and_how_to_go_on(chat):
    """A demo, the question again, and the next step; usage counts words."""
    answer = await chat.chat.completions.create(model="demo", messages=ASKED)
    text = answer.choices[0].message.content
    assert "built-in demo" in text and "what is this?" in text and "OPENAI_API_KEY" in text
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, len(text.split()))


async def test_long_question_is_echoed_in_part(chat):
    """A bit of it, not all."""
    answer = await chat.chat.completions.create(model="demo", messages=[{"role": "user", "content": "word " * 5000}])
    assert len(answer.choices[0].message.content) < 1000
    assert answer.usage.prompt_tokens == 5000


async def test_stream_joins_to_the_whole_answer(chat):
    """Same words, and the usage chunk only where asked for."""
    whole = await chat.chat.completions.create(model="demo", messages=ASKED)
    asked = [
        chunk
        async for chunk in await chat.chat.completions.create(
            model="demo", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
    ]
    plain = [chunk async for chunk in await chat.chat.completions.create(model="demo", messages=ASKED, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == whole.choices[0].message.content
    assert asked[-1].choices == [] and asked[-1].usage == whole.usage.model_copy()
    assert all(chunk.usage is None for chunk in plain)


async def test_output_limit_and_choices_are_honoured(chat):
    """Two answers of three words each, and their usage."""
    answer = await chat.chat.completions.create(model="demo", messages=ASKED, max_tokens=3, n=2)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 6


async def test_messages_whole_and_streamed(messages):
    """Anthropic's format, the system prompt counted."""
    request = {"model": "demo", "max_tokens": 500, "messages": ASKED, "system": "be brief"}
    whole = await messages.messages.create(**request)
    async with messages.messages.stream(**request) as stream:
        streamed = await stream.get_final_message()
    assert whole.usage.input_tokens == 5
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert whole.stop_reason == streamed.stop_reason == "end_turn"


async def test_embeddings_are_deterministic_unit_vectors(chat):
    """Equal inputs are equal, floats and base64 agree, dimensions are honoured."""
    packed = await chat.embeddings.create(model="demo", input=["a b", "c"], dimensions=16)
    floats = await chat.embeddings.create(model="demo", input=["a b", "c"], dimensions=16, encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(floats.data[0].embedding, rel=1e-6)
    assert sum(value * value for value in floats.data[0].embedding) == pytest.approx(1)
    assert floats.data[0].embedding != floats.data[1].embedding
    assert packed.usage.total_tokens == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", b"{"),
        ("/chat/completions", b"[]"),
        ("/chat/completions", b'{"model":"demo"}'),
        ("/chat/completions", b'{"model":"demo","messages":["x"]}'),
        ("/chat/completions", b'{"model":"demo","messages":[{}],"n":%d}' % (CHOICES_MAX + 1)),
        ("/embeddings", b'{"model":"demo"}'),
        ("/embeddings", b'{"model":"demo","input":[]}'),
        ("/messages", b'{"model":"demo","messages":[{"role":"user","content":"x"}]}'),
    ],
)
async def test_bad_requests_get_the_dialects_envelope(base_url, path, body):
    """400 with a message, whatever is wrong."""
    async with httpx.AsyncClient() as plain:
        answer = await plain.post(base_url + path, content=body)
    document = answer.json()
    assert answer.status_code == 400 and document["error"]["message"]
    assert (document.get("type") == "error") == (path == "/messages")


@pytest.mark.parametrize("limit", [None, 5])
async def test_responses_whole_and_streamed(chat, limit):
    """The same words either way, each event one of the SDK's; a limit makes it incomplete."""
    options = {} if limit is None else {"max_output_tokens": limit}
    whole = await chat.responses.create(model="demo", input="what is this?", instructions="Be brief.", **options)
    assert whole.usage.input_tokens == 5
    assert whole.usage.output_tokens == len(whole.output_text.split()) == (limit or whole.usage.output_tokens)
    assert whole.status == ("completed" if limit is None else "incomplete")
    events = [event async for event in await chat.responses.create(model="demo", input=ASKED, stream=True, **options)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert events[-1].type == f"response.{whole.status}"
    assert events[-1].response.usage.input_tokens == 3


async def test_responses_without_input_are_refused(chat):
    """As the provider would."""
    with pytest.raises(openai.BadRequestError):
        await chat.responses.create(model="demo")
