"""What is charged, to the nano-dollar, for whatever an upstream reports; and that every account of it agrees."""

from __future__ import annotations

import json
import ssl
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.edge.kinds import (
    CHAT,
    CHAT_STREAM,
    EMBEDDINGS,
    KINDS,
    MESSAGES,
    MESSAGES_STREAM,
    SERVED_NANO,
    Kind,
    ask,
    books,
    ended,
)
from tests.peers.behaviour import Behaviour, Usage
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.books import AttemptRow
from tests.support.world import World

CHATS = [CHAT, CHAT_STREAM]
BOTH_MESSAGES = [MESSAGES, MESSAGES_STREAM]
NANO_PER_USD = 10**9


def tokens(attempt: AttemptRow) -> tuple[int | None, ...]:
    """In, out, cached, written for five minutes, written for an hour, reasoning."""
    return (
        attempt.input_tokens,
        attempt.output_tokens,
        attempt.cached_tokens,
        attempt.cache_write_tokens,
        attempt.cache_write_1h_tokens,
        attempt.reasoning_tokens,
    )


def check_charged(
    edge: World, key: str, kind: Kind, usage: Any, nano: int, counts: tuple[int, ...], *, counted: int = 0
) -> None:
    """One served exchange whose upstream reports `usage`."""
    edge.provider.script(Behaviour(usage=usage))
    answer = ask(edge, key, kind)
    assert answer.status == 200
    hold = ended(edge, answer)
    assert (hold.charged, hold.list_cost, hold.outcomes) == (nano, nano, ["served"])
    (attempt,) = hold.attempts
    assert tokens(attempt) == counts
    assert (attempt.counted, attempt.list_cost) == (counted, nano)


