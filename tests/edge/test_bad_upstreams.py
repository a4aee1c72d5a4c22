"""Upstreams that fail in every way: a clear answer, no charge for what was not delivered, nothing sent too often."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.edge.kinds import (
    CHAT,
    CHAT_STREAM,
    EMBEDDINGS,
    KINDS,
    MESSAGES,
    MESSAGES_STREAM,
    RESPONSES_STREAM,
    SERVED_NANO,
    STREAMS,
    WHOLE,
    Kind,
    ask,
    books,
    check_envelope,
    check_nothing_leaks,
    data_of,
    ended,
    events,
    wait_until,
)
from tests.peers.behaviour import Behaviour, Fault
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.raw import Answer, Raw
from tests.support.world import World

CUT_AFTER = 4
"""Pieces of a stream before a fault in its midst: by then both dialects have sent content."""
CUT_NANO = {
    # Counted: ten tokens of prompt with their wrapping, and the four of "Hello from the ".
    "chat stream": 10 * 2_500 + 4 * 10_000,
    # The input as message_start reported it, and the six bytes of "Hello " at two bytes a token.
    "messages stream": 2 * 3_000 + 3 * 15_000,
    # Counted, before anything was written.
    "responses stream": 10 * 1_250,
}
CANARIES = (
    ("openai-organization", "org-canary"),
    ("set-cookie", "session=canary"),
    ("x-ratelimit-remaining-tokens", "canary"),
    ("anthropic-ratelimit-tokens-remaining", "canary"),
    ("www-authenticate", "Bearer realm=canary"),
    ("location", "https://canary.invalid/"),
    ("x-powered-by", "canary"),
)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
streams = pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
whole = pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.name)


def at_once(edge: World, key: str, asked: list[Kind]) -> list[Answer]:
    """Their answers, asked for at the same time: for faults that only a deadline ends."""
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda kind: ask(edge, key, kind), asked))


def check_failed(edge: World, kind: Kind, answer: Answer, status: int, code: str, outcomes: list[str]) -> None:
    """An error of ours, no charge, and the attempts in the ledger as they went."""
    check_envelope(kind, answer, status, code)
    hold = ended(edge, answer)
    assert (hold.charged, hold.list_cost, hold.outcomes) == (0, 0, outcomes)
    assert all(attempt.list_cost == 0 and attempt.input_tokens is None for attempt in hold.attempts)


def check_served(edge: World, kind: Kind, answer: Answer, *, outcomes: list[str] | None = None) -> None:
    """The provider's regular answer, charged by its usage."""
    assert answer.status == 200, answer.body
    hold = ended(edge, answer)
    assert (hold.charged, hold.outcomes) == (SERVED_NANO[kind.name], outcomes or ["served"])


def check_broken_off(edge: World, kind: Kind, answer: Answer) -> None:
    """A clean end with our error event in the dialect's format, charged for what was delivered."""
    assert answer.status == 200
    *delivered, last = events(answer.body)
    error = data_of(last)
    assert len(delivered) == CUT_AFTER
    assert error["error"]["code"] == "upstream_error"
    assert answer.headers["x-tollway-request-id"] in error["error"]["message"]
    assert error.get("type") == ("error" if kind.typed else None)
    assert last.startswith(b"event: error\n") == kind.typed
    hold = ended(edge, answer)
    assert (hold.charged, hold.outcome, hold.outcomes) == (CUT_NANO[kind.name], "upstream_failed", ["served"])
    assert hold.attempts[0].counted == 1


NO_ANSWER: list[tuple[Fault, str]] = [
    (Fault.CLOSE_BEFORE_HEAD, "broken"),
    (Fault.RESET_BEFORE_HEAD, "broken"),
    (Fault.GARBAGE, "garbage"),
    (Fault.HUGE_HEAD, "garbage"),
    (Fault.MANY_HEADERS, "garbage"),
    (Fault.GZIP, "garbage"),
    (Fault.ERROR_EVENT_FIRST, "error_event"),
]


@pytest.mark.parametrize(("fault", "outcome"), NO_ANSWER, ids=[row[0].name for row in NO_ANSWER])
def test_answer_that_cannot_be_used_is_502_after_two_attempts(
    edge: World, key: str, fault: Fault, outcome: str
) -> None:
    """Free for the caller; a stale pooled connection may cost one more request, never more."""
    edge.provider.default = Behaviour(fault=fault)
    before = edge.provider.connections
    for kind, answer in zip(KINDS, at_once(edge, key, KINDS), strict=True):
        # The event is an error in a stream only; in a whole answer's place there is nothing.
        ended_as = "garbage" if outcome == "error_event" and not kind.stream else outcome
        check_failed(edge, kind, answer, 502, "upstream_error", [ended_as, ended_as])
    fresh = [seen for seen in edge.provider.requests if seen.connection > before]
    pooled = len(edge.provider.requests) - len(fresh)
    assert 2 * len(KINDS) <= len(edge.provider.requests) <= 2 * len(KINDS) + pooled


