"""Rules in policies/teams.yaml: what they become, and where each mistake is shown."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from proxy import shipped
from proxy.config.load import load_generation
from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import ContentRule, Hours, Rules
from tests.support.files import Files

PLACE = "policies/teams.yaml"
FRAME = """\
organisations:
  acme:
    models: {deny: [shared]}
    tier: pro
    parameters: {temperature: 0.2}
teams:
  research:
    organisation: acme
"""
LINES = FRAME.count("\n")


def written(files: Files, team: str) -> Files:
    """The frame above with `team` at the end of its only team."""
    files.write(PLACE, FRAME + textwrap.indent(textwrap.dedent(team).strip("\n"), "    ") + "\n")
    return files


def rules_of(files: Files, team: str) -> Rules:
    """The team's rules as loaded."""
    scoped = written(files, team).load().teams["research"].rules
    assert scoped is not None
    return scoped.rules


def test_every_rule_arrives_as_it_was_written(files: Files) -> None:
    """All kinds of them, at one scope."""
    rules = rules_of(
        files,
        """
        tier: standard
        models: {allow: ["s*"], deny: [tiny]}
        paths: {allow: [/v1/*], deny: [/v1/embeddings]}
        hours: [{days: [fri-mon, wed], from: "22:00", to: "06:30", time_zone: Europe/Berlin}]
        ip_ranges: [10.0.0.0/8, "::1"]
        max_tokens: 500
        parameters: {temperature: 0.7, seed: 7, stop: [a, b], store: false}
        system_prefix: Be brief.
        content: [api_keys, {name: secret, pattern: "zeus|apollo", action: refuse, on: [requests]}]
        """,
    )
    assert rules == Rules(
        tier="standard",
        models_allowed=("s*",),
        models_denied=("tiny",),
        models_allowed_named=frozenset({"small", "tiny", "shared"}),
        models_denied_named=frozenset({"small", "tiny"}),
        paths_allowed=("/v1/*",),
        paths_denied=("/v1/embeddings",),
        hours=(Hours(frozenset({4, 5, 6, 0, 2}), 22 * 60, 6 * 60 + 30, "Europe/Berlin"),),
        ip_ranges=("10.0.0.0/8", "::1"),
        output_tokens_max=500,
        parameters={"temperature": 0.7, "seed": 7, "stop": ["a", "b"], "store": False},
        system_prefix="Be brief.",
        content=(PATTERNS["api_keys"], ContentRule("secret", "zeus|apollo", "refuse", answers=False)),
    )


def test_hours_are_of_the_configurations_zone_unless_they_name_one(files: Files) -> None:
    """A whole week is the default of days and times."""
    files.append("config.yaml", "time_zone: Asia/Tokyo\n")
    assert rules_of(files, "hours: [{}]").hours == (Hours(frozenset(range(7)), 0, 1440, "Asia/Tokyo"),)


def test_a_shipped_content_rule_can_be_made_stricter(files: Files) -> None:
    """Its pattern stays, the rest is as the entry says."""
    (rule,) = rules_of(files, "content: [{name: mail_addresses, action: refuse, on: [answers]}]").content
    assert (rule.action, rule.requests, rule.answers) == ("refuse", False, True)
    assert rule.pattern == PATTERNS["mail_addresses"].pattern


def test_a_team_without_a_tier_has_its_organisations(files: Files) -> None:
    """And one that sets its own keeps it."""
    assert written(files, "caps: []").load().teams["research"].tier == "pro"
    assert written(files, "tier: standard").load().teams["research"].tier == "standard"


def test_users_and_keys_have_rules_and_caps_of_their_own(files: Files) -> None:
    """A user without caps keeps the team's; an empty list is none; names may have spaces."""
    team = (
        written(
            files,
            """
        prepaid: user
        users:
          ann lee: {max_tokens: 5}
          bob: {caps: []}
        keys:
          nightly run: {tier: standard, caps: [{usd: 1, window: day}]}
          key_0123456789ab: {models: {deny: [small]}}
        """,
        )
        .load()
        .teams["research"]
    )
    assert team.prepaid == "user"
    assert team.user_rules["ann lee"].rules.output_tokens_max == 5
    assert team.users == {"bob": ()}
    assert team.key_rules["nightly run"].rules.tier == "standard"
    assert team.key_rules["key_0123456789ab"].rules.models_denied == ("small",)
    assert [(name, len(caps)) for name, caps in team.key_own_caps.items()] == [("nightly run", 1)]


