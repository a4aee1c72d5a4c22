"""Who sits on a panel when not everybody can be called."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.consensus.settings import Price
from proxy.errors import Refusal
from proxy.panels import filled, members, mode_of, model_name, run_price, seated, seated_modes, shortage, vendors
from proxy.pricing.money import Nano
from tests.support.panels import consensus, mode, panel_model, seat


def test_a_models_name_leads_to_its_mode_and_back() -> None:
    """`auto` where there is one, and nothing else."""
    known = consensus(mode("fast"), mode("deep"), auto=("fast", "deep"))
    for name in ("fast", "deep", "auto"):
        assert mode_of(known, model_name(known, name)) == name
    for wrong in ("fast", "consensus-", "consensus-slow", "gpt-4o"):
        with pytest.raises(KeyError):
            mode_of(known, wrong)
    with pytest.raises(KeyError):
        mode_of(consensus(mode("fast")), "consensus-auto")


def test_a_spare_of_another_vendor_comes_first() -> None:
    """And is no spare any more."""
    panel = mode(spares=(seat("d", "a"), seat("e")))
    found = filled(panel, {"a", "c", "d", "e"})
    assert [one.name for one in found.seats] == ["a", "e", "c"]
    assert [one.name for one in found.spares] == ["d"]
    assert [one.name for one in found.synthesisers] == ["a"]


@given(st.sets(st.sampled_from("abcde")))
def test_nobody_sits_who_cannot_be_called(callable_models: set[str]) -> None:
    """No seat twice, quorum and vendors as they were; with everybody there nothing changes."""
    panel = mode(spares=(seat("d", "a"), seat("e")))
    found = filled(panel, callable_models)
    everybody = [*found.seats, *found.spares]
    assert {one.model for one in (*everybody, *found.synthesisers)} <= callable_models
    assert len({one.name for one in everybody}) == len(everybody)
    assert len(found.seats) == min(3, len(callable_models & set("abcde")))
    assert (found.quorum, found.vendors_min) == (panel.quorum, panel.vendors_min)
    assert filled(panel, set("abcde")) == panel
    if not shortage(found):
        assert len(found.seats) >= 2 and len(vendors(found.seats)) >= 2 and found.synthesisers


@pytest.mark.parametrize(
    ("callable_models", "said"),
    [
        ({"a"}, "1 of its members can be called, and it needs 2"),
        ({"a", "d"}, "its members are of 1 vendor, and it needs 2"),
        ({"b", "c"}, ""),
        ({"c", "e"}, "none of its synthesisers can be called"),
    ],
)
def test_what_is_lacking_is_said(callable_models: set[str], said: str) -> None:
    """The first of it."""
    assert shortage(filled(mode(spares=(seat("d", "a"), seat("e"))), callable_models)) == said


def test_rules_take_seats_out_and_never_lower_the_quorum() -> None:
    """What is left of the panel, or a refusal that names what it lacks."""
    model = panel_model(mode(spares=()))
    panel = model.panel
    assert panel is not None
    left = seated(panel, [one for one in model.candidates if one.model != "c"])
    assert [one.name for one in left.seats] == ["a", "b"]
    with pytest.raises(Refusal) as refused:
        seated(panel, [one for one in model.candidates if one.model == "c"])
    assert refused.value.code == "model_not_allowed"
    assert "1 of its members can be called, and it needs 2" in refused.value.message


def test_auto_is_seated_in_both_its_modes() -> None:
    """Any other mode in itself."""
    fast, deep = mode("fast"), mode("deep", seats=(seat("a"), seat("e")), synthesisers=(seat("e"),))
    known = consensus(fast, deep, auto=("fast", "deep"))
    candidates = (*panel_model(fast).candidates, *panel_model(deep).candidates)
    assert seated_modes(known, "auto", candidates) == {"fast": fast, "deep": deep}
    assert seated_modes(known, "fast", candidates) == {"fast": fast}
    with pytest.raises(Refusal):
        seated_modes(known, "auto", panel_model(fast).candidates)


def test_a_run_is_listed_at_its_price() -> None:
    """Exact numbers, credits without needless zeros."""
    shown = run_price(mode(price=Price(Nano(350_000_000), 2500)))
    assert orjson.dumps(shown) == b'{"usd":0.35,"credits":2.5,"input_tokens_max":500}'
    assert orjson.dumps(run_price(mode(price=Price(Nano(0), 20_000)))["credits"]) == b"20"
    assert members(mode(seats=(seat("a"), seat("a#2")))) == ["a", "a"]
