"""What a run tells of itself."""

from __future__ import annotations

import pytest

from proxy.consensus.api import Role, Severity
from tests.consensus.test_deliberation import CLAIMS, SCORES, SPLIT, by, checks
from tests.consensus.test_deliberation import script as judged_script
from tests.consensus.test_engine import EIGHTEEN, OPEN, TWENTY, script, sound
from tests.support.scripted_panels import Says, balanced, consensus, deep, mode, said, seat, watch

AGREED = dict.fromkeys(("one", "two", "three"), EIGHTEEN)


def test_usage_is_the_sum_over_all_calls() -> None:
    """By role, cancelled and failed ones among them."""
    members = {"one": OPEN, "two": OPEN, "three": Says("word " * 10, 30, first=1)}
    watched = sound(watch(judged_script(members), consensus(balanced())))
    usage = watched.named("usage")[0]
    records = watched.calls.records
    assert usage["calls"] == len(records)
    assert usage["input_tokens"] == sum(record.input_tokens for record in records)
    assert usage["output_tokens"] == sum(record.output_tokens for record in records)
    assert usage["by_role"]["member"]["calls"] == 3
    assert set(usage["by_role"]) == {"member", "judge", "synthesis"}


def test_quality_is_told_as_the_result_has_it() -> None:
    """One truth, on the stream and whole."""
    watched = sound(watch(script({"one": EIGHTEEN, "two": EIGHTEEN, "three": TWENTY})))
    told, result = watched.named("quality")[0], watched.done
    assert told["score"] == result.quality.score
    assert told["confidence"] == result.confidence.value
    assert told["dissent"] == [{"position": "20", "members": 1}]
    assert (told["source"], told["gate"], told["basis"]) == ("typed_agreement", "passed", "agreement")


def test_full_agreement_scores_higher_than_a_split() -> None:
    """And is surer."""
    whole = watch(script(AGREED)).done
    split = watch(script(SPLIT)).done
    assert whole.quality.score > split.quality.score
    assert (whole.agreement, whole.dissent) == (1.0, ())
    assert split.confidence is Severity.LOW


def test_seats_of_one_family_agree_with_themselves_only() -> None:
    """Which counts as half for the score: nobody else has been asked."""
    seats = (seat("one"), seat("one#2"), seat("one#3"))
    alone = sound(
        watch(script(dict.fromkeys(("one", "one#2", "one#3"), OPEN)), consensus(mode(seats=seats, vendors_min=1)))
    )
    assert alone.done.quality.score <= 50
    assert alone.done.effective_votes == 1


def test_effective_votes_count_families() -> None:
    """Three with correlated errors are worth 1.67."""
    assert watch(script(AGREED)).done.effective_votes == pytest.approx(3 / 1.8, abs=1e-3)


def test_contradiction_that_nobody_resolves_caps_the_score() -> None:
    """At the configured height, however well judges score."""
    panel = consensus(deep(refine_rounds_max=0))
    best = dict.fromkeys(SCORES, 10.0)
    unsettled = watch(judged_script(CLAIMS, judge=by(best, "contradicted"), check=Says("", fails="broken")), panel)
    assert unsettled.done.quality.score <= 70
    settled = watch(judged_script(CLAIMS, judge=by(best, "supported"), check=checks("supported")), panel)
    assert settled.done.quality.score > 70


def test_claims_that_nobody_supports_are_reported() -> None:
    """As not verified."""
    panel = consensus(balanced())
    members = {
        "one": said("First.", claims=["The bridge was built in 1931."]),
        "two": said("Second.", claims=["The tower has ninety floors."]),
        "three": said("Third."),
    }
    watched = sound(watch(judged_script(members, judge=by(SCORES, "unsure")), panel))
    assert set(watched.done.unverified_claims) == {"The bridge was built in 1931.", "The tower has ninety floors."}


def test_members_are_reported_in_the_order_of_their_seats() -> None:
    """With label, model, vendor and time."""
    watched = watch(script(AGREED), consensus(mode()))
    assert [(one.label, one.model, one.vendor, one.seconds) for one in watched.done.members] == [
        ("A", "one", "one-vendor", 1.0),
        ("B", "two", "two-vendor", 1.0),
        ("C", "three", "three-vendor", 1.0),
    ]
    assert {record.role for record in watched.calls.records} == {Role.MEMBER}


def test_result_that_nobody_gave_has_no_agreement() -> None:
    """However well the members agree on another one."""
    ran = sound(watch(script(AGREED, writer=Says("The answer is 99.")), consensus(mode(early_exit=False)))).done
    assert (ran.agreement, ran.confidence, ran.gate) == (0.0, Severity.LOW, "failed")


def test_answers_without_anything_to_compare_say_nothing_of_quality() -> None:
    """Prose without claims and without judges: neither agreement nor dissent, and no confidence."""
    members = {"one": Says("Use a queue."), "two": Says("Ask someone else."), "three": Says("It rains in Spain.")}
    ran = sound(watch(script(members))).done
    assert (ran.agreement, ran.quality.score, ran.confidence) == (0.5, 50.0, Severity.LOW)


def test_claims_that_merely_nobody_contests_make_no_high_confidence() -> None:
    """Each member speaks of something else: that is no agreement."""
    members = {
        name: said(f"Something of {name}.", claims=[f"The {name} tower is tall.", f"The {name} road is wet."])
        for name in ("one", "two", "three")
    }
    assert sound(watch(script(members))).done.confidence is Severity.MEDIUM
