"""tollway policy: which rule decides about a call, and a table of calls with the verdicts that are expected."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.cap_windows import caps_of
from proxy.caps import cap_text
from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail
from proxy.cli.policy_cases import Callers, NotACaller, Outcome, address_of, instant_of, read_cases, run_case
from proxy.config.problems import ConfigProblems
from proxy.config.schema import Generation
from proxy.identities import Identity
from proxy.policy.callers import scopes_of
from proxy.policy.judgement import Ask, Judgement, judge
from proxy.policy.rules import Rules, ScopedRules
from proxy.policy.verdicts import hours_text, whose

app = typer.Typer(help="Which rule of policies/teams.yaml decides about a call, and why.", no_args_is_help=True)


@app.command(
    "explain",
    epilog="Example: tollway policy explain --key key_0123456789ab --model gpt-4o --at 2026-11-21T19:30 --ip 10.1.2.3"
    "; or --team research --user ann",
)
def explain(
    key: Annotated[str | None, typer.Option(help="Id of a key (tollway keys list), or the key itself.")] = None,
    team: Annotated[str | None, typer.Option(help="In place of a key: a team ...")] = None,
    user: Annotated[str, typer.Option(help="... and its user.")] = "default",
    model: Annotated[str | None, typer.Option(help="Model that is asked for.")] = None,
    path: Annotated[str | None, typer.Option(help="Path that is called, as in /v1/embeddings.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Moment, as in 2026-11-21T19:30 (of time_zone); now if not given.")
    ] = None,
    ip: Annotated[str | None, typer.Option(help="Address of the client; any if not given.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Output limit that the client sets.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Print the scopes in order, each rule with its place, and the one that decides."""
    generation = opening.generation_of(config)
    if (key is None) == (team is None):
        fail("Say who calls: either --key KEY or --team TEAM [--user USER].")
    if team is not None:
        opening.known("team", team, generation.teams)
    try:
        with Callers(generation) as callers:
            identity = callers.of_key(key) if key is not None else callers.of_team(team or "", user)
        ask = Ask(
            identity,
            model=model,
            path=path,
            at_ms=opening.CLOCK.now_ms() if at is None else instant_of(at, opening.zone_of(generation)),
            address=None if ip is None else address_of(ip),
            max_tokens=max_tokens,
        )
    except (NotACaller, ValueError) as error:
        fail(str(error))
    judgement = judge(generation, ask)
    if json:
        opening.print_json(_plain(generation, ask, judgement))
    else:
        _print(generation, ask, judgement)


