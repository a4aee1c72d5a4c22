"""Conversations and idempotency of a whole proxy: over HTTP, with a panel whose members are scripted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson
import pytest

from tests.peers.behaviour import Behaviour
from tests.support.panel_world import DEADLINES, quick_panel
from tests.support.world import CHAIN, TEAMS, World, world

WAIT_SECONDS_MAX = 20.0
AT_ONCE = 20


def chain() -> list[Any]:
    made = list(CHAIN)
    made.insert(made.index("catalogue") + 1, "conversations")
    made.insert(made.index("byo") + 1, "idempotency")
    made.insert(made.index("spend_caps") + 1, "consensus")
    return made


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy with one quick panel."""
    teams = {
        **TEAMS,
        "teams": {**TEAMS["teams"], "ruled": {**TEAMS["teams"]["default"], "content": ["mail_addresses"]}},
    }
    policies = {"teams": teams, "consensus": quick_panel()}
    folder = tmp_path_factory.mktemp("conversations")
    with world(folder, config={"chain": chain()}, policies=policies, deadlines=DEADLINES) as running:
        yield running
        running.gateway.cli("ledger", "audit")


Ask = Callable[..., httpx.Response]


@pytest.fixture
def client(house: World) -> Iterator[Ask]:
    """Requests with a key of the test's own."""
    house.provider.reset()
    with asking(house) as made:
        yield made
    house.provider.reset()


class asking:  # noqa: N801 (used as a function)
    def __init__(self, house: World, team: str = "default") -> None:
        self._house = house
        headers = {"authorization": f"Bearer {house.gateway.make_key(team=team)}"}
        self._client = httpx.Client(headers=headers, timeout=30, trust_env=False)

    def __enter__(self) -> Ask:
        return self.ask

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._client.request(method, self._house.gateway.url("api") + path, **options)


def orchestrate(
    ask: Ask, prompt: str, conversation: str | None = None, key: str = "", *, seconds: float = 30, **more: Any
) -> httpx.Response:
    body: dict[str, Any] = {"prompt": prompt, "mode": "fast", **more}
    if conversation is not None:
        body["conversation_id"] = conversation
    return ask("POST", "/v1/orchestrate", json=body, headers={"idempotency-key": key} if key else {}, timeout=seconds)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines]


def test_follow_up_has_the_history_and_a_deleted_conversation_is_gone(house: World, client: Ask) -> None:
    """Whole and streamed; the members see both turns; another key sees nothing of it."""
    first = orchestrate(client, "What is a tort?", "new")
    assert first.status_code == 200, first.text
    id_ = first.json()["conversation_id"]
    streamed = events(orchestrate(client, "And in Germany?", id_, stream=True))
    assert (streamed[0]["conversation_id"], streamed[-1]["type"]) == (id_, "done")
    seen = [orjson.loads(one.body)["messages"] for one in house.provider.requests if b"And in Germany?" in one.body]
    said = [(one["role"], one["content"]) for one in seen[0] if one["role"] != "system"]
    assert said[0][1].startswith("What is a tort?")
    assert said[1] == ("assistant", first.json()["answer"])
    found = client("GET", f"/v1/conversations/{id_}")
    assert found.headers["cache-control"] == "no-store"
    assert [one["role"] for one in found.json()["messages"]] == ["user", "assistant"] * 2
    assert found.json()["messages"][3]["content"] == streamed[-1]["result"]["answer"]
    (listed,) = client("GET", "/v1/conversations").json()["data"]
    assert (listed["id"], listed["turns"], listed["expires"] - listed["last_turn"]) == (id_, 4, 86_400)
    with asking(house) as other:
        strange = [other("GET", f"/v1/conversations/{one}") for one in (id_, "conv_" + "0" * 26)]
        assert [one.status_code for one in strange] == [404, 404]
        assert strange[0].json()["error"]["message"] == strange[1].json()["error"]["message"]
        assert orchestrate(other, "q", id_).status_code == 404
        assert other("DELETE", f"/v1/conversations/{id_}").status_code == 404
    assert client("DELETE", f"/v1/conversations/{id_}").json() == {"id": id_, "object": "conversation", "deleted": True}
    assert orchestrate(client, "q", id_).status_code == 404
    state = house.gateway.folder / "var"
    assert b"And in Germany?" not in b"".join(
        path.read_bytes() for path in state.glob("conversations.db*") if path.is_file()
    )
    assert "And in Germany?" not in house.gateway.log()


def test_endpoints_are_for_who_has_an_account(house: World) -> None:
    """401 without one; a limit that is none is refused."""
    answer = httpx.get(house.gateway.url("api") + "/v1/conversations", trust_env=False)
    assert answer.status_code == 401
    with asking(house) as ask:
        assert ask("GET", "/v1/conversations?limit=0").status_code == 400
        assert ask("GET", "/v1/conversations/conv_x").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_same_key_gives_the_stored_answer(house: World, client: Ask, stream: bool) -> None:
    """Byte for byte, no call, no charge; also in a conversation, which it does not lengthen."""
    first = orchestrate(client, "What is a tort?", "new", "key-1", stream=stream)
    before = len(house.provider.requests)
    again = orchestrate(client, "What is a tort?", "new", "key-1", stream=stream)
    assert (first.status_code, again.status_code) == (200, 200)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert len(house.provider.requests) == before
    (listed,) = client("GET", "/v1/conversations").json()["data"]
    assert listed["turns"] == 2
    other = orchestrate(client, "What is a contract?", "new", "key-1", stream=stream)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("stream", [False, True])
