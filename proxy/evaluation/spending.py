"""Cost and latency of the answers of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median

from proxy.evaluation.costs import nano_of
from proxy.evaluation.journal import OK, Entry
from proxy.pricing.money import Nano


@dataclass(frozen=True, slots=True)
class Spending:
    """Of the questions that it answered."""

    answers: int
    cut: int
    """Of them, those that the output limit cut."""
    priced: int
    """Of them, those whose cost is known."""
    cost: Nano | None
    """Of those, together. None: of none."""
    basis: str
    list_cost_each: Nano | None
    """What all calls of a panel cost at list, mean, where the gateway tells its operator."""
    seconds_median: float | None
    seconds_p95: float | None
    output_tokens_mean: float | None

    @property
    def cost_each(self) -> Nano | None:
        """Mean of the answers whose cost is known."""
        return None if self.cost is None else Nano(round(self.cost / self.priced))


def spending_of(model: str, entries: Mapping[str, Entry]) -> Spending:
    """Of the answers alone; what judging them cost is told apart."""
    own = [
        entry
        for key, entry in entries.items()
        if key.startswith("answer|") and key.endswith(f"|{model}") and entry.status == OK
    ]
    costs = [entry.cost for entry in own if entry.cost is not None]
    listed = [nano for entry in own if (nano := _listed(entry)) is not None]
    seconds = sorted(entry.seconds for entry in own if "replayed" not in entry.extra)
    return Spending(
        len(own),
        sum(entry.finish_reason == "length" for entry in own),
        len(costs),
        Nano(sum(costs)) if costs else None,
        " and ".join(sorted({entry.cost_basis for entry in own if entry.cost_basis})),
        Nano(round(fmean(listed))) if listed else None,
        median(seconds) if seconds else None,
        seconds[min(len(seconds) - 1, round(0.95 * (len(seconds) - 1)))] if seconds else None,
        fmean(entry.output_tokens for entry in own) if own else None,
    )


def _listed(entry: Entry) -> Nano | None:
    panel = entry.extra.get("consensus")
    return nano_of(panel.get("cost_usd")) if isinstance(panel, dict) else None
