"""How deliveries are made, typed: what the plugin `webhooks` in config.yaml says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """See the plugin's settings for the meaning of each."""

    attempts_max: int = 7
    retry_seconds: float = 5.0
    timeout_seconds: float = 10.0
    at_once_max: int = 8
    pending_max: int = 1000
    development: bool = False
    allow_private: frozenset[str] = frozenset()
    ca_file: Path | None = None
