"""A configuration as a whole: what it becomes, and that every mistake is reported where it stands."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import BaseModel, ConfigDict

from proxy.config.load import settings_problems
from proxy.identities import CapSetting
from proxy.pricing.rates import parse_rate
from proxy.upstreams.api import Probe
from tests.support.files import Files


def test_a_whole_configuration_becomes_one_generation(files: Files) -> None:
    """Every part is filled as the schema says."""
    generation = files.load({"OPENAI_API_KEY": "sk-1"})
    assert [(one.name, one.port, one.loopback) for one in generation.listeners] == [
        ("api", 8402, True),
        ("capture", 8403, True),
    ]
    assert generation.upstreams["openai"].key == "sk-1"
    assert generation.tiers == ("standard", "pro")
    assert generation.root == files.root
    assert generation.state == files.root / "var"
    assert generation.capture[0].pattern == "api.openai.com"
    assert [template for template, _ in generation.capture[0].paths] == ["/v1/chat/completions"]


def test_prices_and_caps_are_exact_integers(files: Files) -> None:
    """From the file's decimals to scaled integers without a float between."""
    generation = files.load({"OPENAI_API_KEY": "sk-1"})
    rates = generation.models["small"].rates
    assert rates is not None
    assert (rates.input, rates.cached_input, rates.output) == tuple(map(parse_rate, ("0.15", "0.075", "0.6")))
    assert generation.organisations["acme"] == (CapSetting(1_000_500_000_000, "month", "charged", None, False),)
    assert generation.teams["research"].users["ann"] == (CapSetting(1, "day", "list", 80, True),)


def test_an_upstream_without_its_key_is_unavailable_and_says_what_to_set(files: Files) -> None:
    """So are models that only it serves; it still serves callers' own keys."""
    generation = files.load()
    assert generation.unavailable == {
        "openai": "set OPENAI_API_KEY in the environment",
        "groq": "set GROQ_API_KEY in the environment",
    }
    assert generation.models == {}
    assert generation.unavailable_models["tiny"] == "set OPENAI_API_KEY in the environment"
    assert generation.unavailable_models["shared"] == (
        "set GROQ_API_KEY in the environment or set OPENAI_API_KEY in the environment"
    )
    assert generation.upstream("openai") is generation.keyless_upstreams["openai"]
    assert generation.catalogue["tiny"].name == "small"


def test_an_upstream_is_taken_to_know_the_older_limit_only_unless_it_is_openais(files: Files) -> None:
    """A server that ignores the member with the limit would answer without one."""
    generation = files.load()
    fields = {name: generation.keyless_upstreams[name].output_field for name in ("openai", "groq")}
    assert fields == {"openai": "max_completion_tokens", "groq": "max_tokens"}


def test_candidates_name_available_upstreams_only(files: Files) -> None:
    """The others stay in the catalogue."""
    generation = files.load({"OPENAI_API_KEY": "sk-1"})
    assert [c.upstream for c in generation.models["shared"].candidates] == ["openai"]
    assert [c.upstream for c in generation.catalogue["shared"].candidates] == ["groq", "openai"]


def test_an_alias_resolves_to_the_same_model(files: Files) -> None:
    """By every name a client may use."""
    generation = files.load({"OPENAI_API_KEY": "sk-1"})
    assert generation.models["tiny"] == generation.models["small"]


def test_a_tier_takes_from_the_key_limits_what_it_does_not_say(files: Files) -> None:
    """null lifts a limit."""
    limits = files.load().limits
    assert limits.tiers["standard"] == limits.key
    assert limits.tiers["pro"].streams == 7
    assert limits.tiers["pro"].tokens_per_minute is None
    assert limits.tiers["pro"].requests == limits.key.requests


