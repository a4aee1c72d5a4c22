"""A panel whose members see or do not, are denied or not, behind concealment and content rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.peers.behaviour import Behaviour
from tests.support.panel_clients import chat, orchestrate, told
from tests.support.panel_world import (
    RATES,
    Cast,
    Member,
    PanelWorld,
    consensus_file,
    events_of,
    panel_chain,
    panel_world,
)
from tests.support.receiver import Receiver
from tests.support.world import MODELS

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
SEEN = {"role": "user", "content": [{"type": "text", "text": "What is in the picture?"}, PICTURE]}


NAMES = ("zeus-7", "hera-7", "ares-7", "pan-7")
SECRETS = (*NAMES, *[f"{name}-works" for name in NAMES], "openai", "cnry", "scripted", "cloudflare")
MODES = {
    "fast": {"members": ["zeus-7", "hera-7", "ares-7"], "spares": ["pan-7"], "synthesisers": ["zeus-7", "hera-7"]},
    "balanced": {"members": ["zeus-7", "ares-7", "pan-7"], "spares": [], "synthesisers": ["zeus-7"]},
    "deep": {"members": ["ares-7", "pan-7"], "spares": [], "synthesisers": ["ares-7"], "quorum": 2, "vendors_min": 2},
}
BLIND = ("ares-7", "pan-7")


def _seats(names: Any) -> Any:
    return [{"model": name, "vendor": f"{name}-works"} for name in names]


def olympus() -> dict[str, Any]:
    modes: dict[str, Any] = {}
    for name, mode in MODES.items():
        modes[name] = {**mode, **{kind: _seats(mode[kind]) for kind in ("members", "spares", "synthesisers")}}
    return consensus_file(**modes)


def divine(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "candidates": ["openai"], "price": RATES, "context": 128_000, "output_max": 8192, "image_tokens_max": 1500,
    }  # fmt: skip
    return {**entry, "capabilities": ["streaming", "tools"]} if name in BLIND else entry


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    """It conceals, has teams with rules, and members some of which are blind."""
    chain = panel_chain()
    webhooks = next(at for at, link in enumerate(chain) if isinstance(link, dict) and "webhooks" in link)
    chain.insert(webhooks + 1, "conceal")
    teams = {
        "organisations": {"acme": {}},
        "teams": {
            "default": {"organisation": "acme", "tier": "standard"},
            "fewer": {"organisation": "acme", "tier": "standard", "models": {"deny": ["hera-7"]}},
            "too-few": {"organisation": "acme", "tier": "standard", "models": {"deny": ["hera-7", "pan-7", "ares-7"]}},
            "guarded": {
                "organisation": "acme",
                "tier": "standard",
                "content": [
                    {"name": "staff-ids", "pattern": r"\bE[0-9]{6}\b", "action": "redact", "replacement": "[id]"},
                    {"name": "apollo", "pattern": "project apollo", "action": "refuse", "on": ["answers"]},
                ],
            },
        },
    }
    with panel_world(
        tmp_path_factory.mktemp("hall"),
        consensus=olympus(),
        chain=chain,
        policies={"models": {"models": {**MODELS, **{name: divine(name) for name in NAMES}}}, "teams": teams},
    ) as running:
        yield running


@pytest.fixture
def troupe(hall: PanelWorld) -> Cast:
    return hall.stage()


@pytest.fixture(scope="module")
def keys(hall: PanelWorld) -> dict[str, str]:
    return {team: hall.world.gateway.make_key(team=team) for team in ("default", "fewer", "too-few", "guarded")}


async def test_images_go_to_members_that_see(hall: PanelWorld, troupe: Cast, keys: dict[str, str]) -> None:
    """The others are not asked at all."""
    answer = await chat(hall, keys["default"], messages=[SEEN])
    assert answer.status_code == 200, answer.text
    asked = {one["model"] for one in told(hall, "member")}
    assert asked == {"zeus-7", "hera-7"}
    assert all("image_url" in json.dumps(one["messages"]) for one in told(hall, "member"))


async def test_fewer_members_that_see_than_the_quorum_are_a_degraded_answer_or_none(
    hall: PanelWorld, troupe: Cast, keys: dict[str, str]
) -> None:
    """One: its answer, at a part of the price. None: refused before it costs anything."""
    one = await chat(hall, keys["default"], model="consensus-balanced", messages=[SEEN])
    assert one.status_code == 200, one.text
    extension = one.json()["consensus"]
    assert (extension["degraded"], extension["source"]) == (True, "sole_survivor")
    assert extension["charged_usd"] == "0.175"
    hall.world.provider.requests.clear()
    none = await chat(hall, keys["default"], model="consensus-deep", messages=[SEEN])
    error = none.json()["error"]
    assert (none.status_code, error["code"], error["param"]) == (400, "invalid_request", "messages")
    assert "leave it out" in error["message"]
    assert hall.world.provider.requests == []


async def test_a_denied_model_loses_its_seats(hall: PanelWorld, troupe: Cast, keys: dict[str, str]) -> None:
    """A spare takes them; where too few are left, the mode is refused, with what to do."""
    answer = await orchestrate(hall, keys["fewer"])
    assert answer.status_code == 200, answer.text
    assert {one["model"] for one in told(hall, "member")} == {"zeus-7", "ares-7", "pan-7"}
    hall.world.provider.requests.clear()
    refused = await orchestrate(hall, keys["too-few"])
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (403, "model_not_allowed")
    assert "GET /v1/models" in error["message"] and hall.world.provider.requests == []


def marked(**roles: Behaviour) -> Member:
    return Member(roles={role: Behaviour(canaries=True) for role in ("member", "synthesise", "evaluate")} | roles)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["orchestrate", "chat"])
async def test_nothing_of_an_answer_names_who_gave_it(
    hall: PanelWorld, troupe: Cast, keys: dict[str, str], path: str, stream: bool
) -> None:
    """Headers, body, events: no model, no vendor, no upstream, nothing of the provider's own."""
    troupe.members = {"zeus-7": marked(), "hera-7": marked(member=Behaviour(status=429, canaries=True))}
    troupe.members |= {"ares-7": Member("It is 41.", "41", roles=marked().roles), "pan-7": Member("It is 40.", "40")}
    asking = orchestrate if path == "orchestrate" else chat
    answer = await asking(hall, keys["default"], stream=stream)
    assert answer.status_code == 200, answer.text
    clean(answer)
    assert "forty-two" in answer.text
    labels = {one["label"] for one in _result(answer, path, stream=stream)["members"]}
    assert labels and all(len(label) == 1 for label in labels)