@kinds
def test_failure_of_the_first_attempt_is_made_good_by_the_second(edge: World, key: str, kind: Kind) -> None:
    """Only what was served is charged, once."""
    edge.provider.script(Behaviour(status=500))
    check_served(edge, kind, ask(edge, key, kind), outcomes=["status", "served"])
    assert len(edge.provider.requests) == 2
    assert edge.provider.requests[0].body == edge.provider.requests[1].body


@streams
def test_error_event_in_the_place_of_an_answer_is_tried_again(edge: World, key: str, kind: Kind) -> None:
    """Nothing of it reaches the client."""
    edge.provider.script(Behaviour(fault=Fault.ERROR_EVENT_FIRST))
    answer = ask(edge, key, kind)
    assert re.search(rb'error"?:(?!null)|failed', answer.body) is None
    check_served(edge, kind, answer, outcomes=["error_event", "served"])


def test_silence_before_the_body_is_504_after_two_deadlines(edge: World, key: str) -> None:
    """Before the head and after it; free for the caller, in every kind."""
    edge.provider.default = Behaviour(fault=Fault.HANG_AFTER_HEAD)
    edge.provider.script(Behaviour(fault=Fault.HANG_BEFORE_HEAD), model="gpt-4o")
    for kind, answer in zip(KINDS, at_once(edge, key, KINDS), strict=True):
        outcome = "first_byte_timeout" if kind.body["model"] == "gpt-4o" else "idle_timeout"
        check_failed(edge, kind, answer, 504, "upstream_timeout", [outcome, outcome])
    assert len(edge.provider.requests) == 2 * len(KINDS)


def test_silence_within_a_body_is_504_for_a_whole_answer_and_an_error_event_for_a_stream(edge: World, key: str) -> None:
    """Half an answer is none, unless it was delivered."""
    edge.provider.default = Behaviour(fault=Fault.HANG_MID, after_chunks=CUT_AFTER)
    for kind, answer in zip(KINDS, at_once(edge, key, KINDS), strict=True):
        if kind.stream:
            check_broken_off(edge, kind, answer)
        else:
            check_failed(edge, kind, answer, 504, "upstream_timeout", ["idle_timeout", "idle_timeout"])


def test_silence_before_the_end_of_a_stream_is_charged_by_its_usage(edge: World, key: str) -> None:
    """The usage had been reported; the end is still an error event, since the stream was not whole."""
    edge.provider.default = Behaviour(fault=Fault.HANG_BEFORE_END)
    reported = [kind for kind in STREAMS if kind is not RESPONSES_STREAM]  # Whose last event is the report.
    for kind, answer in zip(reported, at_once(edge, key, reported), strict=True):
        assert data_of(events(answer.body)[-1])["error"]["code"] == "upstream_error"
        check_served(edge, kind, answer)


BREAKS = [Fault.RESET_MID, Fault.HALF_CLOSE_MID, Fault.GARBAGE_MID]


@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: fault.name)
@whole
def test_body_that_breaks_off_is_502_and_free(edge: World, key: str, kind: Kind, fault: Fault) -> None:
    """Short of its length, reset, or out of its framing."""
    edge.provider.default = Behaviour(fault=fault)
    check_failed(edge, kind, ask(edge, key, kind), 502, "upstream_error", ["broken", "broken"])
    assert len(edge.provider.requests) == 2


@pytest.mark.parametrize("fault", BREAKS, ids=lambda fault: fault.name)
@streams
def test_stream_that_breaks_off_ends_with_an_error_event(edge: World, key: str, kind: Kind, fault: Fault) -> None:
    """Nothing is retried once a byte went out; the client's connection goes on."""
    # With pauses, so that what precedes the fault is read before it: a break that comes with the content is retried.
    edge.provider.script(Behaviour(fault=fault, after_chunks=CUT_AFTER, delay_seconds=0.1))
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(kind.data(key))
        answer = raw.answer()
        assert len(edge.provider.requests) == 1
        raw.send(kind.data(key))
        check_served(edge, kind, raw.answer())
    check_broken_off(edge, kind, answer)


@streams
def test_error_event_within_a_stream_passes_and_the_stream_ends(edge: World, key: str, kind: Kind) -> None:
    """It is in the dialect's own format; what came before it is charged."""
    edge.provider.script(Behaviour(fault=Fault.ERROR_EVENT_MID, after_chunks=CUT_AFTER))
    answer = ask(edge, key, kind)
    *_, last = events(answer.body)
    document = data_of(last)
    assert document.get("response", document)["error"]["message"]
    hold = ended(edge, answer)
    assert (hold.charged, hold.outcomes, hold.attempts[0].counted) == (CUT_NANO[kind.name], ["served"], 1)


