"""A whole proxy whose panels are played by a scripted provider: each model says what a test tells it to."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from proxy import shipped
from tests.peers.behaviour import Behaviour
from tests.peers.provider import SeenRequest
from tests.support.world import CHAIN, MODELS, World, world

_FENCE = re.compile(r"@@@END ANSWER [A-Za-z0-9]+@@@")
_LABELS = re.compile(r"@@@BEGIN answer ([A-Z]) [A-Za-z0-9]+@@@\n(.*?)\n@@@END answer", re.DOTALL)
_STATEMENTS = re.compile(r"^(\d+)\. ", re.MULTILINE)
RATES: dict[str, Any] = {"input": "0.5", "output": "2"}
DEADLINES = {"connect_seconds": 2, "first_byte_seconds": 20, "idle_seconds": 20, "total_seconds": 60}
"""Of the scripted provider: longer than a panel's own."""


@dataclass(slots=True)
class Member:
    """What a model says in each role; where it is given a Behaviour, that is how it answers."""

    text: str = "It is forty-two."
    final: str = "42"
    kind: str = "number"
    claims: tuple[str, ...] = ()
    confidence: float = 0.8
    trailer: str | None = None
    """In the place of the regular one; "": none."""
    verdict: str = "supported"
    written: str = "After all: forty-two."
    """As the synthesiser."""
    like: str = ""
    """Text of the answer that it prefers as a judge; "": the first it sees."""
    roles: dict[str, Behaviour] = field(default_factory=dict)
    """Role -> how it answers in it, whatever it would say."""


def role_of(seen: SeenRequest) -> str:
    """What a call is for, by the mark that the prompts of these tests begin with; the last one, where the caller's own
    system prompt or an earlier instruction stands before it."""
    found = re.findall(r"\[\[(\w+)\]\]", json.dumps(seen.json()["messages"]))
    return found[-1] if found else "none"


class Cast:
    """Decides for each request of the provider. `asked` has (model, role) in order."""

    def __init__(self, members: Mapping[str, Member]) -> None:
        self.members = dict(members)
        self.asked: list[tuple[str, str]] = []

    def __call__(self, seen: SeenRequest) -> Behaviour:
        model, role = seen.json()["model"], role_of(seen)
        self.asked.append((model, role))
        member = self.members.get(model, Member())
        how = member.roles.get(role, Behaviour())
        return _saying(how, _SAID[role](member, seen)) if role in _SAID else how


def _saying(how: Behaviour, text: str) -> Behaviour:
    return how if how.chunks is not None or how.body is not None else replace(how, text=text)


def _answer(member: Member, seen: SeenRequest) -> str:
    fence = _FENCE.search(json.dumps(seen.json()["messages"]))
    if fence is None or member.trailer == "":
        return member.text
    trailer = {
        "final_answer": member.final, "type": member.kind, "claims": list(member.claims),
        "confidence": member.confidence,
    }  # fmt: skip
    return f"{member.text}\n{fence[0]}\n{json.dumps(trailer) if member.trailer is None else member.trailer}"


def _ballot(member: Member, seen: SeenRequest) -> str:
    shown = _LABELS.findall(str(seen.json()["messages"][-1]["content"]))
    order = sorted(shown, key=lambda one: member.like not in one[1])
    answers = []
    for rank, (label, _) in enumerate(order, 1):
        scores = dict.fromkeys(("accuracy", "completeness", "evidence", "clarity", "instructions"), 9 - rank)
        claims = [{"claim": 1, "verdict": member.verdict, "reason": "so it is", "correction": ""}]
        answers.append({"label": label, **scores, "rank": rank, "claims": claims})
    return json.dumps({"answers": answers})


def _check(member: Member, seen: SeenRequest) -> str:
    numbers = _STATEMENTS.findall(str(seen.json()["messages"][-1]["content"]))
    return json.dumps(
        {"verdicts": [{"claim": int(n), "verdict": member.verdict, "reason": "", "correction": ""} for n in numbers]}
    )


_SAID: dict[str, Callable[[Member, SeenRequest], str]] = {
    "member": _answer,
    "refine": _answer,
    "evaluate": _ballot,
    "check": _check,
    "synthesise": lambda member, _: member.written,
    "repair": lambda member, _: member.written,
}

NAMES = ("one", "two", "three", "four", "five", "spare")


def panel_models() -> dict[str, Any]:
    """Models of the scripted provider, one name each."""
    entry = {"candidates": ["openai"], "price": RATES, "context": 128_000, "output_max": 8192, "image_tokens_max": 1500}
    return {name: dict(entry) for name in NAMES}