def test_each_rule_knows_its_line(files: Files) -> None:
    """For who asks why."""
    team = written(files, "models:\n  allow: [small]\n  deny:\n    - shared\nhours: [{}]").load().teams["research"]
    assert team.rules is not None
    told = [
        team.rules.place_of(rule).removeprefix(f"{files.root}/") for rule in ("models.deny shared", "hours", "tier")
    ]
    assert told == [f"{PLACE}:{LINES + 3}", f"{PLACE}:{LINES + 5}", f"{PLACE}:7"]


MISTAKES = {
    "typo": ("modles: {}", 1, "unknown key 'modles'. Did you mean 'models'?"),
    "typo_within": ("models: {alow: [small]}", 1, "unknown key 'alow'. Did you mean 'allow'?"),
    "tier": ("tier: standrad", 1, "there is no tier 'standrad' in tiers.yaml. Did you mean 'standard'?"),
    "tier_of_user": ("users:\n  ann: {tier: pr}", 2, "there is no tier 'pr' in tiers.yaml. Did you mean 'pro'?"),
    "tier_of_key": ("keys:\n  k:\n    tier: Pro", 3, "there is no tier 'Pro' in tiers.yaml. Did you mean 'pro'?"),
    "model": ("models:\n  deny: [smal]", 2, "there is no model 'smal' in models.yaml. Did you mean 'small'?"),
    "model_pattern": ("models: {allow: [small, sharde*]}", 1, "no model in models.yaml fits 'sharde*'. Did you mean"),
    "model_syntax": ("models: {deny: ['smal?']}", 1, "of patterns only * is known"),
    "nothing_allowed": ("models: {allow: []}", 1, "would let nothing through"),
    "no_path": ("paths: {allow: []}", 1, "would let nothing through"),
    "no_day": ("hours: [{days: []}]", 1, "would let nothing through"),
    "no_range": ("ip_ranges: []", 1, "would let nothing through"),
    "no_side": ("content: [{name: api_keys, on: []}]", 1, "would let nothing through"),
    "path": ("paths: {deny: [v1/embeddings]}", 1, "is not a path as in /v1/embeddings"),
    "path_slash": ("paths: {deny: [/v1/embeddings/]}", 1, "Did you mean '/v1/embeddings'?"),
    "path_typo": ("paths: {allow: [/v1/chat/completion]}", 1, "Did you mean '/v1/chat/completions'?"),
    "path_star": ("paths: {deny: ['/v1/*/files']}", 1, "is not a path"),
    "path_dots": ("paths: {deny: [/v1/../files]}", 1, "is not a path"),
    "path_encoded": ("paths: {deny: [/v1/%66iles]}", 1, "is not a path"),
    "day": ("hours:\n  - {days: [monday]}", 2, "is neither a day (mon, tue, ... sun) nor a span of them"),
    "day_hint": ("hours:\n  - {days: [mon-friday]}", 2, "Did you mean 'mon-fri'?"),
    "time": ("hours:\n  - {from: '8:00'}", 2, "'8:00' is not a time of day as in 08:30. Did you mean '08:00'?"),
    "time_late": ("hours: [{to: '25:00'}]", 1, "'25:00' is not a time of day"),
    "time_number": ("hours: [{from: 8}]", 1, "a text is wanted here; put it in quotes"),
    "time_midnight": ("hours: [{from: '24:00'}]", 1, "it begins at 00:00. Did you mean '00:00'?"),
    "zone": ("hours: [{time_zone: Europe/Berln}]", 1, "not an IANA time zone. Did you mean 'Europe/Berlin'?"),
    "hours_empty": ("hours: []", 1, "would let nothing through"),
    "range_bits": ("ip_ranges:\n  - 10.1.2.3/8", 2, "Did you mean '10.0.0.0/8'?"),
    "range_short": ("ip_ranges: [10.0.0/8]", 1, "Did you mean '10.0.0.0/8'?"),
    "range_word": ("ip_ranges: [localhost]", 1, "'localhost' is not an address or a network"),
    "range_mapped": ("ip_ranges: ['::ffff:10.0.0.0/104']", 1, "write the IPv4 network"),
    "ceiling": ("max_tokens: 0", 1, "greater than or equal to 1"),
    "parameter_typo": ("parameters:\n  temprature: 0.2", 2, "cannot be forced. Did you mean 'temperature'?"),
    "parameter_model": ("parameters: {model: small}", 1, "cannot be forced: it decides which model serves"),
    "parameter_limit": ("parameters: {max_tokens: 5}", 1, "cannot be forced: use 'max_tokens' beside 'parameters'"),
    "parameter_tools": ("parameters: {tools: []}", 1, "it decides what is called and at which cost"),
    "parameter_stream": ("parameters: {stream: true}", 1, "clients read the answer by it"),
    "parameter_n": ("parameters: {n: 2}", 1, "it decides how much is answered"),
    "parameter_tier": ("parameters: {service_tier: flex}", 1, "it decides about the price"),
    "parameter_unknown": ("parameters: {zzz: 2}", 1, "'zzz' cannot be forced; these can: temperature"),
    "parameter_value": ("parameters: {temperature: hot}", 1, "a number from 0 to 2 is wanted here"),
    "parameter_range": ("parameters: {top_p: 1.5}", 1, "a number from 0 to 1 is wanted here"),
    "parameter_bool": ("parameters: {temperature: true}", 1, "a number from 0 to 2 is wanted here"),
    "parameter_null": ("parameters: {user: null}", 1, "a text of 1 to 512 characters is wanted here"),
    "prefix_empty": ("system_prefix: ''", 1, "at least 1 character"),
    "content_typo": ("content:\n  - api_key", 2, "Did you mean 'api_keys'?"),
    "content_action": ("content: [{name: x, pattern: abc}]", 1, "say what becomes of a match of 'x'"),
    "content_action_typo": ("content: [{name: x, pattern: abc, action: redct}]", 1, "'refuse' or 'redact'"),
    "content_syntax": ("content: [{name: x, action: redact, pattern: '(abc'}]", 1, "RE2 does not accept the pattern"),
    "content_lookahead": ("content: [{name: x, action: redact, pattern: 'a(?=b)'}]", 1, "pattern"),
    "content_empty": ("content: [{name: x, action: redact, pattern: 'a*'}]", 1, "empty text"),
    "content_long": (f"content: [{{name: x, action: redact, pattern: '{'a' * 2001}'}}]", 1, "longer than 2000"),
    "content_never": ("content: [{name: x, action: redact, pattern: 'abcdef', match_chars_max: 3}]", 1, "never match"),
    "content_shadow": ("content: [{name: api_keys, pattern: abc, action: redact}]", 1, "name of a shipped rule"),
    "content_twice": ("content: [api_keys, api_keys]", 1, "stands here twice"),
    "prepaid": ("prepaid: somebody", 1, "'organisation', 'team', 'user' or 'key'"),
    "cap_of_key": ("keys:\n  k: {caps: [{usd: -1, window: day}]}", 2, "an amount is zero or more"),
}


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_refused_at_its_line(files: Files, case: tuple[str, int, str]) -> None:
    """With what to write instead, if that can be told; nothing else is complained about."""
    team, line, told = case
    problems = written(files, team).problems()
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{PLACE}:{LINES + line}:")
    assert told in problems[0]


