"""What each candidate costs by policies/models.yaml beside what its provider publishes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.schema import Generation
from proxy.pricing.published import published_at
from proxy.pricing.rates import KINDS, Rates, rate_text

SAME: Final = "same"
DIFFERS: Final = "differs"
NOT_FOUND: Final = "not_found"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One candidate of one model. `differences` are (rate, ours, published), in dollars per million tokens."""

    model: str
    upstream: str
    upstream_model: str
    source: str
    state: str
    published_as: str = ""
    differences: tuple[tuple[str, str, str], ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.model,
            "upstream": self.upstream,
            "upstream_model": self.upstream_model,
            "source": self.source,
            "state": self.state,
            "published_as": self.published_as,
            "differences": [{"rate": rate, "ours": ours, "published": p} for rate, ours, p in self.differences],
        }


def comparisons(generation: Generation, at_ms: int) -> Iterator[Comparison]:
    """Every candidate at a provider: lanes and panels are their members', partners publish nothing, the demo is free.

    Compared is the list cost, so that a price that callers are charged beside it may be what it likes.
    """
    seen: set[str] = set()
    for model in generation.catalogue.values():
        if model.lane or model.panel is not None or model.name in seen:
            continue
        seen.add(model.name)
        for candidate in model.candidates:
            upstream, rates = generation.upstream(candidate.upstream), model.list_rates(candidate)
            if upstream is None or upstream.partner is not None or rates is None or rates.free:
                continue
            found = published_at(upstream.base_url, candidate.upstream_model, at_ms)
            who = (model.name, candidate.upstream, candidate.upstream_model, rates.source)
            if found is None:
                yield Comparison(*who, NOT_FOUND)
                continue
            reference, theirs = found
            different = tuple(differences(rates, theirs, generates=bool(model.operations - {"embeddings"})))
            yield Comparison(*who, DIFFERS if different else SAME, reference, different)


def differences(ours: Rates, theirs: Rates, *, generates: bool) -> Iterator[tuple[str, str, str]]:
    """Each rate that is not the same, below and within every band of either; without `generates` those of the input."""
    kinds = [kind for kind in KINDS if generates or kind not in ("output", "reasoning", "audio_output")]
    starts = sorted({band.above_input_tokens for rates in (ours, theirs) for band in rates.bands})
    for start in (None, *starts):
        at = 0 if start is None else start + 1
        mine, published = ours.at(at), theirs.at(at)
        for kind in kinds:
            if mine.kind(kind) != published.kind(kind):
                where = "" if start is None else f" above {start}"
                yield f"{kind}{where}", rate_text(mine.kind(kind)), rate_text(published.kind(kind))


def kinds_text(rates: Rates) -> dict[str, str]:
    """Dollars per million tokens as exact text; kinds without a rate of their own are left out."""
    return {kind: rate_text(rate) for kind in KINDS if (rate := getattr(rates, kind)) is not None}
