"""A configuration in which keys of customers can be registered, and what is registered under it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.byo import Wanted, new_key
from proxy.catalogue import Candidate
from proxy.config.schema import Byo, Generation
from proxy.pricing.rates import Rates, parse_rate
from proxy.upstreams.api import Upstream
from tests.support.fakes import generation, model

SECRET = "sk-customer-0123456789abcdef-CANARY"
OPENAI = Upstream(
    "openai",
    "https://api.openai.com/v1",
    "sk-operator",
    headers=(("openai-organization", "org-operator"), ("openai-beta", "assistants=v2")),
    output_field="max_completion_tokens",
    operations=frozenset({"chat.completions", "embeddings"}),
    partner=None,
)
LIST = Rates(input=parse_rate("2"), output=parse_rate("8"))


def configured(*, keys: tuple[str, ...] | None = None, upstream: Upstream = OPENAI, **rules: Any) -> Generation:
    """Two teams' proxy with one encryption key, and gpt-4o at openai in the catalogue."""
    known = model("gpt-4o", candidates=(Candidate("openai", "gpt-4o", LIST),), context_tokens=128_000)
    made = generation(models={"gpt-4o": known})
    byo = Byo(keys=(new_key(),) if keys is None else keys, upstreams=("openai",), **rules)
    return replace(made, upstreams={"openai": upstream}, byo=byo)


def wanted(under: Generation, **changes: Any) -> Wanted:
    """byo-gpt at the configured openai."""
    fields: dict[str, Any] = {"alias": "byo-gpt", "model": "gpt-4o", "secret": SECRET, "upstream": "openai"}
    fields |= changes
    if "base_url" in changes:
        fields["upstream"] = None
    return Wanted.parse(under, **fields)