def _result(answer: httpx.Response, path: str, *, stream: bool) -> dict[str, Any]:
    found: dict[str, Any]
    if path == "orchestrate":
        found = events_of(answer.text)[-1][1]["result"] if stream else answer.json()
    elif stream:
        chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        (found,) = [one["consensus"] for one in chunks if "consensus" in one]
    else:
        found = answer.json()["consensus"]
    return found


def clean(answer: httpx.Response) -> None:
    seen = (json.dumps(dict(answer.headers)) + answer.text).lower()
    for secret in SECRETS:
        assert secret not in seen, secret


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["orchestrate", "chat"])
async def test_no_error_names_who_failed(
    hall: PanelWorld, troupe: Cast, keys: dict[str, str], path: str, stream: bool
) -> None:
    """With labels and reasons that are words of ours."""
    lost = marked(member=Behaviour(status=500, canaries=True))
    troupe.members = dict.fromkeys(NAMES, lost)
    asking = orchestrate if path == "orchestrate" else chat
    answer = await asking(hall, keys["default"], stream=stream)
    assert answer.status_code == (200 if stream else 503)
    clean(answer)
    assert "try again" in answer.text and "upstream_unavailable" in answer.text
    if path == "orchestrate" and stream:
        error = events_of(answer.text)[-1][1]
        assert error["type"] == "error" and error["error"]["code"] == "upstream_unavailable"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["orchestrate", "chat"])
async def test_content_rules_redact_whatever_a_panel_says(
    hall: PanelWorld, troupe: Cast, keys: dict[str, str], path: str, stream: bool
) -> None:
    """In pieces of the answer, in dissent, in claims and in `done`; and in the question."""
    claims = ("The holder is E123456.",)
    troupe.members = {
        "zeus-7": Member("It is E123456.", "E123456", "short", claims, written="It is E123 456, that is E1 E123456 ."),
        "hera-7": Member("It is E654321.", "E654321", "short", claims, verdict="contradicted"),
        "ares-7": Member("It is E111111.", "E111111", "short", ("It is E222222.",)),
    }
    if path == "orchestrate":
        answer = await orchestrate(hall, keys["guarded"], prompt="Who is E999999?", stream=stream)
    else:
        answer = await chat(
            hall, keys["guarded"], messages=[{"role": "user", "content": "Who is E999999?"}], stream=stream
        )
    assert answer.status_code == 200, answer.text
    for number in ("E123456", "E654321", "E111111", "E222222"):
        assert number not in answer.text
    assert "[id]" in answer.text
    assert all("E999999" not in seen.body.decode() for seen in hall.world.provider.requests)
    result = _result(answer, path, stream=stream)
    assert result["dissent"]
    if path == "orchestrate" and stream:
        events = events_of(answer.text)
        assert events[-1][0] == "done"
        assert "".join(data["text"] for name, data in events if name == "token") == result["answer"]
        assert [data["seq"] for _, data in events] == list(range(len(events)))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusing_rule_refuses_a_panels_answer(
    hall: PanelWorld, troupe: Cast, keys: dict[str, str], stream: bool
) -> None:
    """Also where only a dissenting position breaks it."""
    troupe.members = {
        "zeus-7": Member("It is 42.", "42"),
        "hera-7": Member("It is project apollo.", "project apollo", "short"),
        "ares-7": Member("It is 42.", "42"),
    }
    answer = await orchestrate(hall, keys["guarded"], stream=stream)
    assert "project apollo" not in answer.text
    if stream:
        assert events_of(answer.text)[-1][1]["error"]["code"] == "content_refused"
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "content_refused")


async def test_a_member_that_declined_is_told_of_as_such(hall: PanelWorld, troupe: Cast, keys: dict[str, str]) -> None:
    """A word of ours, which concealment has no reason to hide."""
    troupe.members = {"hera-7": Member("I'm sorry, but I can't help with that.", trailer="")}
    result = (await orchestrate(hall, keys["default"])).json()
    assert "declined" in {one["reason"] for one in result["members"]}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_webhook_names_nobody_either(hall: PanelWorld, troupe: Cast, keys: dict[str, str], fails: bool) -> None:
    """What it is told is what its owner is told, of an answer and of an error."""
    lost = marked(member=Behaviour(status=500, canaries=True))
    troupe.members = dict.fromkeys(NAMES, lost if fails else marked())
    with Receiver() as receiver:
        await orchestrate(hall, keys["default"], webhook_url=receiver.url())
        (told_of,) = await asyncio.to_thread(receiver.wait)
    assert told_of.event["type"] == ("orchestration.failed" if fails else "orchestration.completed")
    seen = (json.dumps(dict(told_of.headers)) + told_of.body.decode()).lower()
    assert [secret for secret in SECRETS if secret in seen] == []