INTACT = [Fault.INFORMATIONAL, Fault.TRAILING_DATA, Fault.NO_FRAMING, Fault.CLOSE_AFTER]


@pytest.mark.parametrize("fault", INTACT, ids=lambda fault: fault.name)
@kinds
def test_odd_but_whole_answer_is_served_and_poisons_nothing(edge: World, key: str, kind: Kind, fault: Fault) -> None:
    """1xx heads, bytes behind the end, an unframed body, an unannounced close: the next request has its own answer."""
    edge.provider.script(Behaviour(fault=fault))
    with Raw(edge.gateway.address("api")) as raw:
        answers = []
        for _ in range(3):
            raw.send(kind.data(key))
            answers.append(raw.answer())
            wait_until(lambda: all(seen.answered for seen in edge.provider.requests))
    for answer in answers:
        check_nothing_leaks(answer)
        assert b"poison" not in answer.body
        check_served(edge, kind, answer)
    assert len(edge.provider.requests) == 3


ERRORS_WITH_200: list[bytes] = [
    b'{"error":{"message":"over its limit","type":"server_error"}}',
    b'{"object":"error","message":"over its limit","code":500}',
    b'{"type":"error","error":{"type":"overloaded_error","message":"over its limit"}}',
]


@pytest.mark.parametrize("body", ERRORS_WITH_200, ids=["envelope", "object", "typed"])
def test_error_with_200_in_the_place_of_an_answer_is_tried_again_and_not_charged(
    edge: World, key: str, body: bytes
) -> None:
    """Some relays answer so. None of its words are passed on; where the next attempt is answered, that is served."""
    edge.provider.default = Behaviour(body=body)
    for kind, answer in zip(KINDS, at_once(edge, key, KINDS), strict=True):
        check_failed(edge, kind, answer, 502, "upstream_error", ["garbage", "garbage"])
        assert b"over its limit" not in answer.body
    edge.provider.default = Behaviour()
    for kind in KINDS:
        edge.provider.script(Behaviour(body=body))
        check_served(edge, kind, ask(edge, key, kind), outcomes=["garbage", "served"])


@whole
def test_whole_json_answer_under_another_content_type_is_served(edge: World, key: str, kind: Kind) -> None:
    """What it is counts, not what it says to be."""
    edge.provider.script(Behaviour(fault=Fault.WRONG_TYPE))
    check_served(edge, kind, ask(edge, key, kind))


@streams
def test_stream_under_another_content_type_is_502(edge: World, key: str, kind: Kind) -> None:
    """It can neither be metered nor ended cleanly."""
    edge.provider.default = Behaviour(fault=Fault.WRONG_TYPE)
    check_failed(edge, kind, ask(edge, key, kind), 502, "upstream_error", ["garbage", "garbage"])


@pytest.mark.parametrize("body", [b"", b'{"choices": []}'])
def test_redirect_is_not_followed_and_not_charged(edge: World, key: str, body: bytes) -> None:
    """A redirect is no answer, whatever its body."""
    edge.provider.default = Behaviour(status=307, body=body, headers=(("location", "https://elsewhere.invalid/"),))
    for kind, answer in zip(KINDS, at_once(edge, key, KINDS), strict=True):
        check_failed(edge, kind, answer, 502, "upstream_error", ["status"])
    assert len(edge.provider.requests) == len(KINDS)


def test_endless_line_within_a_chat_stream_passes_with_its_usage(edge: World, key: str) -> None:
    """10 MB in one event: byte for byte, metered beyond it."""
    edge.provider.script(Behaviour(fault=Fault.HUGE_LINE))
    answer = ask(edge, key, CHAT_STREAM)
    assert len(answer.body) > 10 << 20 and answer.body.endswith(b"data: [DONE]\n\n")
    check_served(edge, CHAT_STREAM, answer)


def test_endless_line_before_any_content_is_502(edge: World, key: str) -> None:
    """No more than the limit is held in wait for content, and nothing is charged."""
    edge.provider.default = Behaviour(fault=Fault.HUGE_LINE)
    check_failed(edge, MESSAGES_STREAM, ask(edge, key, MESSAGES_STREAM), 502, "upstream_error", ["garbage", "garbage"])


STATUSES: list[tuple[int, int, str, int]] = [
    (401, 502, "upstream_error", 1),
    (403, 502, "upstream_error", 1),
    (404, 502, "upstream_error", 1),
    (429, 429, "rate_limited", 2),
    (500, 502, "upstream_error", 2),
    (503, 503, "upstream_unavailable", 2),
    (529, 502, "upstream_error", 2),
]


