"""Which rule decides: clocks that jump, paths that are spelled oddly, addresses, lanes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from proxy.catalogue import Candidate
from proxy.client_addresses import parse
from proxy.errors import CODES
from proxy.policy.callers import merged
from proxy.policy.known_as import provider_names
from proxy.policy.rules import Hours
from proxy.policy.verdicts import denied_address, denied_call, denied_path, denied_time, fits_path, hours_text, is_open
from tests.support.fakes import generation, model
from tests.support.panels import mode, panel_model
from tests.support.rules import WEEKDAYS, hours, scoped

BERLIN = "Europe/Berlin"
SATURDAY = frozenset({5})


def moment(text: str, zone: str = "UTC", *, second: bool = False) -> int:
    """Milliseconds of a time on the wall there; `second`: the later of two that read the same."""
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=int(second))
    return round(at.timestamp() * 1000)


def opened(window: Hours, *texts: str, zone: str = "UTC") -> list[bool]:
    return [is_open(window, moment(text, zone)) for text in texts]


def test_the_first_minute_is_inside_and_the_last_is_outside() -> None:
    """To the millisecond."""
    (window,) = hours("08:00", "18:00")
    assert opened(window, "2026-03-02T07:59:59.999", "2026-03-02T08:00", "2026-03-02T17:59:59.999") == [
        False, True, True,
    ]  # fmt: skip
    assert opened(window, "2026-03-02T18:00") == [False]


def test_a_day_ends_at_24_00() -> None:
    """And the whole week is open from 00:00 to 24:00."""
    (window,) = hours("00:00", "24:00", days=SATURDAY)
    assert opened(window, "2026-03-06T23:59", "2026-03-07T00:00", "2026-03-07T23:59", "2026-03-08T00:00") == [
        False, True, True, False,
    ]  # fmt: skip


def test_over_midnight_the_morning_belongs_to_the_day_before() -> None:
    """Friday night is open into Saturday, and the night from Thursday is not."""
    (window,) = hours("22:00", "06:00", days=frozenset({4}))
    assert opened(window, "2026-03-06T05:00", "2026-03-06T22:00", "2026-03-07T05:59", "2026-03-07T06:00") == [
        False, True, True, False,
    ]  # fmt: skip
    assert opened(window, "2026-03-07T22:30") == [False]


def test_sunday_night_goes_into_monday() -> None:
    """Over the end of the week."""
    (window,) = hours("23:00", "01:00", days=frozenset({6}))
    assert opened(window, "2026-03-08T23:30", "2026-03-09T00:59", "2026-03-09T23:30") == [True, True, False]


def test_equal_ends_are_a_whole_day() -> None:
    """From noon to noon."""
    (window,) = hours("12:00", "12:00", days=SATURDAY)
    assert opened(window, "2026-03-07T11:59", "2026-03-07T12:00", "2026-03-08T11:59", "2026-03-08T12:00") == [
        False, True, True, False,
    ]  # fmt: skip


def test_the_wall_clock_counts_on_the_day_that_loses_an_hour() -> None:
    """2026-03-29 in Berlin: 02:00 is 03:00. What lies in the lost hour alone does not come that day."""
    (lost,) = hours("02:10", "02:50", zone=BERLIN)
    (morning,) = hours("02:30", "04:00", zone=BERLIN)
    start = moment("2026-03-29T00:00", BERLIN)
    minutes = [start + minute * 60_000 for minute in range(23 * 60)]
    assert not any(is_open(lost, at) for at in minutes)
    assert [at for at in minutes if is_open(morning, at)] == [
        at for at in minutes if moment("2026-03-29T03:00", BERLIN) <= at < moment("2026-03-29T04:00", BERLIN)
    ]
    assert sum(is_open(lost, at + 86_400_000) for at in minutes) == 40


def test_the_wall_clock_counts_on_the_day_that_gains_an_hour() -> None:
    """2026-10-25 in Berlin: 02:00 to 03:00 comes twice, and is open both times."""
    (twice,) = hours("02:10", "02:50", zone=BERLIN)
    (until,) = hours("01:00", "02:30", zone=BERLIN)
    assert is_open(twice, moment("2026-10-25T02:15", BERLIN))
    assert is_open(twice, moment("2026-10-25T02:15", BERLIN, second=True))
    assert moment("2026-10-25T02:15", BERLIN, second=True) - moment("2026-10-25T02:15", BERLIN) == 3_600_000
    start = moment("2026-10-25T00:00", BERLIN)
    assert sum(is_open(twice, start + minute * 60_000) for minute in range(25 * 60)) == 80
    assert sum(is_open(until, start + minute * 60_000) for minute in range(25 * 60)) == 60 + 30 + 30


@pytest.mark.parametrize("edge", ["2026-03-29T01:00", "2026-10-25T01:00", "2026-06-01T08:00", "2026-06-01T18:00"])
def test_a_clock_moved_back_and_forth_is_judged_anew_each_time(edge: str) -> None:
    """Over a window's edge and over daylight saving: the same moment has the same verdict, whatever came before."""
    policy = merged([scoped("team", hours=hours("01:30", "18:00", zone=BERLIN))], "")
    at = moment(edge)
    times = [at + step for step in (0, -1, 1, -3_600_000, 3_600_000, -86_400_000, 86_400_000)]
    straight = {moment_ms: denied_time(policy, moment_ms) is None for moment_ms in sorted(times)}
    jumping = [*times, *reversed(times), *times[::2], *times[1::2]]
    assert [denied_time(policy, ms) is None for ms in jumping] == [straight[ms] for ms in jumping]


