"""Identical requests over real sockets: OpenAI's SDK, a proxy with the shipped order of plugins, a real ledger."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.peers.behaviour import Behaviour, Fault
from tests.support.world import CHAIN, MODELS, World, world

DEDUP: list[str | dict[str, Any]] = list(CHAIN)
DEDUP.insert(DEDUP.index("cost_preview"), "dedup")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy that remembers answers."""
    with world(tmp_path_factory.mktemp("dedup"), config={"chain": DEDUP, "drain_client_gone_seconds": 1}) as running:
        yield running
        running.gateway.cli("ledger", "audit")


@pytest.fixture(autouse=True)
def forgetful(edge: World) -> Iterator[None]:
    """A provider that remembers this test only."""
    edge.provider.reset()
    yield
    edge.provider.reset()


@pytest.fixture(scope="module")
def key(edge: World) -> str:
    """A key of ours."""
    return edge.gateway.make_key(caps=("5/day",))


_texts = itertools.count(1)


@pytest.fixture
def text() -> str:
    """A prompt that no other test sends."""
    return f"Say hello {next(_texts)} times."


def client(edge: World, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=edge.base_url, max_retries=0)


async def ask(by: openai.AsyncOpenAI, text: str, **options: Any) -> openai._legacy_response.LegacyAPIResponse[Any]:
    return await by.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=[{"role": "user", "content": text}], **options
    )


def lines(edge: World, *answers: httpx.Headers) -> list[dict[str, Any]]:
    """The audit lines of these answers."""
    ids = [answer["x-tollway-request-id"] for answer in answers]
    by_id = {line["request_id"]: line for line in edge.gateway.audit_lines()}
    return [by_id[one] for one in ids]


async def until_written(edge: World, *answers: httpx.Headers) -> list[dict[str, Any]]:
    """The same, as soon as all are written: a line follows its answer."""
    async with asyncio.timeout(10):
        while True:
            try:
                return lines(edge, *answers)
            except KeyError:
                await asyncio.sleep(0.01)


async def test_two_identical_requests_are_one_call_and_one_charge(edge: World, key: str, text: str) -> None:
    """The second answer is the first's, under a request id of its own; the audit line says so."""
    async with client(edge, key) as by:
        first, second = await ask(by, text), await ask(by, text)
    assert len(edge.provider.requests) == 1
    assert (first.headers["x-dedup"], second.headers["x-dedup"]) == ("miss", "hit")
    assert int(second.headers["age"]) >= 0
    assert first.content == second.content
    assert second.parse().choices[0].message.content == Behaviour().text
    assert first.headers["x-tollway-request-id"] != second.headers["x-tollway-request-id"]
    charged, repeated = await until_written(edge, first.headers, second.headers)
    assert (charged["dedup"], repeated["dedup"]) == (False, True)
    assert float(charged["charged_usd"]) > 0
    assert (repeated["charged_usd"], repeated["tokens_in"], repeated["attempts"]) == (None, None, [])
    assert (repeated["status"], repeated["outcome"], repeated["key_id"]) == (200, "served", charged["key_id"])


async def test_twenty_twins_at_once_are_one_call(edge: World, key: str, text: str) -> None:
    """All of them get its answer, one pays."""
    edge.provider.default = Behaviour(head_delay_seconds=0.3)
    async with client(edge, key) as by:
        answers = await asyncio.gather(*(ask(by, text) for _ in range(20)))
    assert len(edge.provider.requests) == 1
    assert sorted(answer.headers["x-dedup"] for answer in answers) == [*["hit"] * 19, "miss"]
    assert len({answer.content for answer in answers}) == 1
    written = await until_written(edge, *(answer.headers for answer in answers))
    assert [line["charged_usd"] is not None for line in written].count(True) == 1
    metrics = httpx.get(f"{edge.gateway.url('admin')}/metrics").text
    assert 'tollway_repeated_answers_total{source="twin"}' in metrics


async def test_another_key_pays_for_itself(edge: World, key: str, text: str) -> None:
    """Nobody is answered with what somebody else was charged for."""
    async with client(edge, key) as by, client(edge, edge.gateway.make_key()) as other:
        assert [(await ask(one, text)).headers["x-dedup"] for one in (by, other)] == ["miss", "miss"]
    assert len(edge.provider.requests) == 2


async def test_streams_are_never_shared(edge: World, key: str, text: str) -> None:
    """Two streams are two calls."""
    async with client(edge, key) as by:
        for _ in range(2):
            stream = await by.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": text}], stream=True
            )
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == Behaviour().text
    assert len(edge.provider.requests) == 2


async def test_no_cache_asks_the_model_again(edge: World, key: str, text: str) -> None:
    """And leaves no trace in the answer; the header is ours and does not go upstream."""
    async with client(edge, key) as by:
        await ask(by, text)
        again = await ask(by, text, extra_headers={"X-No-Cache": "1"})
    assert "x-dedup" not in again.headers
    assert len(edge.provider.requests) == 2
    assert edge.provider.requests[-1].header("x-no-cache") is None