@pytest.mark.parametrize(("theirs", "status", "code", "attempts"), STATUSES, ids=[str(row[0]) for row in STATUSES])
@kinds
def test_status_is_told_in_our_own_words(
    edge: World, key: str, kind: Kind, theirs: int, status: int, code: str, attempts: int
) -> None:
    """Retried where that can help; the operator's account is nobody's business; the connection goes on."""
    error = b'{"error":{"message":"%s of org-canary is over its limit"}}' % OPENAI_KEY.encode()
    edge.provider.script(*[Behaviour(status=theirs, body=error, headers=CANARIES)] * attempts)
    with Raw(edge.gateway.address("api")) as raw:
        raw.send(kind.data(key))
        answer = raw.answer()
        raw.send(kind.data(key))
        check_served(edge, kind, raw.answer())
    check_nothing_leaks(answer)
    check_failed(edge, kind, answer, status, code, ["status"] * attempts)
    assert [attempt.status for attempt in ended(edge, answer).attempts] == [theirs] * attempts
    assert len(edge.provider.requests) == attempts + 1


@pytest.mark.parametrize(
    ("asked", "told", "attempts"),
    [("0", "1", 2), ("7", "7", 1), ("Fri, 21 Nov 2036 04:00:00 GMT", "5", 2), ("9" * 400, "5", 2), ("\u00b2", "5", 2)],
)
@pytest.mark.parametrize("theirs", [429, 503])
def test_retry_after_is_handed_on_and_a_long_one_not_waited_for(
    edge: World, key: str, theirs: int, asked: str, told: str, attempts: int
) -> None:
    """In seconds; a date or nonsense becomes our own."""
    edge.provider.default = Behaviour(status=theirs, headers=(("retry-after", asked),))
    answer = ask(edge, key, CHAT)
    assert (answer.status, answer.headers["retry-after"]) == (theirs, told)
    assert len(edge.provider.requests) == attempts


@kinds
def test_words_about_the_request_itself_are_passed_on_without_the_operators_key(
    edge: World, key: str, kind: Kind
) -> None:
    """400 is the caller's own mistake: the provider explains it, and it is free."""
    own = (ANTHROPIC_KEY if kind.anthropic else OPENAI_KEY).encode()
    edge.provider.script(
        Behaviour(status=400, body=b'{"error":{"message":"no such tool; %s"}}' % own, headers=CANARIES)
    )
    answer = ask(edge, key, kind)
    assert (answer.status, answer.json()["error"]["message"]) == (400, "no such tool; [redacted]")
    assert (ended(edge, answer).charged, len(edge.provider.requests)) == (0, 1)


@kinds
def test_served_answer_carries_nothing_of_the_operators_account(edge: World, key: str, kind: Kind) -> None:
    """Cookies, organisation, rate limits and whatever else an upstream adds stay here; its request id passes."""
    edge.provider.script(Behaviour(headers=CANARIES))
    answer = ask(edge, key, kind)
    check_served(edge, kind, answer)
    assert answer.headers["request-id" if kind.anthropic else "x-request-id"].startswith("req_")


@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM], ids=lambda kind: kind.name)
def test_dead_upstream_is_passed_over_for_the_next_candidate(edge: World, key: str, kind: Kind) -> None:
    """Two tries at the first, one at the second, in one hold."""
    answer = ask(edge, key, kind, model="fallback")
    check_served(edge, kind, answer, outcomes=["connect_failed", "connect_failed", "served"])
    assert [attempt.upstream for attempt in ended(edge, answer).attempts] == ["dead", "dead", "openai"]
    assert len(edge.provider.requests) == 1


@pytest.mark.parametrize("kind", [CHAT, CHAT_STREAM], ids=lambda kind: kind.name)
def test_model_with_dead_upstreams_only_is_503(edge: World, key: str, kind: Kind) -> None:
    """With `Retry-After`, and free."""
    answer = ask(edge, key, kind, model="dead-end")
    check_failed(edge, kind, answer, 503, "upstream_unavailable", ["connect_failed", "connect_failed"])
    assert [attempt.status for attempt in ended(edge, answer).attempts] == [0, 0]


@pytest.mark.parametrize("kind", [CHAT, MESSAGES, EMBEDDINGS], ids=lambda kind: kind.name)
def test_upstream_that_goes_and_comes_back_is_noticed_both_times(edge: World, key: str, kind: Kind) -> None:
    """503 while it refuses, served as soon as it listens, on one connection of the client's."""
    newest = books(edge).newest()
    with Raw(edge.gateway.address("api")) as raw:
        edge.provider.refuse_connections()
        try:
            raw.send(kind.data(key))
            refused = raw.answer()
        finally:
            edge.provider.accept_connections()
        raw.send(kind.data(key))
        check_served(edge, kind, raw.answer())
    check_envelope(kind, refused, 503, "upstream_unavailable")
    assert [hold.charged for hold in books(edge).since(newest, 2)] == [0, SERVED_NANO[kind.name]]