def test_every_scope_must_be_open() -> None:
    """Windows of one scope add up, those of two scopes intersect; the scope that is closed is named."""
    two = hours("08:00", "10:00") + hours("12:00", "14:00")
    policy = merged([scoped("team", "t", hours=two), scoped("key", "k", hours=hours("09:00", "13:00"))], "")

    def closed(text: str) -> str | None:
        denial = denied_time(policy, moment(f"2026-03-02T{text}"))
        return None if denial is None else denial.scoped.scope

    assert [closed(text) for text in ("08:30", "09:30", "11:00", "12:30", "13:30")] == [
        "key", None, "team", None, "key",
    ]  # fmt: skip


def test_a_closed_scope_says_when_it_is_open_and_what_time_it_is_there() -> None:
    """In its own zone."""
    policy = merged([scoped("team", "t", hours=hours("08:00", "18:00", days=WEEKDAYS, zone=BERLIN))], "")
    denial = denied_time(policy, moment("2026-03-07T11:30"))
    assert denial is not None
    assert "Mon, Tue, Wed, Thu, Fri 08:00-18:00 (Europe/Berlin)" in denial.message
    assert "Sat 12:30 in Europe/Berlin" in denial.message
    assert "team 't'" in denial.message
    refusal = denial.refusal()
    assert refusal.details == {"policy": {"scope": "team", "id": "t", "rule": "hours"}}
    assert (refusal.code, refusal.status) == ("policy_denied", CODES["policy_denied"].status)


def test_hours_read_like_hours() -> None:
    """For people."""
    assert hours_text(hours("00:00", "24:00")[0]) == "every day 00:00-24:00 (UTC)"


@pytest.mark.parametrize(
    ("pattern", "path", "path_model", "fits"),
    [
        ("/v1/embeddings", "/v1/embeddings", None, True),
        ("/v1/embeddings", "/v1/embeddings/small", "small", True),
        ("/v1/embeddings", "/v1/embeddings/vendor/small", "vendor/small", True),
        ("/v1/embeddings", "/v1/embeddings/small", None, False),
        ("/v1/embeddings/{model}", "/v1/embeddings/small", "small", True),
        ("/v1/embeddings/{model}", "/v1/embeddings", None, False),
        ("/v1/*", "/v1/embeddings", None, True),
        ("/v1/*", "/v1", None, False),
        ("/v1/files*", "/v1/files/abc", None, True),
        ("/v1/files*", "/v1/file", None, False),
        ("*", "/anything", None, True),
        ("/v1.0/x", "/v1a0/x", None, False),
        ("/openai/deployments/{model}/chat/completions", "/openai/deployments/My-4o/chat/completions", "My-4o", True),
        ("/openai/deployments/{model}/chat/completions", "/openai/deployments/a/embeddings", "a", False),
    ],
)
def test_paths_fit(pattern: str, path: str, path_model: str | None, fits: bool) -> None:
    """Exactly, with a model in them, or by their beginning."""
    assert fits_path(pattern, path, path_model) is fits


def path_verdict(path: str, **rules: tuple[str, ...]) -> str | None:
    """The rule against a path that the operation table does not know."""
    denial = denied_path(merged([scoped("team", **rules)], ""), path, known=False)
    return None if denial is None else denial.rule


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files", "/v1/files/", "/v1//files", "/V1/Files", "/v1/%66iles", "/v1/%2566iles", "/v1/x/../files",
        "/v1/./files", "/v1/files;x", "/v1\\files", "/v1/files%00", "/v1/files%3fx",
    ],
)  # fmt: skip
def test_a_denied_path_is_denied_in_every_spelling(path: str) -> None:
    """Whatever a provider may take it for."""
    assert path_verdict(path, paths_denied=("/v1/files",)) == "paths.deny /v1/files"


@pytest.mark.parametrize("path", ["/v1/models/../files", "/v1/models/%2e%2e/files", "/v1/models%2f..%2ffiles"])
def test_an_allowed_beginning_is_no_way_to_another_path(path: str) -> None:
    """Every reading must be allowed."""
    assert path_verdict(path, paths_allowed=("/v1/models*",)) == "paths.allow"
    assert path_verdict("/v1/models/gpt-4o", paths_allowed=("/v1/models*",)) is None


