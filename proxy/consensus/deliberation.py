"""One mode's way from the question to what the panel thinks of it, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.consensus.answers import Members, ask
from proxy.consensus.checking import check
from proxy.consensus.claims import contested_share
from proxy.consensus.context import Run
from proxy.consensus.finals import Final, early
from proxy.consensus.panel import Draft, Panel
from proxy.consensus.refinement import converge


@dataclass(slots=True, eq=False)
class Deliberation:
    """What a mode came to."""

    panel: Panel
    members: Members
    final: Final | None = None
    """Typed answers agree: nothing needs to be written."""
    rounds: int = 0

    @property
    def quorum(self) -> bool:
        """Enough members answered."""
        return len(self.panel.drafts) >= self.members.wanted

    def agreed(self, run: Run) -> bool:
        """The panel is of one mind: `auto` needs no second mode."""
        if not self.quorum:
            return False
        if self.final is not None or self.panel.agreed_by is not None:
            return True
        open_ended = not self.panel.tally().positions
        share = contested_share(self.panel.claims)
        return open_ended and bool(self.panel.claims) and share <= run.consensus.rules.contested_share_max


async def deliberate(run: Run, reused: Mapping[str, Draft]) -> Deliberation:
    """Members' answers and, as far as the mode goes, their evaluation, refinement and checks. `reused`: seat -> a
    draft that another mode brought."""
    panel = Panel(run.consensus, run.detected.domain)
    found = Deliberation(panel, await ask(run, panel, reused))
    if not found.quorum:
        return found
    found.final = early(run, panel)
    if found.final is not None:
        panel.agreed_by = "typed_agreement"
        await run.tell("round", round=0, converged=True, reason=panel.agreed_by, agreement=round(panel.agreement(), 3))
        return found
    found.rounds = await converge(run, panel)
    found.final = early(run, panel)
    if found.final is None and run.mode.check_claims:
        await check(run, panel)
    return found
