"""What ends a comparison, in words that say what to do next. No message holds a secret or an answer."""

from __future__ import annotations


class EvaluationError(Exception):
    """It cannot be done, or not go on."""


class BadQuestions(EvaluationError):
    """The file of questions cannot be used; the message names file and line."""


class BadPlan(EvaluationError):
    """The plan cannot be used, or is not the one that the results were made by."""


class BadJournal(EvaluationError):
    """The journal is damaged before its last line."""


class Stopped(EvaluationError):
    """The address cannot be reached, or refuses us as a whole. What was answered is kept."""