CHAT_REPORTS: list[tuple[str, dict[str, Any], int, tuple[int, ...]]] = [
    (
        "cached and reasoning",
        {
            "prompt_tokens": 101,
            "completion_tokens": 37,
            "total_tokens": 138,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        # 37 fresh at 2.50, 64 cached at 1.25 and 37 out at 10 dollars a million.
        37 * 2_500 + 64 * 1_250 + 37 * 10_000,
        (101, 37, 64, 0, 0, 30),
    ),
    ("all cached", {"prompt_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 9}},
     9 * 1_250, (9, 0, 9, 0, 0, 0)),
    ("more cached than there is",
     {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 99}},
     9 * 1_250 + 10_000, (9, 1, 9, 0, 0, 0)),
    ("negative output", {"prompt_tokens": 4, "completion_tokens": -9, "total_tokens": 4},
     4 * 2_500, (4, 0, 0, 0, 0, 0)),
    ("negative input", {"prompt_tokens": -4, "completion_tokens": 3}, 3 * 10_000, (0, 3, 0, 0, 0, 0)),
    ("output in the total only", {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 9},
     2 * 2_500 + 7 * 10_000, (2, 7, 0, 0, 0, 0)),
    ("text for numbers", {"prompt_tokens": "2", "completion_tokens": 3}, 3 * 10_000, (0, 3, 0, 0, 0, 0)),
    ("above its hold", {"prompt_tokens": 10, "completion_tokens": 10**6}, 10 * 2_500 + 10**6 * 10_000,
     (10, 10**6, 0, 0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize("report", CHAT_REPORTS, ids=[row[0] for row in CHAT_REPORTS])
@pytest.mark.parametrize("kind", CHATS, ids=lambda kind: kind.name)
def test_chat_is_charged_by_its_report(
    edge: World, key: str, kind: Kind, report: tuple[str, dict[str, Any], int, tuple[int, ...]]
) -> None:
    """Each kind of token at its rate; nonsense is cut to sense; what is above the hold is charged and alarmed."""
    check_charged(edge, key, kind, *report[1:])


MESSAGE_REPORTS: list[tuple[str, dict[str, Any], int, tuple[int, ...]]] = [
    (
        "cache read and both writes",
        {
            "input_tokens": 7,
            "cache_read_input_tokens": 1_000,
            "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 11,
        },
        # 7 fresh at 3, 1,000 read at 0.30, 200 written at 3.75, 100 at 6 and 11 out at 15 dollars a million.
        7 * 3_000 + 1_000 * 300 + 200 * 3_750 + 100 * 6_000 + 11 * 15_000,
        (1_307, 11, 1_000, 200, 100, 0),
    ),
    ("write without its lifetime", {"input_tokens": 1, "cache_creation_input_tokens": 5, "output_tokens": 1},
     3_000 + 5 * 3_750 + 15_000, (6, 1, 0, 5, 0, 0)),
    ("negative", {"input_tokens": 5, "cache_read_input_tokens": -3, "output_tokens": 2}, 2 * 3_000 + 2 * 15_000,
     (2, 2, 0, 0, 0, 0)),
    ("null parts", {"input_tokens": 5, "cache_read_input_tokens": None, "cache_creation": None, "output_tokens": 2},
     5 * 3_000 + 2 * 15_000, (5, 2, 0, 0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize("report", MESSAGE_REPORTS, ids=[row[0] for row in MESSAGE_REPORTS])
@pytest.mark.parametrize("kind", BOTH_MESSAGES, ids=lambda kind: kind.name)
def test_message_is_charged_by_its_report(
    edge: World, key: str, kind: Kind, report: tuple[str, dict[str, Any], int, tuple[int, ...]]
) -> None:
    """The cache's reads and both of its writes at rates of their own."""
    check_charged(edge, key, kind, *report[1:])


COUNTED: dict[str, tuple[int, tuple[int, ...]]] = {
    # The prompt's 10 tokens with their wrapping; the answer's 12 words and signs are 12 tokens.
    "chat": (10 * 2_500 + 12 * 10_000, (10, 12, 0, 0, 0, 0)),
    "messages": (10 * 3_000 + 12 * 15_000, (10, 12, 0, 0, 0, 0)),
    "embeddings": (3 * 20, (3, 0, 0, 0, 0, 0)),
    "responses": (10 * 1_250 + 12 * 10_000, (10, 12, 0, 0, 0, 0)),
}


@pytest.mark.parametrize("usage", [Usage.MISSING, None, {}, {"prompt_tokens": 0, "total_tokens": 0}], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_answer_without_a_report_is_counted(edge: World, key: str, kind: Kind, usage: Any) -> None:
    """Absent, null, empty or all zero; the row says that the count is ours."""
    nano, counts = COUNTED[kind.name.removesuffix(" stream")]
    check_charged(edge, key, kind, usage, nano, counts, counted=1)


def test_usage_beside_choices_is_read_and_passes(edge: World, key: str) -> None:
    """As some vendors report it: the chunk has content, so it is never withheld."""
    edge.provider.script(Behaviour(usage_with_choices=True))
    answer = ask(edge, key, CHAT_STREAM)
    assert b'"finish_reason":"stop"' in answer.body and b'"prompt_tokens":2' in answer.body
    assert ended(edge, answer).charged == SERVED_NANO["chat stream"]


def test_the_last_report_of_a_stream_stands(edge: World, key: str) -> None:
    """Reports are cumulative, never summed."""
    chunk = (
        'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":%d}}\n\n'
    )
    body = "".join(chunk % number for number in (1, 2, 3)) + "data: [DONE]\n\n"
    edge.provider.script(Behaviour(body=body.encode(), content_type="text/event-stream"))
    assert ended(edge, ask(edge, key, CHAT_STREAM)).charged == 5 * 2_500 + 3 * 10_000


@pytest.mark.parametrize("kind", CHATS, ids=lambda kind: kind.name)
def test_figures_beyond_any_amount_take_the_hold(edge: World, key: str, kind: Kind) -> None:
    """More tokens than any model can make is no report: the hold is charged in full, and the books still add up."""
    edge.provider.script(Behaviour(usage={"prompt_tokens": 10, "completion_tokens": 10**18}))
    hold = ended(edge, ask(edge, key, kind))
    assert (hold.charged, hold.list_cost) == (hold.held_charged, hold.held_list)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_own_provider_key_is_charged_nothing_and_its_list_cost_recorded(edge: World, kind: Kind) -> None:
    """Through the capturing proxy, under the provider's own name of the model; the headers are the client's, too."""
    host = "api.anthropic.com" if kind.anthropic else "api.openai.com"
    own = {"x-api-key": ANTHROPIC_KEY} if kind.anthropic else {"authorization": f"Bearer {OPENAI_KEY}"}
    model = "claude-sonnet-4-6" if kind.anthropic else kind.body["model"]
    newest = books(edge).newest()
    with httpx.Client(proxy=edge.gateway.url("capture"), verify=_trusting(edge)) as client:
        answer = client.post(
            f"https://{host}{kind.path}",
            json={**kind.body, "model": model},
            headers={"anthropic-version": "2023-06-01", **own},
        )
    assert answer.status_code == 200
    (hold,) = books(edge).since(newest)
    assert (hold.held_charged, hold.charged, hold.list_cost) == (0, 0, SERVED_NANO[kind.name])
    assert hold.attempts[0].list_cost == SERVED_NANO[kind.name]
    assert edge.provider.requests[0].json()["model"] == model
    assert "set-cookie" in answer.headers


def _trusting(edge: World) -> Any:
    return ssl.create_default_context(cafile=str(edge.proxy_ca))


def test_spend_shows_the_same_sums(edge: World) -> None:
    """By key: requests, tokens and dollars of a key's few exchanges, failed ones included, to the last digit."""
    key = edge.gateway.make_key(user="spender")
    edge.provider.script(
        Behaviour(cached_tokens=7, reasoning_tokens=5),
        Behaviour(status=400),
        Behaviour(cached_tokens=100, cache_write_tokens=13),
        Behaviour(usage=Usage.MISSING),
    )
    answers = [ask(edge, key, kind) for kind in (CHAT, CHAT, MESSAGES_STREAM, CHAT_STREAM, EMBEDDINGS)]
    holds = [ended(edge, answer) for answer in answers]
    assert [hold.charged for hold in holds] == [
        2 * 2_500 + 7 * 1_250 + 15 * 10_000,
        0,
        2 * 3_000 + 100 * 300 + 13 * 3_750 + 10 * 15_000,
        10 * 2_500 + 12 * 10_000,
        3 * 20,
    ]
    rows = json.loads(edge.gateway.cli("spend", "--by", "key", "--json").stdout)
    (row,) = [row for row in rows if row["key"] == holds[0].key_id]
    usd = Decimal(sum(hold.charged for hold in holds)) / NANO_PER_USD
    assert (Decimal(row["charged_usd"]), Decimal(row["list_usd"])) == (usd, usd)
    assert (row["requests"], row["cached_tokens"], row["reasoning_tokens"]) == (5, 107, 5)
    assert (row["input_tokens"], row["output_tokens"]) == (9 + 115 + 10 + 3, 15 + 10 + 12)
    assert Decimal(row["charged_overage_usd"]) == 0


def test_books_hold_after_all_of_it(edge: World, key: str) -> None:
    """Reports above the hold go to overage, and every sum still proves."""
    check_charged(
        edge, key, CHAT, {"prompt_tokens": 10, "completion_tokens": 10**5}, 10 * 2_500 + 10**9, (10, 10**5, 0, 0, 0, 0)
    )
    audited = json.loads(edge.gateway.cli("ledger", "audit", "--json").stdout)
    assert audited == {"clean": True, "findings": [], "units": []}
    assert "ledger_overage" in edge.gateway.log()