def test_a_path_that_cannot_be_read_is_denied_wherever_paths_are_ruled() -> None:
    """Encoded too often; without rules about paths nobody cares."""
    path = "/" + "%25" * 200 + "66"
    deep = "/%" + "25" * 40 + "66"
    assert path_verdict(deep, paths_denied=("/v1/files",)) is not None
    assert path_verdict(deep, paths_allowed=("/v1/files",)) == "paths.allow"
    assert path_verdict(deep) is None
    assert path_verdict(path, paths_allowed=("/v1/files",)) == "paths.allow"


def test_deny_wins_over_allow() -> None:
    """In one scope and between two."""
    assert path_verdict("/v1/a", paths_allowed=("/v1/*",), paths_denied=("/v1/a",)) == "paths.deny /v1/a"
    policy = merged([scoped("team", paths_denied=("/v1/a",)), scoped("key", paths_allowed=("/v1/a",))], "")
    denial = denied_path(policy, "/v1/a")
    assert denial is not None
    assert denial.scoped.scope == "team"


def test_ranges_of_two_scopes_intersect() -> None:
    """An address must lie in one of each; IPv4 in IPv6 clothes is IPv4."""
    policy = merged(
        [scoped("team", ip_ranges=("10.0.0.0/8", "2001:db8::/32")), scoped("key", ip_ranges=("10.1.0.0/16",))], ""
    )

    def refused(text: str) -> str | None:
        denial = denied_address(policy, parse(text))
        return None if denial is None else denial.scoped.scope

    assert [refused(text) for text in ("10.1.2.3", "::ffff:10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::1")] == [
        None, None, "key", "team", "key",
    ]  # fmt: skip


def test_an_unknown_address_lies_in_no_range() -> None:
    """Not even in the one of all addresses; without rules about addresses nobody asks."""
    assert denied_address(merged([scoped("team", ip_ranges=("0.0.0.0/0", "::/0"))], ""), None) is not None
    assert denied_address(merged([scoped("team", output_tokens_max=1)], ""), None) is None


def test_the_ranges_themselves_are_not_told() -> None:
    """The caller learns its own address alone."""
    denial = denied_address(merged([scoped("team", ip_ranges=("10.20.0.0/16",))], ""), parse("192.0.2.7"))
    assert denial is not None
    assert "192.0.2.7" in denial.message
    assert "10.20" not in denial.message


def test_a_denied_model_names_scope_rule_and_model() -> None:
    """403 with the member that names it."""
    policy = merged([scoped("team", "R-and-D", models_denied=("gpt-*",))], "")
    denial = denied_call(policy, model(), ("gpt-4o",))
    assert denial is not None
    assert denial.rule == "models.deny gpt-*"
    refusal = denial.refusal()
    assert (refusal.code, refusal.param) == ("model_not_allowed", "model")
    assert "Team 'R-and-D' may not call the model 'gpt-4o'" in refusal.message


def test_a_lane_is_denied_when_no_member_is_left() -> None:
    """One that is left is enough; routing leaves out the others."""
    members = tuple(Candidate("openai", name, model=name) for name in ("large", "small"))
    lane = model("auto", lane=True, candidates=members)

    def rule(*denied: str) -> str | None:
        denial = denied_call(merged([scoped("team", models_denied=denied)], ""), lane, ("auto",))
        return None if denial is None else denial.rule

    assert [rule("large"), rule("large", "small"), rule("auto")] == [None, "models.deny", "models.deny auto"]


def test_a_panel_is_denied_when_its_quorum_is_not_left() -> None:
    """By its own name like any model, or because rules take too many of its members."""
    panel = panel_model(mode(spares=()))

    def rule(*denied: str, allowed: tuple[str, ...] | None = None) -> str | None:
        scope = scoped("team", models_denied=denied, models_allowed=allowed)
        denial = denied_call(merged([scope], ""), panel, (panel.name,))
        return None if denial is None else f"{denial.rule}: {denial.message}"

    assert rule("c") is None
    assert rule(allowed=("consensus-fast",)) is None
    assert (rule("consensus-*") or "").startswith("models.deny consensus-*: ")
    assert (rule(allowed=("a", "b", "c")) or "").startswith("models.allow: ")
    assert "1 of its members can be called, and it needs 2" in (rule("a", "b") or "")
    assert "none of its synthesisers can be called" in (rule("a", "b", "d") or "") or rule("a", "b", "d")


def test_a_panel_is_no_name_of_a_providers_model() -> None:
    """A rule against a panel does not fall on its members asked for by themselves, with whatever key."""
    plain = model("a", candidates=(Candidate("at-a", "a"),))
    panel = panel_model()
    known = provider_names(generation(models={"a": plain, panel.name: panel}))
    assert known.of("at-a", "a") == {"a"}
    assert known.meant("a", None) == {"a"}
    assert known.meant(panel.name, None) == {panel.name}
