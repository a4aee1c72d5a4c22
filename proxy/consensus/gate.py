"""The last look at a final answer, without a call: does it say what the panel came to, and fit its schema."""

from __future__ import annotations

from fractions import Fraction

from proxy.consensus.finals import Final
from proxy.consensus.panel import Panel
from proxy.consensus.refusals import refuses
from proxy.consensus.typed import Kind, extracted, same

PASSED = "passed"
FAILED = "failed"
REPLACED = "replaced"


def passes(panel: Panel, final: Final) -> bool:
    """Whether the final answer may stand: it is no refusal where members answered, and its result is that of the
    panel's majority, or of the answer that its judges put first. Where there is neither, or it has no result to
    compare, it may. Objects are compared with a majority's alone: two that are written by different models are seldom
    the same.
    """
    if not final.fits:
        return False
    if final.tool_calls:
        return True
    if final.draft is None and refuses(final.text):
        return False
    said = extracted(final.text) if final.draft is None else final.draft.reading.answer
    if said.kind is Kind.OPEN:
        return True
    leader = panel.tally().leader
    leading = [leader.answer] if leader is not None and leader.share > Fraction(1, 2) else []
    if panel.ballots and (first := panel.ranked()[0].reading.answer).kind is not Kind.JSON:
        leading.append(first)
    comparable = [answer for answer in leading if answer.kind is not Kind.OPEN]
    return not comparable or any(same(said, answer) for answer in comparable)
