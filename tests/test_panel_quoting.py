"""What a panel's run is quoted at, and what it is refused for before anybody is asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.catalogue import Model
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.panel_quoting import panel_quote
from proxy.pricing.money import Nano
from proxy.pricing.quote import Quote
from proxy.quoting import narrowed, priced
from proxy.quoting import quote as plain_quote
from tests.support.panels import mode, panel_model, seat

HELLO = [{"role": "user", "content": "Hello!"}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


def call_of(messages: Any = None, *, ascii_only: bool = False, **more: Any) -> Call:
    body = {"model": "consensus-fast", "messages": HELLO if messages is None else messages, **more}
    raw = orjson.dumps(body)
    if ascii_only:
        raw = raw.decode().encode("ascii", "backslashreplace").replace(b"\\U000", b"\\u")
    return DIALECTS["openai.chat"].parse(raw)


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def quote(call: Call, model: Model | None = None, *, without: str = "") -> Quote:
    of = model or panel_model()
    return await panel_quote(of, call, tuple([one for one in of.candidates if one.model != without]))


async def refusal(call: Call, model: Model | None = None, **changes: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await quote(call, model, **changes)
    return refused.value


async def test_a_run_is_charged_its_price_and_held_at_its_budget() -> None:
    """Whatever it is asked; nothing of the price is input, so that a failed run owes nothing."""
    found = await quote(call_of())
    assert (found.charged, found.list, found.input_charged) == (Nano(50_000_000), Nano(40_000_000), 0)
    assert found.bounded and found.choices == 1 and found.candidates == panel_model().candidates


@pytest.mark.parametrize(("asked", "granted"), [(None, 200), (50, 50), (9_999, 400)])
async def test_the_output_limit_is_the_clients_up_to_the_modes(asked: int | None, granted: int) -> None:
    """Absent: the mode's default."""
    found = await quote(call_of() if asked is None else call_of(max_completion_tokens=asked))
    assert found.output_tokens == granted


async def test_a_price_worked_out_anew_is_the_same() -> None:
    """However the output limit or the candidates change, and wherever a quote is made."""
    model, call = panel_model(), call_of()
    found = await quote(call)
    for other in (
        priced(found.with_output(1), model, call, provider_credential=False),
        narrowed(found, model, call, found.candidates[:1]),
        plain_quote(model, call, provider_credential=False),
    ):
        assert (other.charged, other.list, other.input_charged) == (found.charged, found.list, found.input_charged)


async def test_a_question_at_the_limit_passes_and_a_longer_one_is_told_the_limit() -> None:
    """Counted, where its bytes alone do not show that it is short enough."""
    found = await quote(call_of(said("word " * 480)))
    assert 480 <= found.input_tokens <= 500
    refused = await refusal(call_of(said("word " * 520)))
    assert refused.code == "context_length_exceeded"
    assert "'consensus-fast' takes 500 tokens at its price, and no more than 3000 bytes" in refused.message


async def test_few_tokens_of_many_bytes_are_too_long() -> None:
    """A budget is proven by bytes: a run of spaces has few tokens and as many bytes as it likes."""
    refused = await refusal(call_of(said(" " * 4000)))
    assert refused.code == "context_length_exceeded"


async def test_escapes_of_a_client_are_not_held_against_it() -> None:
    """The same question, spelled in ASCII, is as long as in UTF-8."""
    text = "это длинный вопрос " * 40
    plain, escaped = call_of(said(text)), call_of(said(text), ascii_only=True)
    assert len(escaped.body) > 3000 > len(plain.body)
    assert (await quote(escaped)).charged == (await quote(plain)).charged


async def test_an_image_needs_a_member_that_sees_it() -> None:
    """One is enough; where the caller's rules take it out, the image is refused."""
    assert (await quote(call_of(IMAGE))).bounded
    refused = await refusal(call_of(IMAGE), without="a")
    assert (refused.code, refused.param) == ("invalid_request", "messages")
    blind = panel_model(mode(seats=(seat("b"), seat("c")), synthesisers=(seat("b"),)))
    assert "none of its members can be shown any" in (await refusal(call_of(IMAGE), blind)).message


@pytest.mark.parametrize(
    ("asked", "param"), [({"tools": [TOOL]}, "tools"), ({"response_format": SCHEMA}, "response_format")]
)
async def test_tools_and_schemas_need_a_synthesiser_that_takes_them(asked: dict[str, Any], param: str) -> None:
    """A member that takes them is not enough: members only advise."""
    assert (await quote(call_of(**asked))).bounded
    writes = panel_model(mode(synthesisers=(seat("b"),)))
    refused = await refusal(call_of(**asked), writes)
    assert (refused.code, refused.param) == ("invalid_request", param)
    assert "none of its synthesisers can" in refused.message


async def test_what_cannot_be_bounded_is_refused() -> None:
    """Whether a cap applies or not: the price is fixed."""
    refused = await refusal(call_of(web_search_options={}))
    assert refused.code == "unbounded_cost"


async def test_too_few_permitted_members_are_a_refusal() -> None:
    """The quorum is never lowered."""
    bare = panel_model(mode(seats=(seat("a"), seat("b")), spares=(), synthesisers=(seat("a"),)))
    assert (await refusal(call_of(), bare, without="b")).code == "model_not_allowed"
