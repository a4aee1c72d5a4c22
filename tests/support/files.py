"""A folder with a whole, small configuration that a test changes before it loads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.config.load import load_generation
from proxy.config.problems import ConfigProblems
from proxy.config.schema import Generation

CONFIG = """\
listeners:
  - name: api
    kind: reverse
    bind: 127.0.0.1:8402
  - name: capture
    kind: regular
    bind: 127.0.0.1:8403
    default_team: research
chain:
  - identity
upstreams:
  openai:
    base_url: https://api.openai.com/v1
    key: ${OPENAI_API_KEY}
  groq:
    base_url: https://api.groq.com/openai/v1
    key: ${GROQ_API_KEY}
"""
MODELS = """\
models:
  small:
    aliases: [tiny]
    candidates: [openai]
    price: {input: 0.15, cached_input: 0.075, output: 0.60}
    context: 1000
    output_max: 500
  shared:
    candidates:
      - {upstream: groq, model: vendor/shared, cost: {input: 0.1, output: 0.2}}
      - openai
    price: {input: 1, output: 2}
    context: 8000
"""
TIERS = "tiers:\n  standard: {}\n  pro: {streams: 7, tokens_per_minute: null}\n"
TEAMS = """\
organisations:
  acme:
    caps:
      - {usd: 1000.50, window: month}
teams:
  research:
    organisation: acme
    tier: standard
    users:
      ann: {caps: [{usd: 0.000000001, window: day, basis: list, soft_percent: 80, clamp: true}]}
"""
LIMITS = """\
key: {requests: {per_minute: 120, burst: 25}, streams: 20, tokens_per_minute: 1000}
total_streams: 250
"""
CAPTURE = """\
capture:
  openai:
    hosts: [API.openai.com, "*.openai.example.com"]
    upstream: openai
    base_path: /v1
    paths:
      /chat/completions: chat.completions
"""


class Files:
    """The configuration folder under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "policies").mkdir()
        for name, text in {
            "config.yaml": CONFIG,
            "policies/models.yaml": MODELS,
            "policies/tiers.yaml": TIERS,
            "policies/teams.yaml": TEAMS,
            "policies/limits.yaml": LIMITS,
            "policies/capture.yaml": CAPTURE,
        }.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Replace a file."""
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the one place where `old` stands."""
        text = (self.root / name).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        self.write(name, text.replace(old, new))

    def append(self, name: str, text: str) -> None:
        """Add to the end of a file."""
        self.write(name, (self.root / name).read_text() + text)

    def load(self, environment: Mapping[str, str] | None = None) -> Generation:
        """Load it; the environment is empty unless given."""
        return load_generation(
            self.root / "config.yaml", environment=environment or {}, known_plugins=("identity", "cors")
        )

    def problems(self, environment: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong, each without the folder in front."""
        with pytest.raises(ConfigProblems) as raised:
            self.load(environment)
        return [str(problem).removeprefix(f"{self.root}/") for problem in raised.value.problems]