@app.command("test", epilog="Example: tollway policy test policies/cases.yaml")
def test(
    file: Annotated[Path, typer.Argument(help="YAML file with 'cases'; docs/policy.md tells what a case may say.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Run a table of calls against the policy; exit 1 where a verdict is not the expected one."""
    generation = opening.generation_of(config)
    try:
        cases = read_cases(file, generation)
    except ConfigProblems as problems:
        fail(str(problems))
    with Callers(generation) as callers:
        outcomes = [run_case(case, generation, callers) for case in cases]
    failed = [outcome for outcome in outcomes if outcome.differences]
    if json:
        opening.print_json({"ok": not failed, "cases": [_plain_outcome(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            _print_outcome(outcome)
        typer.echo(f"{len(outcomes)} cases, {len(failed) or 'none'} failed.")
    if failed:
        raise typer.Exit(EXIT_FINDINGS)


def _plain_outcome(outcome: Outcome) -> dict[str, Any]:
    differences = [{"what": d.what, "expected": d.expected, "found": d.found} for d in outcome.differences]
    return {
        "name": outcome.case.title,
        "ok": not differences,
        "judgement": asdict(outcome.judgement),
        "differences": differences,
    }


def _print_outcome(outcome: Outcome) -> None:
    judgement = outcome.judgement
    typer.echo(
        f"{'FAIL' if outcome.differences else 'ok':4} {outcome.case.title}: {judgement.verdict}{_why(judgement)}"
    )
    for difference in outcome.differences:
        typer.echo(f"     {difference.what}\n       - {difference.expected}\n       + {difference.found}")


def _why(judgement: Judgement) -> str:
    if judgement.rule is None:
        return ""
    return f" by {judgement.scope} '{judgement.scope_id}', {judgement.rule} ({judgement.place})"


def _plain(generation: Generation, ask: Ask, judgement: Judgement) -> dict[str, Any]:
    identity = ask.identity
    scopes = [_plain_scope(scoped, judgement) for scoped in scopes_of(generation, identity)]
    caps = [{"scope": scope, "id": id_, "cap": cap_text(cap)} for scope, id_, cap in caps_of(identity, generation)]
    return {
        "key": identity.key_id,
        "name": identity.key_name,
        "user": identity.user,
        "team": identity.team,
        "organisation": identity.organisation,
        "tier": {"name": identity.tier, "from": _tier_from(generation, identity)},
        "asked": {
            "model": ask.model,
            "path": ask.path,
            "at": opening.instant_text(ask.at_ms),
            "ip": None if ask.address is None else str(ask.address),
        },
        "scopes": scopes,
        "caps": caps,
        "judgement": asdict(judgement),
    }


def _plain_scope(scoped: ScopedRules, judgement: Judgement) -> dict[str, Any]:
    rules = [
        {
            "rule": rule,
            "value": value,
            "place": scoped.place_of(rule),
            "decides": _decides(scoped, judgement, rule),
        }
        for rule, value in rule_lines(scoped.rules)
    ]
    return {"scope": scoped.scope, "id": scoped.scope_id, "place": scoped.place, "rules": rules}


def _decides(scoped: ScopedRules, judgement: Judgement, rule: str) -> bool:
    same = (scoped.scope, scoped.scope_id) == (judgement.scope, judgement.scope_id)
    return same and judgement.rule is not None and judgement.rule.partition(" ")[0] == rule


def _print(generation: Generation, ask: Ask, judgement: Judgement) -> None:
    identity = ask.identity
    who = f"key {identity.key_id}{f' ({identity.key_name})' if identity.key_name else ''}, " if identity.key_id else ""
    typer.echo(f"{who}user {identity.user}, team {identity.team}, organisation {identity.organisation}")
    typer.echo(f"tier {identity.tier}, of {_tier_from(generation, identity)}")
    for scoped in scopes_of(generation, identity):
        typer.echo(f"\n{whose(scoped)}  {scoped.place}")
        rules = rule_lines(scoped.rules)
        for rule, value in rules:
            mark = "  <- decides" if _decides(scoped, judgement, rule) else ""
            typer.echo(f"  {rule:14} {value}  {scoped.place_of(rule)}{mark}")
        if not rules:
            typer.echo("  no rules")
    typer.echo("\ncaps")
    caps = [f"  {scope:14} {cap_text(cap)}" for scope, _, cap in caps_of(identity, generation)]
    typer.echo("\n".join(caps or ["  none"]))
    typer.echo(f"\nverdict: {judgement.verdict}{_why(judgement)}")
    typer.echo(f"  {judgement.message}")
    for what, value in _sent(judgement):
        typer.echo(f"  {what:14} {value}")


def _sent(judgement: Judgement) -> list[tuple[str, str]]:
    """What a call that is served is sent with."""
    found = []
    if judgement.max_tokens is not None:
        found.append(("max_tokens", f"at most {judgement.max_tokens}"))
    found += [(name, f"{value!r}, forced") for name, value in judgement.parameters.items()]
    if judgement.system_prefix:
        found.append(("system_prefix", repr(judgement.system_prefix)))
    return found


def _tier_from(generation: Generation, identity: Identity) -> str:
    """Which scope set the tier that counts. One that the key was made with goes before those of user and team."""
    for scoped in reversed(scopes_of(generation, identity)):
        if scoped.rules.tier is not None and (scoped.scope == "key" or scoped.rules.tier == identity.tier):
            return f"{whose(scoped)} ({scoped.place_of('tier')})"
        if scoped.rules.tier is not None:
            break
    return "the key as it was made"


def rule_lines(rules: Rules) -> list[tuple[str, str]]:
    """Each rule of a scope, as the file calls it, and what it says."""
    lists = (
        ("models.allow", rules.models_allowed),
        ("models.deny", rules.models_denied),
        ("paths.allow", rules.paths_allowed),
        ("paths.deny", rules.paths_denied),
        ("hours", None if rules.hours is None else [hours_text(window) for window in rules.hours]),
        ("ip_ranges", rules.ip_ranges),
        ("parameters", [f"{name}={value!r}" for name, value in rules.parameters.items()]),
        ("content", [f"{rule.name} ({rule.action})" for rule in rules.content]),
    )
    found = [] if rules.tier is None else [("tier", rules.tier)]
    found += [(rule, ", ".join(values)) for rule, values in lists if values]
    if rules.output_tokens_max is not None:
        found.append(("max_tokens", str(rules.output_tokens_max)))
    if rules.system_prefix is not None:
        found.append(("system_prefix", repr(rules.system_prefix)))
    return found
