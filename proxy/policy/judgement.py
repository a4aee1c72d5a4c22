"""Would this call be served, as what, and which rule decides? For commands: the chain asks the same functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.catalogue import Model
from proxy.client_addresses import Address
from proxy.config.problems import near
from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.exchange import ListenerKind
from proxy.identities import Identity
from proxy.operation_table import OperationTable
from proxy.policy.callers import resolve
from proxy.policy.rules import ContentRule, Policy
from proxy.policy.verdicts import Denial, denied_address, denied_call, denied_path, denied_time, denied_unread
from proxy.text.filters import Refused, redacted
from proxy.text.matching import Matcher

ALLOW = "allow"
OWN_PREFIX = "byo-"
"""Models that customers register themselves; they are in no file."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A call in question. What is None is not judged."""

    identity: Identity
    model: str | None = None
    path: str | None = None
    at_ms: int | None = None
    address: Address | None = None
    max_tokens: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and what would be sent upstream in place of what was asked."""

    verdict: str
    """allow, or the code of the refusal."""
    message: str
    tier: str
    scope: str | None = None
    scope_id: str | None = None
    rule: str | None = None
    place: str | None = None
    """File and line of the rule."""
    max_tokens: int | None = None
    """The output limit; None: nobody sets one."""
    parameters: dict[str, Any] = field(default_factory=dict)
    system_prefix: str = ""
    text: str | None = None
    """The text as it would be sent."""


def judge(generation: Generation, ask: Ask) -> Judgement:
    """What the chain would say, in its order: the catalogue first, then the policy, then the content rules."""
    policy = resolve(generation, ask.identity)
    model = None if ask.model is None else generation.catalogue.get(ask.model)
    tier = ask.identity.tier
    refused = _by_catalogue(generation, ask, model)
    if refused is not None:
        return Judgement(*refused, tier)
    denial = _denial(policy, ask, model)
    if denial is not None:
        return _denied(denial, tier)
    text = ask.text
    if text is not None and policy.content:
        matcher = Matcher(tuple(rule for rule in policy.content if rule.requests))
        try:
            text = redacted(matcher, text, _nothing)
        except Refused as refusal:
            return _refused(policy, refusal.rule, tier)
    missing = generation.unavailable_models.get(ask.model or "")
    return Judgement(
        ALLOW,
        "Every rule lets this through." + (f" But nothing serves it here now: {missing}." if missing else ""),
        tier,
        max_tokens=_limit(policy, ask, model),
        parameters=policy.parameters,
        system_prefix=policy.system_prefix,
        text=text,
    )


def _by_catalogue(generation: Generation, ask: Ask, model: Model | None) -> tuple[str, str] | None:
    """Code and message of what the catalogue itself refuses."""
    if ask.model is None or (model is None and ask.model.startswith(OWN_PREFIX)):
        return None
    if model is None:
        meant = near(ask.model, generation.catalogue)
        hint = f" Did you mean '{meant}'?" if meant else ""
        return "model_not_available", f"There is no model '{ask.model}' in models.yaml.{hint}"
    if model.tiers and ask.identity.tier not in model.tiers:
        listed = ", ".join(sorted(model.tiers))
        return "model_not_in_tier", f"The tier {ask.identity.tier} cannot call '{ask.model}'. It is for {listed}."
    return None


def _denial(policy: Policy, ask: Ask, model: Model | None) -> Denial | None:
    denial = None
    if ask.at_ms is not None:
        denial = denied_time(policy, ask.at_ms)
    if denial is None and ask.address is not None:
        denial = denied_address(policy, ask.address)
    if denial is None and ask.path is not None:
        path_model, known = _known(ask.path)
        denial = denied_path(policy, ask.path, path_model=path_model, known=known)
        if denial is None and not known:
            denial = denied_unread(policy, ask.path)
    if denial is None and ask.model is not None:
        asked = model or Model(ask.model, (), None, 0, 0, 0, frozenset())
        denial = denied_call(policy, asked, (asked.name,))
    return denial


def _known(path: str) -> tuple[str | None, bool]:
    """The model that one of our own paths names, and whether it is one of them."""
    for method in ("POST", "GET"):
        try:
            return OperationTable().resolve(method, path, None, ListenerKind.REVERSE).model, True
        except Refusal as refusal:
            if refusal.code != "method_not_allowed":
                break
    return None, False


def _limit(policy: Policy, ask: Ask, model: Model | None) -> int | None:
    asked = ask.max_tokens
    limits = [policy.output_tokens_max]
    if model is not None:
        limits += [model.output_tokens_max, model.output_tokens_default if asked is None else asked]
    else:
        limits.append(asked)
    return min((limit for limit in limits if limit is not None), default=None)


def _denied(denial: Denial, tier: str) -> Judgement:
    scoped = denial.scoped
    place = scoped.place_of(denial.rule)
    return Judgement(denial.code, denial.message, tier, scoped.scope, scoped.scope_id, denial.rule, place)


def _refused(policy: Policy, rule: ContentRule, tier: str) -> Judgement:
    scoped = next(one for one in policy.scopes if rule in one.rules.content)
    return Judgement(
        "content_refused",
        f"The text has what the rule '{rule.name}' refuses.",
        tier,
        scoped.scope,
        scoped.scope_id,
        f"content {rule.name}",
        scoped.place_of("content"),
    )


def _nothing(_: ContentRule) -> None:
    """Matches are not counted here."""
