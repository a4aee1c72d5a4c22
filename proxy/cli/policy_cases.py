"""The table of `tollway policy test`: who calls what, and the verdict that is expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, ValidationError

from proxy.cli import opening
from proxy.client_addresses import Address, parse
from proxy.config.problems import ConfigProblems, Marks, Problem, near, problems_of
from proxy.config.schema import Generation
from proxy.config.source import read_document
from proxy.config.strict import Strict
from proxy.errors import CODES
from proxy.identities import Identity, IdentityKind
from proxy.keys import KeyStore, UnknownKey
from proxy.policy.callers import tier_of
from proxy.policy.forced_members import plain
from proxy.policy.judgement import ALLOW, Ask, Judgement, judge

CASES_MAX: Final = 10_000


class ExpectEntry(Strict):
    """What should come of it; what is absent is not compared."""

    verdict: str = Field(default=ALLOW, description="allow, or the code of the error.")
    scope: str | None = None
    rule: str | None = None
    tier: str | None = None
    max_tokens: int | None = None
    parameters: dict[str, Any] | None = None
    system_prefix: str | None = None
    text: str | None = None


def _verdict(value: Any) -> Any:
    return {"verdict": value} if isinstance(value, str) else value


class CaseEntry(Strict):
    """One call. What is absent is not judged."""

    name: str = ""
    key: str | None = None
    team: str | None = None
    user: str = "default"
    key_name: str = ""
    tier: str | None = Field(default=None, description="With team: the tier that the key was made with.")
    model: str | None = None
    path: str | None = None
    at: str | None = None
    ip: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    text: str | None = None
    expect: Annotated[ExpectEntry, BeforeValidator(_verdict)]

    @property
    def title(self) -> str:
        """What it is called in the report."""
        asked = (self.key or f"{self.team}/{self.user}", self.model, self.path, self.at, self.ip)
        return self.name or " ".join(part for part in asked if part)


class CasesFile(Strict):
    """The whole table."""

    cases: Annotated[tuple[CaseEntry, ...], Field(max_length=CASES_MAX)]


class NotACaller(Exception):
    """Nobody can call so; the message says why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What was expected, and what is."""

    what: str
    expected: Any
    found: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that was run."""

    case: CaseEntry
    judgement: Judgement
    differences: tuple[Difference, ...]


class Callers:
    """Who may be meant: keys as they are stored, or a team's user who has one. Opens the keys when first asked."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._stack = ExitStack()
        self._keys: KeyStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of_key(self, selector: str) -> Identity:
        """The holder of a key, by its id or the key itself. Raises NotACaller."""
        if self._keys is None:
            self._keys = self._stack.enter_context(opening.key_store(self._generation))
        try:
            record = self._keys.current(self._keys.key_id_of(selector))
        except UnknownKey as error:
            raise NotACaller(f"{error}. 'tollway keys list' shows them.") from error
        state = record.state(opening.CLOCK.now_ms())
        if state not in ("active", "rotated"):
            raise NotACaller(f"The key {record.key_id} is {state}.")
        if record.team not in self._generation.teams:
            raise NotACaller(f"The key {record.key_id} belongs to the team '{record.team}', which no longer exists.")
        return self.of_team(
            record.team, record.user, key_id=record.key_id, key_name=record.name, own=record.tier, caps=record.caps
        )

    def of_team(
        self, team: str, user: str, *, key_id: str = "", key_name: str = "", own: str | None = None, caps: Any = ()
    ) -> Identity:
        """A user of a team who has a key."""
        found = self._generation.teams[team]
        return Identity(
            kind=IdentityKind.KEY,
            key_id=key_id,
            user=user,
            team=team,
            organisation=found.organisation,
            tier=tier_of(found, user=user, key_id=key_id, key_name=key_name, own=own),
            caps=caps,
            key_name=key_name,
        )


def read_cases(file: Path, generation: Generation) -> tuple[CaseEntry, ...]:
    """The cases of a file. Raises ConfigProblems with every mistake in it."""
    document = read_document(file, str(file))
    try:
        table = CasesFile.model_validate({} if document.data is None else document.data)
    except ValidationError as error:
        raise ConfigProblems(problems_of(error, document.marks, CasesFile)) from error
    marks = document.marks.below("cases")
    problems = [problem for at, case in enumerate(table.cases) for problem in _wrong(case, marks.below(at), generation)]
    if not table.cases:
        problems.append(marks.problem((), "there is no case in it"))
    if problems:
        raise ConfigProblems(problems)
    return table.cases


def _wrong(case: CaseEntry, marks: Marks, generation: Generation) -> Iterator[Problem]:
    if (case.key is None) == (case.team is None):
        yield marks.problem((), "say who calls: either 'key' or 'team', with 'user' if it matters")
    if case.team is not None and case.team not in generation.teams:
        hint = near(case.team, generation.teams)
        yield marks.problem(("team",), f"there is no team '{case.team}' in teams.yaml", suggestion=hint)
    if case.tier is not None and case.tier not in generation.tiers:
        hint = near(case.tier, generation.tiers)
        yield marks.problem(("tier",), f"there is no tier '{case.tier}' in tiers.yaml", suggestion=hint)
    verdict = case.expect.verdict
    if verdict not in (ALLOW, *CODES):
        place = ("expect", "verdict") if marks.has(("expect", "verdict")) else ("expect",)
        message = f"'{verdict}' is neither '{ALLOW}' nor the code of an error"
        yield marks.problem(place, message, suggestion=near(verdict, (ALLOW, *CODES)))
    for key, text, reads in (("at", case.at, instant_of), ("ip", case.ip, address_of)):
        try:
            if text is not None:
                reads(text, opening.zone_of(generation))
        except ValueError as error:
            yield marks.problem((key,), str(error))


def instant_of(text: str, zone: ZoneInfo) -> int:
    """Milliseconds of an ISO 8601 moment; without an offset it is of the clock in `zone`. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).timestamp()) * 1000
    except (ValueError, OverflowError) as error:
        raise ValueError(f"'{text}' is not a moment as in 2026-11-21T19:30 or 2026-11-21T19:30+01:00") from error


def address_of(text: str, _: ZoneInfo | None = None) -> Address:
    """An IP address. Raises ValueError."""
    address = parse(text)
    if address is None:
        raise ValueError(f"'{text}' is not an IP address")
    return address


def run_case(case: CaseEntry, generation: Generation, callers: Callers) -> Outcome:
    """Judge one case and compare."""
    try:
        if case.key is not None:
            identity = callers.of_key(case.key)
        else:
            identity = callers.of_team(case.team or "", case.user, key_name=case.key_name, own=case.tier)
    except NotACaller as error:
        judgement = Judgement("invalid_api_key", str(error), "")
        return Outcome(case, judgement, tuple(_differences(case.expect, judgement)))
    ask = Ask(
        identity,
        model=case.model,
        path=case.path,
        at_ms=None if case.at is None else instant_of(case.at, opening.zone_of(generation)),
        address=None if case.ip is None else address_of(case.ip),
        max_tokens=case.max_tokens,
        text=case.text,
    )
    judgement = judge(generation, ask)
    return Outcome(case, judgement, tuple(_differences(case.expect, judgement)))


def _differences(expect: ExpectEntry, judgement: Judgement) -> Iterator[Difference]:
    """The verdict always; of the rest what the case names."""
    for what in ExpectEntry.model_fields:
        expected, found = plain(getattr(expect, what)), getattr(judgement, what)
        if expected is not None and expected != found:
            yield Difference(what, expected, found)