def consensus_file(**modes: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped file with seats at the scripted provider, a vendor each, marked prompts and quick deadlines."""
    whole: dict[str, Any] = yaml.safe_load((shipped.folder() / "policies" / "consensus.yaml").read_text())
    whole["prompts"] = {role: f"[[{role}]] {text}" for role, text in whole["prompts"].items()}
    seats = [{"model": name, "vendor": f"{name}-inc"} for name in NAMES]
    quick = {"first_byte_seconds": 3, "idle_seconds": 3}
    kept = {name: whole["modes"][name] for name in ("fast", "balanced", "deep")}
    for name, mode in kept.items():
        count = 5 if name == "deep" else 3
        mode |= {"members": seats[:count], "spares": seats[5:], "synthesisers": [seats[0], seats[1]]}
        mode["deadlines"] = {"total_seconds": 20, "call_seconds": 10, **quick}
        mode["hedge"] = False
        mode |= modes.get(name, {})
    return {**whole, "modes": kept, "rules": {**whole["rules"], "grace_seconds_min": 0.2}}


def quick_panel(seats: int = 2, **price: Any) -> dict[str, Any]:
    """The shipped words and one quick mode, `fast`: seats of `gpt-4o`, at five cents and whatever `price` adds."""
    whole: dict[str, Any] = yaml.safe_load((shipped.folder() / "policies" / "consensus.yaml").read_text())
    mode = {
        "members": ["gpt-4o"] * seats,
        "synthesisers": ["gpt-4o"],
        "quorum": 2,
        "vendors_min": 1,
        "deadlines": {"total_seconds": 20, "call_seconds": 12, "first_byte_seconds": 8, "idle_seconds": 5},
        "tokens": {"member": 256, "evaluation": 256, "check": 256, "final": 256, "final_max": 512},
        "input_tokens_max": 1000,
        "budget_usd": 1,
        "price": {"usd": 0.05, "credits": 1, **price},
        "hedge": False,
    }
    return {**whole, "modes": {"fast": mode}, "default": "fast", "auto": None}


def panel_chain(*more: str | dict[str, Any]) -> list[str | dict[str, Any]]:
    """The usual one with everything about panels; `more` stands before pricing."""
    made = list(CHAIN)
    made.insert(made.index("catalogue") + 1, "conversations")
    at = made.index("cost_preview")
    made[at:at] = ["batch", {"webhooks": {"development": True, "retry_seconds": 0.05}}, "idempotency", *more]
    made.insert(made.index("spend_caps") + 1, "consensus")
    return made


@dataclass(slots=True)
class PanelWorld:
    """A running proxy, its cast, and its books."""

    world: World
    cast: Cast

    def stage(self) -> Cast:
        """A new cast; nothing of the last test is left at the provider."""
        self.world.provider.reset()
        self.cast = Cast({})
        self.world.provider.answering = self.cast
        return self.cast

    @property
    def url(self) -> str:
        """Of the reverse listener."""
        return self.world.gateway.url("api")

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Straight from the ledger's file."""
        path = self.world.gateway.folder / "var" / "tollway.db"
        with closing(sqlite3.connect(path, timeout=5)) as connection:
            return connection.execute(query, values).fetchall()

    def attempts(self, request_id: str) -> list[Any]:
        """(role, upstream_model, outcome, list_cost) of every call of an exchange."""
        return self.rows(
            "SELECT role, upstream_model, attempts.outcome, list_cost FROM attempts JOIN holds ON holds.id = hold_id"
            " WHERE exchange_id = ? ORDER BY number",
            request_id,
        )

    def hold(self, request_id: str) -> Any:
        """(charged, list, held_charged, held_list, outcome) of an exchange."""
        (row,) = self.rows(
            "SELECT charged, list, held_charged, held_list, outcome FROM holds WHERE exchange_id = ?", request_id
        )
        return row


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of each event of a stream of /v1/orchestrate."""
    blocks = [block.split("\n", 1) for block in text.split("\n\n") if block.startswith("event: ")]
    return [(head.removeprefix("event: "), json.loads(rest.removeprefix("data: "))) for head, rest in blocks]


@contextmanager
def panel_world(
    folder: Path,
    *,
    consensus: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    policies: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    chain: list[str | dict[str, Any]] | None = None,
    listeners: Mapping[str, Mapping[str, Any]] | None = None,
    more_upstreams: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[PanelWorld]:
    """A proxy with panels of scripted members."""
    files = {"models": {"models": {**MODELS, **panel_models()}}, "consensus": consensus or consensus_file()}
    with world(
        folder,
        config={"chain": chain or panel_chain(), "heartbeat_seconds": 1, **(config or {})},
        policies={**files, **(policies or {})},
        environment=environment,
        listeners=listeners,
        deadlines=DEADLINES,
        more_upstreams=more_upstreams,
    ) as running:
        cast = Cast({name: Member() for name in NAMES})
        running.provider.answering = cast
        yield PanelWorld(running, cast)
