"""Whole answers that were paid for, kept for whoever shows the proof again. Inside the writer's transaction."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from proxy.ledger.payment_api import StoredAnswer

ANSWERS_PER_TRANSACTION_MAX: Final = 500


class PaidAnswers:
    """The table of answers, one a payment, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def keep(self, payment_row: int, answer: StoredAnswer, at_ms: int) -> None:
        """Keep what a payment bought."""
        headers = json.dumps(answer.headers)
        self._execute(
            "INSERT INTO paid_answers VALUES (?,?,?,?,?,?)",
            (payment_row, answer.request_digest, answer.status, headers, answer.body, answer.at_ms or at_ms),
        )

    def of(self, payment_row: int, request_digest: str) -> StoredAnswer | None:
        """What a payment bought, where it is kept and the request is the same."""
        row = self._execute(
            "SELECT request_digest, status, headers, body, at_ms FROM paid_answers"
            " WHERE payment=? AND request_digest=?",
            (payment_row, request_digest),
        ).fetchone()
        if row is None:
            return None
        digest, status, headers, body, at_ms = row
        pairs = tuple([(name, value) for name, value in json.loads(headers)])
        return StoredAnswer(digest, status, pairs, body, at_ms)

    def prune(self, before_ms: int) -> int:
        """Forget some of those older than that; says how many. Again until it says 0."""
        return self._execute(
            "DELETE FROM paid_answers WHERE payment IN (SELECT payment FROM paid_answers WHERE at_ms < ? LIMIT ?)",
            (before_ms, ANSWERS_PER_TRANSACTION_MAX),
        ).rowcount