def test_no_secret_stands_in_the_repr(files: Files) -> None:
    """A generation can be logged."""
    files.edit("config.yaml", "  - identity", "  - identity: {key_prefix: chain-secret_}")
    files.edit("config.yaml", "    key: ${GROQ_API_KEY}", "    key: groq-secret\n    headers: {x-a: header-secret}")
    files.edit(
        "config.yaml",
        "chain:\n",
        "  - {name: admin, kind: admin, bind: '127.0.0.1:8404', token: admin-secret}\nchain:\n",
    )
    text = repr(files.load({"OPENAI_API_KEY": "sk-secret"}))
    assert "Upstream('openai'" in text
    assert "-secret" not in text


def test_the_empty_environment_is_not_the_process_environment(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed is what counts."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-process")
    assert "openai" in files.load().unavailable


def test_an_unknown_key_is_reported_at_the_key_with_what_was_meant(files: Files) -> None:
    """File, line, column, path, near miss."""
    files.edit("config.yaml", "    bind: 127.0.0.1:8403", "    bnd: 127.0.0.1:8403")
    assert files.problems() == [
        "config.yaml:5:5: listeners[1].bind: the key 'bind' is missing",
        "config.yaml:7:5: listeners[1].bnd: unknown key 'bnd'. Did you mean 'bind'?",
    ]


def test_all_files_report_at_once(files: Files) -> None:
    """Nobody mends one mistake to be told the next."""
    files.edit("config.yaml", "kind: reverse", "kind: revers")
    files.edit("policies/models.yaml", "context: 8000", "contxt: 8000")
    files.edit("policies/tiers.yaml", "streams: 7", "streams: 0")
    files.edit("policies/teams.yaml", "window: month", "window: week")
    files.edit("policies/limits.yaml", "burst: 25", "burst: lots")
    files.edit("policies/capture.yaml", "upstream: openai", "upstrem: openai")
    found = files.problems()
    for name in ("config", "models", "tiers", "teams", "limits", "capture"):
        assert any(f"{name}.yaml:" in line for line in found), name
    assert any("Did you mean 'context'?" in line for line in found)
    assert any("a whole number is wanted here" in line for line in found)


