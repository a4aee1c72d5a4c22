"""A whole proxy beside scripted providers: what end-to-end tests stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.certificates import write_ca_file
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY, ScriptedProvider
from tests.support.gateway import GatewayProcess, write_folder

ROUTING: dict[str, Any] = {
    "backoff_milliseconds": 1,
    "circuit_failures": 100_000,
    "circuit_failure_percent": 101,
    "circuit_retry_after_seconds_max": 0,
}
"""No circuit opens: most tests script one failure after the other at the same upstream."""

CHAIN: list[str | dict[str, Any]] = [
    "audit",
    "cors",
    "ip_limit",
    "identity",
    "catalogue",
    "team_policy",
    "content_rules",
    "key_limit",
    "byo",
    "cost_preview",
    "pricing",
    "spend_caps",
    {"routing": ROUTING},
    "metering",
]
WIDE = {"requests": {"per_minute": 1_000_000, "burst": 100_000}}
LIMITS: dict[str, Any] = {"ip": WIDE, "key": WIDE, "user": WIDE, "team": WIDE, "total_streams": 10_000}
DEADLINES: dict[str, float] = {"connect_seconds": 2, "first_byte_seconds": 2, "idle_seconds": 2, "total_seconds": 30}
GPT_4O_PRICE = {"input": "2.50", "output": "10", "cached_input": "1.25"}

MODELS: dict[str, Any] = {
    "demo": {
        "candidates": ["demo"],
        "price": {"input": "0", "output": "0"},
        "context": 8192,
        "open": True,
        "operations": ["chat.completions", "messages", "embeddings", "responses"],
    },
    "gpt-4o": {
        "candidates": ["openai"],
        "price": GPT_4O_PRICE,
        "context": 128_000,
        "output_default": 1000,
        "output_max": 16_384,
        "encoding": "o200k_base",
        "image_tokens_max": 1500,
    },
    "gpt-5": {
        "candidates": ["openai"],
        "price": {"input": "1.25", "output": "10", "cached_input": "0.125"},
        "context": 400_000,
        "output_default": 1000,
        "output_max": 128_000,
        "operations": ["chat.completions", "responses"],
        "encoding": "o200k_base",
        "image_tokens_max": 1500,
    },
    "fallback": {
        "candidates": [{"upstream": "dead", "model": "gpt-4o"}, {"upstream": "openai", "model": "gpt-4o"}],
        "price": GPT_4O_PRICE,
        "context": 128_000,
        "output_max": 16_384,
    },
    "dead-end": {
        "candidates": ["dead"],
        "price": GPT_4O_PRICE,
        "context": 128_000,
    },
    "pro-only": {
        "candidates": [{"upstream": "openai", "model": "gpt-4o"}],
        "price": GPT_4O_PRICE,
        "context": 128_000,
        "tiers": ["pro"],
    },
    "text-embedding-3-small": {
        "candidates": ["openai"],
        "price": {"input": "0.02"},
        "context": 8191,
        "operations": ["embeddings"],
        "encoding": "cl100k_base",
    },
    "claude-sonnet": {
        "candidates": [{"upstream": "anthropic", "model": "claude-sonnet-4-6"}],
        "price": {"input": "3", "output": "15", "cached_input": "0.30", "cache_write": "3.75", "cache_write_1h": "6"},
        "context": 200_000,
        "output_default": 1000,
        "output_max": 64_000,
        "operations": ["messages"],
    },
}
TIERS: dict[str, Any] = {"standard": WIDE, "pro": WIDE}
TEAMS: dict[str, Any] = {
    "organisations": {"acme": {}},
    "teams": {"default": {"organisation": "acme", "tier": "standard"}},
}
CAPTURE: dict[str, Any] = {
    "openai": {
        "hosts": ["api.openai.com"],
        "upstream": "openai",
        "credential_headers": ["authorization"],
        "base_path": "/v1",
        "paths": {
            "/chat/completions": "chat.completions",
            "/responses": "responses",
            "/embeddings": "embeddings",
            "/models": "models",
        },
    },
    "anthropic": {
        "hosts": ["api.anthropic.com"],
        "upstream": "anthropic",
        "credential_headers": ["x-api-key", "authorization"],
        "base_path": "/v1",
        "paths": {"/messages": "messages", "/models": "models"},
    },
}


@dataclass(slots=True)
class World:
    """A running proxy and the provider behind it."""

    gateway: GatewayProcess
    provider: ScriptedProvider
    ca_file: Path

    @property
    def base_url(self) -> str:
        """For an SDK's base_url."""
        return f"{self.gateway.url('api')}/v1"

    @property
    def proxy_ca(self) -> Path:
        """What a client of the regular listener must trust."""
        return self.gateway.folder / "var" / "ca" / "mitmproxy-ca-cert.pem"


def upstreams(provider: ScriptedProvider, ca_file: Path, deadlines: Mapping[str, float] = DEADLINES) -> dict[str, Any]:
    """OpenAI and Anthropic at the scripted provider, names and certificates verified; one that is dead."""
    address = f"{provider.host}:{provider.port}"
    shared = {"connect_to": address, "ca_file": str(ca_file), "deadlines": dict(deadlines)}
    return {
        "demo": {
            "base_url": "builtin:demo",
            "keyless": True,
            "operations": ["chat.completions", "embeddings", "messages", "responses"],
        },
        "openai": {
            "base_url": "https://api.openai.com/v1",
            "key": "${OPENAI_API_KEY}",
            "operations": ["chat.completions", "embeddings", "responses"],
            **shared,
        },
        "anthropic": {
            "base_url": "https://api.anthropic.com/v1",
            "key": "${ANTHROPIC_API_KEY}",
            "credential_header": "x-api-key",
            "credential_scheme": "",
            "headers": {"anthropic-version": "2023-06-01"},
            "operations": ["messages", "chat.completions"],
            **shared,
        },
        "dead": {"base_url": "http://127.0.0.1:9/v1", "keyless": True, "deadlines": dict(deadlines)},
    }


@contextmanager
def world(
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    policies: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    listeners: Mapping[str, Mapping[str, Any]] | None = None,
    deadlines: Mapping[str, float] = DEADLINES,
    more_upstreams: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[World]:
    """A proxy with provider, `config` and `policies` replacing parts of the usual ones."""
    ca_file = write_ca_file(folder)
    with ScriptedProvider(tls=True) as provider:
        entries = {
            "api": {"kind": "reverse", "bind": "127.0.0.1:0"},
            "capture": {"kind": "regular", "bind": "127.0.0.1:0"},
            "admin": {"kind": "admin", "bind": "127.0.0.1:0"},
        }
        for name, changes in (listeners or {}).items():
            entries[name] = {**entries.get(name, {}), **changes}
        whole = {
            "listeners": [{"name": name, **entry} for name, entry in entries.items()],
            "chain": CHAIN,
            "upstreams": {**upstreams(provider, ca_file, deadlines), **(more_upstreams or {})},
            **(config or {}),
        }
        files = {
            "models": {"models": MODELS},
            "tiers": {"tiers": TIERS},
            "teams": TEAMS,
            "limits": LIMITS,
            "capture": {"capture": CAPTURE},
            **(policies or {}),
        }
        write_folder(folder, config=whole, policies=files)
        keys = {"OPENAI_API_KEY": OPENAI_KEY, "ANTHROPIC_API_KEY": ANTHROPIC_KEY, **(environment or {})}
        with GatewayProcess(folder, environment=keys) as gateway:
            yield World(gateway, provider, ca_file)
