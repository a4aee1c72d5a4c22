"""One run of a panel, from the question to the answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from random import Random

from proxy.consensus.api import Calls, Emit, Question, Result
from proxy.consensus.settings import Consensus


def fresh_nonce() -> str:
    """A fence's mark that nobody can guess."""
    return secrets.token_hex(8)


class Engine:
    """Runs panels. One per process and configuration: it holds the budget of hedges."""

    def __init__(
        self, consensus: Consensus, *, random: Random | None = None, nonce: Callable[[], str] = fresh_nonce
    ) -> None:
        self.consensus = consensus
        self._random = random or Random()  # noqa: S311 (no secret: which spare goes first)
        self._nonce = nonce

    def admit(self, question: Question, mode: str, calls: Calls) -> None:
        """Raises Refusal where the mode's budget cannot hold its smallest run, saying what it would take."""
        raise NotImplementedError

    async def run(self, question: Question, mode: str, calls: Calls, emit: Emit) -> Result:
        """Answer `question` with the panel of `mode` (a key of `Consensus.modes`, or "auto").

        Emits every event of `api.Event` but `accepted`, `done` and `error`, which are the wire's owner's: only it
        knows the request and what was charged. Raises RunFailed. Cancelled, it cancels every call and awaits their
        ends before CancelledError leaves.
        """
        raise NotImplementedError