CASES = {
    "bind_without_address": ("config.yaml", "bind: 127.0.0.1:8402", "bind: ':8402'", "name the address too"),
    "bind_to_a_name": ("config.yaml", "bind: 127.0.0.1:8402", "bind: example.com:80", "bind to an IP address"),
    "bind_port_too_large": ("config.yaml", "bind: 127.0.0.1:8402", "bind: 127.0.0.1:70000", "is not HOST:PORT"),
    "bind_taken": ("config.yaml", "bind: 127.0.0.1:8402", "bind: 127.0.0.1:8403", "already has this address"),
    "bind_shadowed": ("config.yaml", "bind: 127.0.0.1:8402", "bind: 0.0.0.0:8403", "already has this address"),
    "listener_name_taken": ("config.yaml", "name: api", "name: capture", "stands above already"),
    "unknown_team": ("config.yaml", "default_team: research", "default_team: reserch", "Did you mean 'research'?"),
    "admin_off_loopback": (
        "config.yaml",
        "kind: reverse\n    bind: 127.0.0.1:8402",
        "kind: admin\n    bind: 0.0.0.0:8402",
        "off loopback needs a token",
    ),
    "empty_token_off_loopback": (
        "config.yaml",
        "kind: reverse\n    bind: 127.0.0.1:8402",
        "kind: admin\n    token: ''\n    bind: 0.0.0.0:8402",
        "off loopback needs a token",
    ),
    "short_token_off_loopback": (
        "config.yaml",
        "kind: reverse\n    bind: 127.0.0.1:8402",
        "kind: admin\n    token: secret\n    bind: 0.0.0.0:8402",
        "off loopback needs a token of 16 characters or more",
    ),
    "token_on_reverse": (
        "config.yaml",
        "kind: reverse",
        "kind: reverse\n    token: x",
        "only a listener of kind 'admin'",
    ),
    "bad_target": ("config.yaml", "kind: regular", "kind: regular\n    allow_targets: ['a b']", "is not HOST:PORT"),
    "missing_certificate": (
        "config.yaml",
        "kind: reverse",
        "kind: reverse\n    tls: {cert_file: no.pem, key_file: no.key}",
        "cannot be read",
    ),
    "unknown_plugin": ("config.yaml", "  - identity", "  - idenity", "Did you mean 'identity'?"),
    "plugin_twice": ("config.yaml", "  - identity", "  - identity\n  - identity", "stands in the chain twice"),
    "settings_not_a_mapping": ("config.yaml", "  - identity", "  - identity: 5", "settings are a mapping"),
    "two_plugins_in_one_entry": ("config.yaml", "  - identity", "  - {identity: {}, cors: {}}", "one plugin an entry"),
    "zone": ("config.yaml", "chain:", "time_zone: Europe/Berln\nchain:", "Did you mean 'Europe/Berlin'?"),
    "zone_traversal": ("config.yaml", "chain:", "time_zone: ../../etc/passwd\nchain:", "is not an IANA time zone"),
    "url_scheme": ("config.yaml", "https://api.openai.com/v1", "api.openai.com/v1", "begins with https://"),
    "url_credentials": ("config.yaml", "https://api.openai.com/v1", "https://u:p@api.openai.com", "comes from 'key'"),
    "url_query": ("config.yaml", "https://api.openai.com/v1", "https://api.openai.com/v1?a=b", "no query"),
    "built_in": ("config.yaml", "https://api.openai.com/v1", "builtin:other", "builtin:demo"),
    "key_with_line_end": ("config.yaml", "key: ${OPENAI_API_KEY}", 'key: "a\\nb"', "no header may hold"),
    "credential_in_headers": (
        "config.yaml",
        "key: ${OPENAI_API_KEY}",
        "headers: {Authorization: x}",
        "not from 'headers'",
    ),
    "connect_to": ("config.yaml", "key: ${OPENAI_API_KEY}", "connect_to: nowhere", "is not HOST:PORT"),
    "unknown_upstream": (
        "policies/models.yaml",
        "    candidates: [openai]",
        "    candidates: [opnai]",
        "Did you mean 'openai'?",
    ),
    "no_candidate": ("policies/models.yaml", "    candidates: [openai]", "    candidates: []", "candidates"),
    "no_price": (
        "policies/models.yaml",
        "    price: {input: 0.15, cached_input: 0.075, output: 0.60}\n",
        "",
        "a model without a price is never served",
    ),
    "no_output_price": (
        "policies/models.yaml",
        "price: {input: 1, output: 2}",
        "price: {input: 1}",
        "'output' is missing",
    ),
    "negative_rate": ("policies/models.yaml", "input: 0.15", "input: -0.15", "a rate is zero or more"),
    "rate_not_a_number": ("policies/models.yaml", "input: 0.15", "input: cheap", "a decimal number of dollars"),
    "rate_infinite": ("policies/models.yaml", "input: 0.15", "input: Infinity", "a decimal number of dollars"),
    "rate_too_fine": ("policies/models.yaml", "input: 0.15", "input: 0.0000000000001", "twelve decimals"),
    "cached_dearer": ("policies/models.yaml", "cached_input: 0.075", "cached_input: 0.75", "never dearer"),
    "duplicate_alias": (
        "policies/models.yaml",
        "aliases: [tiny]",
        "aliases: [shared]",
        "already taken by the model 'small'",
    ),
    "unknown_operation": (
        "policies/models.yaml",
        "context: 8000",
        "context: 8000\n    operations: [chat.completion]",
        "Did you mean 'chat.completions'?",
    ),
    "local_operation": (
        "policies/models.yaml",
        "context: 8000",
        "context: 8000\n    operations: [models]",
        "is not one of",
    ),
    "unknown_tier": (
        "policies/models.yaml",
        "context: 8000",
        "context: 8000\n    tiers: [standrd]",
        "Did you mean 'standard'?",
    ),
    "output_over_context": ("policies/models.yaml", "output_max: 500", "output_max: 5000", "more than context"),
    "default_over_max": (
        "policies/models.yaml",
        "output_max: 500",
        "output_max: 500\n    output_default: 600",
        "more than output_max",
    ),
    "team_tier": ("policies/teams.yaml", "tier: standard", "tier: Standard", "Did you mean 'standard'?"),
    "team_organisation": ("policies/teams.yaml", "organisation: acme", "organisation: acm", "Did you mean 'acme'?"),
    "negative_cap": ("policies/teams.yaml", "usd: 1000.50", "usd: -1", "an amount is zero or more"),
    "cap_too_fine": ("policies/teams.yaml", "usd: 1000.50", "usd: 0.0000000001", "nine decimals"),
    "capture_upstream": ("policies/capture.yaml", "upstream: openai", "upstream: opnai", "Did you mean 'openai'?"),
    "capture_operation": ("policies/capture.yaml", ": chat.completions", ": chat", "is not one of"),
    "capture_star": ("policies/capture.yaml", '"*.openai.example.com"', '"*.com"', "is neither a host name nor"),
    "capture_inner_star": (
        "policies/capture.yaml",
        '"*.openai.example.com"',
        '"api.*.com"',
        "is neither a host name nor",
    ),
    "capture_template": ("policies/capture.yaml", "/chat/completions:", "/chat//completions/:", "write it as /one/two"),
    "capture_base": ("policies/capture.yaml", "base_path: /v1", "base_path: /v1/", "write it as /one/two"),
    "float_as_count": ("policies/limits.yaml", "total_streams: 250", "total_streams: 250.5", "a whole number"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_mistake_is_refused_at_its_line(files: Files, case: tuple[str, str, str, str]) -> None:
    """One problem, in the right file, on a line that was changed or right beside it."""
    name, old, new, said = case
    before = (files.root / name).read_text()
    files.edit(name, old, new)
    found = files.problems()
    assert any(said in line and line.startswith(f"{name}:") for line in found), found
    line = int(next(one for one in found if said in one).split(":")[1])
    changed = before[: before.index(old)].count("\n") + 1
    assert abs(line - changed) <= 6


def test_a_private_key_that_others_can_read_is_refused(files: Files) -> None:
    """And taken once it is private."""
    for name in ("cert.pem", "key.pem"):
        (files.root / name).write_text("x")
    (files.root / "key.pem").chmod(0o644)
    files.edit("config.yaml", "kind: reverse", "kind: reverse\n    tls: {cert_file: cert.pem, key_file: key.pem}")
    assert any("chmod 600" in line for line in files.problems())
    (files.root / "key.pem").chmod(0o600)
    assert files.load().listeners[0].key_file == files.root / "key.pem"


def test_an_absent_policy_file_is_a_problem(files: Files) -> None:
    """Named with its path."""
    (files.root / "policies" / "limits.yaml").unlink()
    assert files.problems() == ["policies/limits.yaml:1:1: the file cannot be read: No such file or directory"]


def test_an_empty_file_says_what_is_missing(files: Files) -> None:
    """No crash on null."""
    files.write("policies/models.yaml", "# nothing\n")
    assert files.problems() == ["policies/models.yaml:1:1: models: the key 'models' is missing"]


def test_a_problem_never_shows_a_secret(files: Files) -> None:
    """Values from the environment stay out of messages."""
    files.edit("config.yaml", "https://api.openai.com/v1", "${OPENAI_API_KEY}")
    assert all("sk-secret" not in line for line in files.problems({"OPENAI_API_KEY": "sk-secret"}))


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key_prefix: str = "lld_"
    limit: Decimal = Decimal(1)


def test_plugin_settings_are_validated_at_their_place(files: Files) -> None:
    """What a plugin's class finds wrong is mapped back to config.yaml."""
    files.edit("config.yaml", "  - identity", "  - identity:\n      key_prefx: a_\n      limit: many")
    generation = files.load()
    found = [str(one).removeprefix(f"{files.root}/") for one in settings_problems(generation, lambda _: _Settings)]
    assert (
        found[0] == "config.yaml:11:7: chain[0].identity.key_prefx: unknown key 'key_prefx'. Did you mean 'key_prefix'?"
    )
    assert found[1].startswith("config.yaml:12:14: chain[0].identity.limit: ")


def test_a_plugin_that_cannot_be_found_is_a_problem_of_its_entry(files: Files) -> None:
    """The finder's sentence, at the line of the name."""

    def find(name: str) -> type[BaseModel]:
        raise LookupError(f"no {name} here")

    found = [str(one).removeprefix(f"{files.root}/") for one in settings_problems(files.load(), find)]
    assert found == ["config.yaml:10:5: chain[0]: no identity here"]


def test_classes_of_other_packages_are_always_taken(files: Files) -> None:
    """`package.module:Class` needs no registry."""
    files.edit("config.yaml", "  - identity", "  - my.plugins:Mine: {a: 1}")
    assert files.load().chain == (("my.plugins:Mine", {"a": 1}),)


def test_body_caps_ship_for_public_listeners(files: Files) -> None:
    """Who can be reached by others gets the published caps; this machine's own clients and captured traffic do not."""
    assert files.load().listeners[0].body_bytes_max == {}
    files.edit("config.yaml", "bind: 127.0.0.1:8402", "bind: 0.0.0.0:8402")
    public, captured = files.load().listeners
    assert public.body_bytes_max["chat.completions"] == public.body_bytes_max["embeddings"] == 262_144
    assert captured.body_bytes_max == {}
    files.edit("config.yaml", "bind: 0.0.0.0:8402", "bind: 0.0.0.0:8402\n    body_bytes_max: {embeddings: 1048576}")
    widened = files.load().listeners[0].body_bytes_max
    assert (widened["embeddings"], widened["chat.completions"]) == (1_048_576, 262_144)


def test_body_cap_of_an_unknown_operation_is_refused(files: Files) -> None:
    """With the operation that was meant."""
    files.edit("config.yaml", "bind: 127.0.0.1:8402", "bind: 127.0.0.1:8402\n    body_bytes_max: {embedings: 2048}")
    (problem,) = files.problems()
    assert "listeners[0].body_bytes_max.embedings: 'embedings' is not one of chat.completions, " in problem
    assert problem.endswith("Did you mean 'embeddings'?")


def test_an_upstream_says_what_it_speaks_who_runs_it_and_how_it_is_probed(files: Files) -> None:
    """Chat and embeddings unless told otherwise, nobody's, and not probed."""
    files.edit(
        "config.yaml",
        "    key: ${GROQ_API_KEY}\n",
        "    key: ${GROQ_API_KEY}\n    operations: [chat.completions]\n    partner: gpu-one\n"
        "    probe: {path: /health, interval_seconds: 3}\n",
    )
    upstreams = files.load().keyless_upstreams
    assert (upstreams["openai"].operations, upstreams["openai"].partner, upstreams["openai"].probe) == (
        frozenset({"chat.completions", "embeddings"}),
        None,
        None,
    )
    groq = upstreams["groq"]
    assert (groq.operations, groq.partner) == (frozenset({"chat.completions"}), "gpu-one")
    assert groq.probe == Probe("/health", interval_seconds=3, timeout_seconds=5)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("operations: [chat]", "config.yaml:18:18: upstreams.groq.operations[0]: unknown operation"),
        ("operations: []", "config.yaml:18:17: upstreams.groq.operations: an upstream that serves no operation"),
        ("operations: [message]", "Did you mean 'messages'?"),
        ("partner: Some One", "config.yaml:18:14: upstreams.groq.partner"),
        ("probe: {path: health}", "config.yaml:18:19: upstreams.groq.probe.path"),
        ("probe: {intervall_seconds: 3}", "Did you mean 'interval_seconds'?"),
    ],
)
def test_what_an_upstream_cannot_be_is_reported_in_its_place(files: Files, line: str, told: str) -> None:
    """File, line, column and what was probably meant."""
    files.edit("config.yaml", "    key: ${GROQ_API_KEY}\n", f"    key: ${{GROQ_API_KEY}}\n    {line}\n")
    assert any(told in problem for problem in files.problems({"OPENAI_API_KEY": "sk-1"}))
