"""tollway policy: explanations and tables of verdicts, from real files and a real key store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import opening
from proxy.cli.policy import app
from proxy.identities import CapSetting
from proxy.keys import KeyStore
from tests.support.fakes import FakeClock
from tests.support.files import Files
from tests.support.panels import CONSENSUS

TEAMS = """\
organisations:
  acme:
    caps: [{usd: 1000, window: month}]
    models: {deny: [shared]}
    parameters: {temperature: 0.5}
teams:
  research:
    organisation: acme
    tier: standard
    caps: [{usd: 100, window: day}]
    key_caps: [{usd: 5, window: day}]
    hours: [{days: [mon-fri], from: "08:00", to: "18:00"}]
    ip_ranges: [10.0.0.0/8]
    paths: {deny: [/v1/embeddings]}
    system_prefix: Be brief.
    content: [{name: zeus, pattern: zeus, action: refuse}, mail_addresses]
    users:
      ann: {tier: pro, max_tokens: 300}
    keys:
      nightly:
        max_tokens: 20
        caps: [{usd: 1, window: hour}]
"""
MONDAY_NOON_MS = 1_772_452_800_000
"""2026-03-02T12:00:00Z"""
PRO_ONLY = """\
  big:
    candidates: [openai]
    price: {input: 1, output: 2}
    context: 8000
    output_max: 4000
    tiers: [pro]
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    made = Files(tmp_path)
    made.write("policies/teams.yaml", TEAMS)
    made.append("policies/models.yaml", PRO_ONLY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr(opening, "CLOCK", FakeClock(MONDAY_NOON_MS))
    return made


@pytest.fixture
def keys(files: Files) -> dict[str, str]:
    """Ids by name."""
    made = {}
    with opening.key_store(opening.generation_of(files.root / "config.yaml")) as store:
        cap = CapSetting(7_000_000_000, "day", "charged")
        made["plain"] = _create(store, "", user="ann")
        made["nightly"] = _create(store, "nightly", user="bob", caps=(cap,))
        made["gifted"] = _create(store, "gifted", user="ann", tier="standard")
        made["revoked"] = _create(store, "revoked", user="ann")
        store.revoke(made["revoked"])
    return made


def _create(store: KeyStore, name: str, *, user: str, **changes: Any) -> str:
    return store.create(user=user, team="research", organisation="acme", name=name, **changes)[1].key_id


@pytest.fixture
def tollway(files: Files) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(files.root / "config.yaml")], terminal_width=200)

    return run


