"""Calls to an address that fails in every way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from proxy.evaluation.asking import Asker, CallFailed
from proxy.evaluation.errors import Stopped
from tests.support.fakes import FakeClock

BODY = {"model": "alpha", "messages": []}
URL = "http://127.0.0.1:1/v1"
Answer = Callable[[httpx.Request], httpx.Response]


def completion(text: str | None = "Yes.", **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 2_000}
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage, **more}


def failure(status: int, message: str = "It cannot be.", **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, **more}})


def asker(*answers: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> Asker:
    """Each request takes the next answer; the last one stays."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, headers=found.headers, stream=Whole(found.content))

    made = Asker(URL, "secret-key", FakeClock(0), timeout_seconds=5, tries=3, backoff_seconds=0)
    headers = dict(made._client.headers)
    made._client = httpx.AsyncClient(transport=httpx.MockTransport(answer), headers=headers)
    return made


class Whole(httpx.AsyncByteStream):
    """A body that comes once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> Any:
        yield self._content


async def test_an_answer_with_its_usage_and_cost() -> None:
    """By the gateway's rates; the key goes in the header, and the same idempotency key with every try."""
    seen: list[httpx.Request] = []
    rates = {"rates": [{"model": "alpha", "input_per_1m": 2.5, "output_per_1m": 10}, {"model": "odd"}]}
    made = asker(httpx.Response(200, json=rates), failure(503), httpx.Response(200, json=completion()), seen=seen)
    async with made:
        await made.learn_rates()
        reply = await made.ask(BODY, "idem")
    assert (reply.text, reply.tries, reply.input_tokens, reply.output_tokens) == ("Yes.", 2, 1_000, 2_000)
    assert (reply.cost.nano, reply.cost.basis) == (22_500_000, "rates")
    assert [one.headers.get("idempotency-key") for one in seen] == [None, "idem", "idem"]
    assert seen[1].headers["authorization"] == "Bearer secret-key"
    assert json.loads(seen[1].content) == BODY


@pytest.mark.parametrize(
    ("more", "nano"),
    [
        ({"consensus": {"charged_usd": "0.35", "cost_usd": "0.021"}}, 350_000_000),
        ({"usage": {"cost": 0.0025}}, 2_500_000),
        ({"usage": {"cost": "free"}}, None),
        ({"usage": {"cost": True}}, None),
        ({"usage": {"cost": "NaN"}}, None),
        ({"usage": None}, None),
        ({}, None),
    ],
)
async def test_a_reported_cost_goes_before_rates(more: dict[str, Any], nano: int | None) -> None:
    """And what is not known is not made up."""
    async with asker(httpx.Response(200, json=completion(**more))) as made:
        reply = await made.ask(BODY, "idem")
    assert reply.cost.nano == nano
    assert ("consensus" in reply.extra) == ("consensus" in more)


@pytest.mark.parametrize("header", [("idempotent-replayed", "true"), ("x-dedup", "hit")])
async def test_an_answer_from_memory_is_marked(header: tuple[str, str]) -> None:
    """Its time is not a model's."""
    async with asker(httpx.Response(200, json=completion(), headers=[header])) as made:
        assert (await made.ask(BODY, "idem")).extra == {"replayed": True}


@pytest.mark.parametrize(
    "answers",
    [
        [failure(500)],
        [failure(429)],
        [httpx.Response(200, json=completion("  "))],
        [httpx.Response(200, json=completion(None))],
        [httpx.Response(200, text="<html>")],
        [httpx.Response(200, json={"choices": []})],
        [httpx.Response(200, json=[])],
        [httpx.ReadTimeout("")],
        [httpx.RemoteProtocolError("cut")],
        [failure(400)],
    ],
)
async def test_a_call_fails_after_its_tries(answers: list[httpx.Response | Exception]) -> None:
    """What cannot be mended by trying is tried once."""
    seen: list[httpx.Request] = []
    async with asker(*answers, seen=seen) as made:
        with pytest.raises(CallFailed):
            await made.ask(BODY, "idem")
    assert len(seen) == (1 if isinstance(answers[0], httpx.Response) and answers[0].status_code == 400 else 3)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_what_no_call_will_mend_stops_the_run(status: int) -> None:
    """A key that is wrong, money that is gone, a model that is not there."""
    async with asker(failure(status, "No such thing")) as made:
        with pytest.raises(Stopped, match=f"alpha: {status}: No such thing. Mend that"):
            await made.ask(BODY, "idem")


async def test_an_address_that_is_gone_stops_the_run() -> None:
    """It is nobody's failure."""
    async with asker(httpx.ConnectError("refused")) as made:
        with pytest.raises(Stopped, match="run the same command again"):
            await made.ask(BODY, "idem")
        with pytest.raises(Stopped, match="Is it running"):
            await made.names()


async def test_a_model_without_schemas_stops_the_run() -> None:
    """Nothing else would come of the whole plan."""
    async with asker(failure(400, "cannot answer by a JSON schema", param="response_format")) as made:
        with pytest.raises(Stopped, match="--judge-format"):
            await made.ask(BODY, "idem")


async def test_names_of_models() -> None:
    """Where the address tells them."""
    async with asker(httpx.Response(200, json={"data": [{"id": "alpha"}, {}, 1]})) as made:
        assert await made.names() == {"alpha"}
    async with asker(httpx.Response(404)) as made:
        assert await made.names() is None
    async with asker(failure(401, "Wrong key")) as made:
        with pytest.raises(Stopped, match=r"Wrong key\. Say which key with --key"):
            await made.names()


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "http://example.com/v1", "http://u:p@127.0.0.1/v1", "127.0.0.1", "http://"]
)
def test_a_key_is_not_sent_anywhere(url: str) -> None:
    """Over http to this machine only."""
    with pytest.raises(ValueError, match="https"):
        Asker(url, "secret-key", FakeClock(0), timeout_seconds=5, tries=1)