async def test_a_failure_is_not_shared(edge: World, key: str, text: str) -> None:
    """Who asks again calls again."""
    edge.provider.script(Behaviour(status=400))
    async with client(edge, key) as by:
        with pytest.raises(openai.BadRequestError):
            await ask(by, text)
        assert (await ask(by, text)).headers["x-dedup"] == "miss"


async def test_a_twin_takes_over_from_a_client_that_left(edge: World, key: str, text: str) -> None:
    """The first is read on for its usage in vain; then the one that waits calls for itself."""
    edge.provider.script(Behaviour(fault=Fault.HANG_BEFORE_HEAD))
    async with client(edge, key) as by:
        first = asyncio.get_running_loop().create_task(ask(by, text))
        await edge.provider.until(lambda: len(edge.provider.requests) == 1)
        second = asyncio.get_running_loop().create_task(ask(by, text))
        first.cancel()
        assert (await second).headers["x-dedup"] == "miss"
    assert len(edge.provider.requests) == 2


async def test_an_answer_that_outlived_its_client_serves_the_retry(edge: World, key: str, text: str) -> None:
    """The connection broke, the answer came all the same and was charged: asking again costs nothing."""
    edge.provider.script(Behaviour(head_delay_seconds=0.3))
    async with client(edge, key) as by:
        first = asyncio.get_running_loop().create_task(ask(by, text))
        await edge.provider.until(lambda: len(edge.provider.requests) == 1)
        first.cancel()
        assert (await ask(by, text)).headers["x-dedup"] == "hit"
    assert len(edge.provider.requests) == 1


async def test_embeddings_are_remembered_too(edge: World, key: str, text: str) -> None:
    """Whatever is priced and whole."""
    async with client(edge, key) as by:
        for expected in ("miss", "hit"):
            answer = await by.embeddings.with_raw_response.create(model="text-embedding-3-small", input=text)
            assert answer.headers["x-dedup"] == expected


async def test_caps_count_one_of_two(edge: World, text: str) -> None:
    """A cap that one call fills still lets its twin pass, and nothing else."""
    full = edge.gateway.make_key(caps=("0.012/day",))
    async with client(edge, full) as by:
        assert (await ask(by, text, max_tokens=1000)).headers["x-dedup"] == "miss"
        assert (await ask(by, text, max_tokens=1000)).headers["x-dedup"] == "hit"
        for number in range(20):
            try:
                await ask(by, f"Other {number}.", max_tokens=1000)
            except openai.APIStatusError as refused:
                assert refused.status_code == 402
                break
        else:
            pytest.fail("the cap was never reached")
        assert (await ask(by, text, max_tokens=1000)).headers["x-dedup"] == "hit"


async def test_repeated_answers_are_concealed_alike(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An id of its own, and the same model's name: what served is a member of a lane, called once."""
    lane = {"lane": ["gpt-4o"], "price": {"input": "2", "output": "8"}}
    with world(
        tmp_path_factory.mktemp("concealed"),
        config={"chain": ["audit", "conceal", *DEDUP[1:]]},
        policies={"models": {"models": MODELS | {"smart": lane}}},
    ) as concealed:
        async with client(concealed, concealed.gateway.make_key()) as by:
            first, second = [
                await by.chat.completions.with_raw_response.create(
                    model="smart", messages=[{"role": "user", "content": "Say hello."}]
                )
                for _ in range(2)
            ]
        assert (first.headers["x-dedup"], second.headers["x-dedup"]) == ("miss", "hit")
        one, other = first.parse(), second.parse()
        assert one.model == other.model == "gpt-4o"
        assert one.id != other.id
        assert other.id.removeprefix("chatcmpl-") in second.headers["x-tollway-request-id"]
        assert len(concealed.provider.requests) == 1


async def test_a_new_configuration_remembers_nothing_of_the_old(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was answered under other models, prices or rules is not given out any more."""
    with world(tmp_path_factory.mktemp("reloaded"), config={"chain": DEDUP, "reload_seconds": None}) as changed:
        async with client(changed, changed.gateway.make_key()) as by:
            assert [(await ask(by, "Say hello.")).headers["x-dedup"] for _ in range(2)] == ["miss", "hit"]
            dearer = {**MODELS["gpt-4o"], "price": {"input": "5", "output": "20"}}
            policy = changed.gateway.folder / "policies" / "models.yaml"
            policy.write_text(yaml.safe_dump({"models": MODELS | {"gpt-4o": dearer}}))
            httpx.post(f"{changed.gateway.url('admin')}/reload").raise_for_status()
            again = await ask(by, "Say hello.")
        assert again.headers["x-dedup"] == "miss"
        (line,) = await until_written(changed, again.headers)
        assert float(line["charged_usd"]) == (2 * 5 + 10 * 20) / 1_000_000