def explained(tollway: Callable[..., Result], *arguments: str) -> dict[str, Any]:
    result = tollway("explain", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_explain_shows_the_scopes_in_order_with_rule_place_and_caps(
    tollway: Callable[..., Result], keys: dict[str, str]
) -> None:
    """For programs."""
    found = explained(tollway, "--key", keys["nightly"], "--model", "small", "--ip", "10.0.0.1")
    assert [(scope["scope"], scope["id"]) for scope in found["scopes"]] == [
        ("organisation", "acme"), ("team", "research"), ("key", "nightly"),
    ]  # fmt: skip
    rules = {rule["rule"]: (rule["value"], rule["place"].rpartition("/")[2]) for rule in found["scopes"][1]["rules"]}
    assert rules["hours"] == ("Mon, Tue, Wed, Thu, Fri 08:00-18:00 (UTC)", "teams.yaml:12")
    assert rules["paths.deny"] == ("/v1/embeddings", "teams.yaml:14")
    assert [(cap["scope"], cap["cap"]) for cap in found["caps"]] == [
        ("key", "1.00/hour"), ("team", "100.00/day"), ("organisation", "1000.00/month"),
    ]  # fmt: skip
    judgement = found["judgement"]
    assert (judgement["verdict"], judgement["max_tokens"], judgement["parameters"], judgement["system_prefix"]) == (
        "allow", 20, {"temperature": 0.5}, "Be brief.",
    )  # fmt: skip


def test_explain_tells_a_misspelt_model_and_one_that_nobody_serves_now(
    tollway: Callable[..., Result], keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules are not all that decides: what a caller would run into besides is said, too."""
    assert (
        "Did you mean 'small'?" in explained(tollway, "--team", "research", "--model", "smal")["judgement"]["message"]
    )
    monkeypatch.delenv("OPENAI_API_KEY")
    judgement = explained(tollway, "--team", "research", "--model", "small")["judgement"]
    assert judgement["verdict"] == "allow"
    assert judgement["message"].endswith("nothing serves it here now: set OPENAI_API_KEY in the environment.")


@pytest.mark.parametrize(
    ("asked", "verdict", "scope", "rule"),
    [
        (("--model", "shared"), "model_not_allowed", "organisation", "models.deny shared"),
        (("--model", "nope"), "model_not_available", None, None),
        (("--path", "/v1/embeddings"), "policy_denied", "team", "paths.deny /v1/embeddings"),
        (("--path", "/v1/embeddings/small"), "policy_denied", "team", "paths.deny /v1/embeddings"),
        (("--path", "/v1/chat/completions"), "allow", None, None),
        (("--ip", "192.0.2.1"), "policy_denied", "team", "ip_ranges"),
        (("--at", "2026-03-02T18:00"), "policy_denied", "team", "hours"),
        (("--at", "2026-03-02T18:00+05:00"), "allow", None, None),
        (("--at", "2026-03-07T12:00"), "policy_denied", "team", "hours"),
        ((), "allow", None, None),
    ],
)
def test_explain_tells_which_rule_decides(
    tollway: Callable[..., Result], keys: dict[str, str], asked: tuple[str, ...], verdict: str, scope: str | None,
    rule: str | None,
) -> None:  # fmt: skip
    """The one marked in the scopes is the one of the verdict."""
    found = explained(tollway, "--key", keys["plain"], *asked)
    judgement = found["judgement"]
    assert (judgement["verdict"], judgement["scope"], judgement["rule"]) == (verdict, scope, rule)
    decides = [one["rule"] for scoped in found["scopes"] for one in scoped["rules"] if one["decides"]]
    assert decides == ([] if rule is None else [rule.partition(" ")[0]])


def test_explain_says_where_the_tier_comes_from(tollway: Callable[..., Result], keys: dict[str, str]) -> None:
    """The user's in teams.yaml, or the one that a key was made with; and what it keeps away."""
    plain, gifted = (explained(tollway, "--key", keys[name], "--model", "big") for name in ("plain", "gifted"))
    assert plain["tier"]["name"] == "pro"
    assert plain["tier"]["from"].startswith("user 'research/ann' (")
    assert plain["judgement"]["verdict"] == "allow"
    assert gifted["tier"] == {"name": "standard", "from": "the key as it was made"}
    assert gifted["judgement"]["verdict"] == "model_not_in_tier"
    assert explained(tollway, "--team", "research")["tier"]["from"].startswith("team 'research' (")


def test_explain_reads_well(tollway: Callable[..., Result], keys: dict[str, str]) -> None:
    """For people: who, scopes, the deciding rule, the verdict with its place."""
    text = tollway("explain", "--key", keys["plain"], "--model", "shared").stdout
    assert f"key {keys['plain']}, user ann, team research, organisation acme" in text
    (line,) = [line for line in text.splitlines() if "<- decides" in line]
    assert "models.deny" in line and "teams.yaml:4" in line
    assert "verdict: model_not_allowed by organisation 'acme', models.deny shared" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Say who calls"),
        (("--key", "a", "--team", "b"), "Say who calls"),
        (("--team", "reserch"), "Did you mean 'research'?"),
        (("--key", "key_000000000000"), "No key has the id"),
        (("--team", "research", "--at", "tomorrow"), "'tomorrow' is not a moment"),
        (("--team", "research", "--ip", "nowhere"), "'nowhere' is not an IP address"),
    ],
)
def test_a_wrong_question_is_answered_with_what_to_write(
    tollway: Callable[..., Result], arguments: tuple[str, ...], told: str
) -> None:
    """Exit 2."""
    result = tollway("explain", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_revoked_key_calls_nothing(tollway: Callable[..., Result], keys: dict[str, str], files: Files) -> None:
    """An error when asked about, an ordinary verdict in a table."""
    assert "is revoked" in tollway("explain", "--key", keys["revoked"]).stderr
    files.write("cases.yaml", f"cases: [{{key: {keys['revoked']}, expect: invalid_api_key}}]\n")
    assert tollway("test", str(files.root / "cases.yaml")).exit_code == 0


CASES = """\
cases:
  - {team: research, user: ann, model: big, expect: {verdict: allow, tier: pro, max_tokens: 300}}
  - {team: research, model: big, expect: model_not_in_tier}
  - {team: research, tier: pro, model: big, expect: {tier: pro, max_tokens: 4000}}
  - {team: research, key_name: nightly, model: small, max_tokens: 400, expect: {max_tokens: 20}}
  - {team: research, at: 2026-03-07T12:00, expect: policy_denied}
  - {team: research, text: ask zeus, expect: {verdict: content_refused, rule: content zeus, scope: team}}
  - {team: research, text: mail a@example.com, expect: {text: "mail [mail address removed]"}}
  - {team: research, model: byo-mine, expect: allow}
  - {key: KEY, model: small, expect: {parameters: {temperature: 0.5}, system_prefix: Be brief.}}
"""


def test_a_table_that_holds_exits_0(tollway: Callable[..., Result], keys: dict[str, str], files: Files) -> None:
    """Every kind of case."""
    files.write("cases.yaml", CASES.replace("KEY", keys["plain"]))
    result = tollway("test", str(files.root / "cases.yaml"))
    assert result.exit_code == 0, result.output
    assert "9 cases, none failed." in result.stdout


def test_a_table_that_does_not_hold_shows_each_difference_and_exits_1(
    tollway: Callable[..., Result], files: Files
) -> None:
    """What was expected, what is, and by which rule."""
    files.write(
        "cases.yaml",
        "cases:\n"
        "  - {name: first, team: research, model: shared, expect: allow}\n"
        "  - {name: second, team: research, model: small, expect: {max_tokens: 7, tier: pro}}\n"
        "  - {name: third, team: research, model: small, expect: allow}\n",
    )
    result = tollway("test", str(files.root / "cases.yaml"))
    assert result.exit_code == 1
    assert "FAIL first: model_not_allowed by organisation 'acme', models.deny shared" in result.stdout
    assert "       - 7\n       + 500\n" in result.stdout
    assert "3 cases, 2 failed." in result.stdout
    found = json.loads(tollway("test", str(files.root / "cases.yaml"), "--json").stdout)
    assert [case["ok"] for case in found["cases"]] == [False, False, True]
    assert [one["what"] for one in found["cases"][1]["differences"]] == ["tier", "max_tokens"]


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ("cases: []", ":1:8: cases: there is no case in it"),
        ("cases:\n  - {team: research}", ":2:5: cases[0].expect: the key 'expect' is missing\n"),
        ("cases:\n  - {expect: allow}", ":2:5: cases[0]: say who calls"),
        ("cases:\n  - {team: reserch, expect: allow}", "Did you mean 'research'?"),
        ("cases:\n  - {team: research, tier: pr, expect: allow}", "Did you mean 'pro'?"),
        ("cases:\n  - team: research\n    expect: alow", ":3:13: cases[0].expect: 'alow' is neither"),
        ("cases:\n  - {team: research, expect: {verdict: policy_denid}}", "Did you mean 'policy_denied'?"),
        ("cases:\n  - {team: research, modle: small, expect: allow}", "Did you mean 'model'?"),
        ("cases:\n  - {team: research, at: noon, expect: allow}", "'noon' is not a moment"),
        ("cases:\n  - {team: research, ip: here, expect: allow}", "'here' is not an IP address"),
    ],
)
def test_a_mistake_in_a_table_is_shown_at_its_line(
    tollway: Callable[..., Result], files: Files, cases: str, told: str
) -> None:
    """Exit 2, nothing is run."""
    files.write("cases.yaml", cases)
    result = tollway("test", str(files.root / "cases.yaml"))
    assert result.exit_code == 2
    assert told in result.stderr


def test_panels_are_in_explanations_and_tables_like_any_model(
    tollway: Callable[..., Result], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denied by name, by tier, or because rules leave too few of its members."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk-test")
    files.write("policies/consensus.yaml", CONSENSUS)
    who = ("--team", "research", "--user", "ann")
    judgement = explained(tollway, *who, "--model", "consensus-quick")["judgement"]
    assert judgement["verdict"] == "model_not_allowed" and "its members are of 1 vendor" in judgement["message"]
    files.edit("policies/teams.yaml", "    models: {deny: [shared]}\n", "    models: {deny: [consensus-l*]}\n")
    cases = [
        "{team: research, user: ann, model: consensus-quick, expect: allow}",
        "{team: research, user: ann, model: consensus-long, expect: model_not_allowed}",
        "{team: research, user: bob, model: consensus-auto, expect: model_not_in_tier}",
    ]
    files.write("cases.yaml", "cases:\n" + "".join(f"  - {case}\n" for case in cases))
    result = tollway("test", str(files.root / "cases.yaml"))
    assert "3 cases, none failed." in result.stdout