def test_the_organisations_rules_are_checked_as_well(files: Files) -> None:
    """At their own lines, all problems at once."""
    files.write(PLACE, FRAME.replace("[shared]", "[shard]").replace("tier: pro", "tier: prro").replace("0.2", "9"))
    places = [problem.split(" ", 1)[0].rsplit(":", 2)[0] for problem in files.problems()]
    assert places == [f"{PLACE}:3", f"{PLACE}:4", f"{PLACE}:5"]


def test_a_team_without_any_tier_is_refused(files: Files) -> None:
    """Neither its own nor its organisation's."""
    files.write(PLACE, FRAME.replace("    tier: pro\n", ""))
    (problem,) = files.problems()
    assert "the key 'tier' is missing, here and at the organisation" in problem


def test_models_that_customers_bring_need_not_be_in_the_catalogue(files: Files) -> None:
    """They are registered while the proxy runs."""
    assert rules_of(files, "models: {deny: ['byo-*']}").models_denied == ("byo-*",)


def test_the_shipped_example_would_load(tmp_path: Path) -> None:
    """What stands in comments in teams.yaml is a configuration, once the comment signs are gone."""
    for name in shipped.FILES:
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((shipped.folder() / name).read_text())
    teams = tmp_path / PLACE
    blocks = re.compile(r"(?m)^  # (?:acme|research):\n(?:  #   .*\n)+")
    text, count = blocks.subn(lambda found: found[0].replace("  # ", "  "), teams.read_text())
    assert count == 2
    teams.write_text(text)

    research = load_generation(tmp_path / "config.yaml", environment={}).teams["research"]
    assert research.rules is not None
    assert research.rules.rules.output_tokens_max == 8000
    assert set(research.key_rules) == {"nightly-batch"}
