"""Whether a mode's budget can hold a question's smallest run at all, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from proxy.consensus.context import Run
from proxy.consensus.prompting import member_spec, synthesis_spec
from proxy.consensus.seating import expected, seats_for, synthesisers_for
from proxy.consensus.settings import Mode, Seat
from proxy.errors import Refusal
from proxy.pricing.money import Nano, usd_text

OUTPUT_TOKENS_MIN: Final = 16
"""An answer shorter than this is not suggested."""


def check_budget(run: Run) -> None:
    """Raises Refusal `invalid_request` or `context_length_exceeded`."""
    seats = seats_for(run.question, run.mode.seats)
    if not seats:
        raise Refusal(
            "invalid_request",
            f"Nobody on the panel {run.mode.name} sees images. Leave them out, or ask a model that does.",
            param="messages",
        )
    needed = smallest(run)
    if needed is None:
        raise Refusal(
            "context_length_exceeded",
            f"Too few members of the panel {run.mode.name} can take this conversation: it is too long for them. "
            "Shorten it, or ask another mode.",
            param="messages",
        )
    if needed > run.budget.room():
        raise _too_dear(run, needed)


def smallest(run: Run, *, reused: frozenset[str] = frozenset()) -> Nano | None:
    """What the cheapest quorum of answers (those of the `reused` seats are there already) and the final answer can
    cost at most. None where too few seats, or no synthesiser, can take the question."""
    quorum = _quorum(run, reused)
    return None if quorum is None else quorum.cost()


def _quorum(run: Run, reused: frozenset[str]) -> _Smallest | None:
    seats = seats_for(run.question, run.mode.seats)
    fence = run.fence()
    bounds = {
        seat.name: bound
        for seat in seats
        if seat.name not in reused and (bound := run.budget.bound(member_spec(run, seat, fence))) is not None
    }
    there = [seat for seat in seats if seat.name in reused]
    able = sorted((seat for seat in seats if seat.name in bounds), key=lambda seat: bounds[seat.name])
    quorum = min(run.mode.quorum, len(seats))
    chosen = _cheapest(able, max(0, quorum - len(there)), run.mode, {seat.vendor for seat in there})
    if len(chosen) + len(there) < quorum:
        return None
    return _Smallest(run, (*there, *chosen), Nano(sum(bounds[seat.name] for seat in chosen)))


@dataclass(frozen=True, slots=True)
class _Smallest:
    """The cheapest quorum, and what its answers can cost."""

    run: Run
    seats: tuple[Seat, ...]
    members: Nano

    def cost(self) -> Nano | None:
        """With the final answer; None where nobody can write it."""
        run, material = self.run, expected(self.run, self.seats)
        for seat in synthesisers_for(run.question, run.mode):
            bound = run.budget.bound(synthesis_spec(run, seat, material, run.fence()))
            if bound is not None:
                return Nano(self.members + bound)
        return None


def _cheapest(able: Sequence[Seat], count: int, mode: Mode, vendors: set[str]) -> list[Seat]:
    """`count` of these, cheapest first, so that the vendors needed are among them as far as there are so many."""
    chosen: list[Seat] = []
    left = list(able)
    while left and len(chosen) < count:
        wanted = mode.vendors_min - len(vendors)
        other = next((seat for seat in left if seat.vendor not in vendors), None)
        seat = other if other is not None and wanted >= count - len(chosen) else left[0]
        left.remove(seat)
        chosen.append(seat)
        vendors.add(seat.vendor)
    return chosen


def _too_dear(run: Run, needed: Nano) -> Refusal:
    """What it would take, and the nearest thing that can be done about it."""
    question, room = run.question, run.budget.room()
    said = (
        f"The smallest run of this question on the panel {run.mode.name} can cost ${usd_text(needed, places=4)}, and "
        f"${usd_text(room, places=4)} is the most that it may."
    )
    details = {"needed_usd": usd_text(needed), "budget_usd": usd_text(room)}
    tokens = _affordable_tokens(run)
    if tokens >= OUTPUT_TOKENS_MIN:
        return Refusal(
            "invalid_request",
            f"{said} Set max_tokens to {tokens} or less (it is {question.output_tokens}), or ask a dearer mode.",
            param="max_tokens",
            details=details,
        )
    return Refusal(
        "context_length_exceeded",
        f"{said} Shorten the conversation, or ask a dearer mode.",
        param="messages",
        details=details,
    )


def _affordable_tokens(run: Run) -> int:
    """The longest final answer whose run fits; 0 where even the shortest does not."""
    asked, quorum = run.question, _quorum(run, frozenset())
    low, high = 0, asked.output_tokens
    while quorum is not None and low < high:
        middle = (low + high + 1) // 2
        run.question = replace(asked, output_tokens=middle)
        needed = quorum.cost()
        low, high = (middle, high) if needed is not None and needed <= run.budget.room() else (low, middle - 1)
    run.question = asked
    return low