def test_turns_and_repeated_answers_are_as_content_rules_left_them(house: World, stream: bool) -> None:
    """A mail address in the question and one in the answer: neither is kept, neither is told."""
    house.provider.reset()
    house.provider.default = Behaviour(text="Write to office@example.com now.")
    with asking(house, "ruled") as ask:
        answers = [orchestrate(ask, "Is ann@example.com right?", "new", "ruled", stream=stream) for _ in range(2)]
        (listed,) = ask("GET", "/v1/conversations").json()["data"]
        kept = ask("GET", f"/v1/conversations/{listed['id']}").json()["messages"]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert not any("@example.com" in answer.text for answer in answers)
    whole = [events(answer)[-1]["result"] if stream else answer.json() for answer in answers]
    assert [one["content"] for one in kept][1] == whole[0]["answer"] == whole[1]["answer"]
    assert len(kept) == 2
    assert "@example.com" not in str(kept)
    assert not any(b"ann@example.com" in one.body for one in house.provider.requests)
    house.provider.reset()


def test_key_reaches_no_provider_and_counts_for_chat_completions(house: World, client: Ask) -> None:
    """Of a panel's model; one of another model is its provider's business."""
    body = {"model": "consensus-fast", "messages": [{"role": "user", "content": "What is a tort?"}]}
    asked = [client("POST", "/v1/chat/completions", json=body, headers={"idempotency-key": "chat-1"}) for _ in range(2)]
    assert [one.status_code for one in asked] == [200, 200], asked[0].text
    assert asked[0].content == asked[1].content
    assert asked[1].headers["idempotent-replayed"] == "true"
    names = {name.lower() for one in house.provider.requests for name, _ in one.headers}
    assert b"authorization" in names
    assert b"idempotency-key" not in names


def test_twenty_at_once_make_one_run(house: World, client: Ask) -> None:
    """One 200, the others 409 with a wait; afterwards everybody gets the same bytes."""
    house.provider.default = Behaviour(head_delay_seconds=0.5)

    def one(_: int) -> httpx.Response:
        return orchestrate(client, "What is a tort?", key="at-once")

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(one, range(AT_ONCE)))
    ran = [answer for answer in answers if answer.status_code == 200 and "idempotent-replayed" not in answer.headers]
    assert len(ran) == 1, [answer.status_code for answer in answers]
    refused = [answer for answer in answers if answer.status_code == 409]
    assert len(refused) + sum("idempotent-replayed" in answer.headers for answer in answers) == AT_ONCE - 1
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert orchestrate(client, "What is a tort?", key="at-once").content == ran[0].content


def test_failed_run_frees_the_key(house: World, client: Ask) -> None:
    """What failed is not told again."""
    house.provider.default = Behaviour(status=500)
    failed = orchestrate(client, "What is a tort?", "new", "failing")
    assert failed.status_code >= 500
    assert client("GET", "/v1/conversations").json()["data"] == []
    house.provider.reset()
    assert orchestrate(client, "What is a tort?", "new", "failing").status_code == 200


def test_client_that_leaves_frees_the_key_and_leaves_no_turn(house: World, client: Ask) -> None:
    """In the middle of a run."""
    house.provider.default = Behaviour(head_delay_seconds=3)
    with pytest.raises(httpx.ReadTimeout):
        orchestrate(client, "q", "new", "left", seconds=0.5)
    house.provider.reset()
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (again := orchestrate(client, "q", "new", "left")).status_code == 409:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (again.status_code, "idempotent-replayed" in again.headers) == (200, False)
    assert len(client("GET", "/v1/conversations").json()["data"]) == 1


def test_answers_survive_a_crash_and_a_run_that_died_frees_its_key(house: World, client: Ask) -> None:
    """kill -9, start, ask again."""
    kept = orchestrate(client, "What is a tort?", "new", "kept")
    house.provider.default = Behaviour(head_delay_seconds=5)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(orchestrate, client, "What else?", None, "running")
        before = len(house.provider.requests)
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while len(house.provider.requests) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        house.gateway.kill()
        with pytest.raises(httpx.HTTPError):
            running.result()
    house.provider.reset()
    house.gateway.start()
    again = orchestrate(client, "What is a tort?", "new", "kept")
    assert (again.content, again.headers["idempotent-replayed"]) == (kept.content, "true")
    assert orchestrate(client, "What else?", None, "running").status_code == 200
    id_ = kept.json()["conversation_id"]
    assert len(client("GET", f"/v1/conversations/{id_}").json()["messages"]) == 2
