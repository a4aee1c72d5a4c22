"""GET /.well-known/l402: what can be bought here and how it is paid for, for agents, from the live configuration."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from proxy import __version__
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.exchange import Exchange
from proxy.operation_table import PUBLIC
from proxy.payments.asking import public_url
from proxy.payments.rails import Rails
from proxy.payments.settings import Payments
from proxy.pricing.money import NANO_PER_USDC, Nano, usd_text

_FREE = (
    ("POST", "/v1/estimate-cost", "what a request would cost"),
    ("GET", "/v1/models", "the models that can be asked for"),
    ("POST", "/api/invoice/status", "whether a Lightning invoice is paid"),
    ("GET", "/v1/payments/{id}", "what became of a payment; show its proof"),
    ("POST", "/v1/payments/refund", "an unused payment as a balance; show its proof"),
)
_BALANCE = ("POST", "/v1/balance", "buy, top up, poll and look at a prepaid balance")


def add(routes: APIRouter, rails: Rails, seconds: int) -> None:
    """Add the endpoint."""

    @routes.get("/.well-known/l402")
    async def discovery(request: Request) -> Response:
        """Name, endpoints, rails with their parameters, and how prices are made."""
        exchange: Exchange = request.scope[EXCHANGE]
        answer = json_answer(_document(exchange, rails))
        answer.headers["cache-control"] = f"public, max-age={seconds}"
        return answer


def _document(exchange: Exchange, rails: Rails) -> dict[str, Any]:
    settings, generation = rails.settings, exchange.generation
    described = _rails(settings)
    served = {operation for model in generation.models.values() for operation in model.operations}
    free = (*_FREE, _BALANCE) if "balance" in described else _FREE
    return {
        "name": generation.owner,
        "description": settings.description or "LLM inference, pay-per-request: no accounts, no API keys.",
        "version": __version__,
        "url": public_url(exchange, settings),
        "endpoints": [
            {"method": method, "path": known.template, "priced": True, "rails": list(described)}
            for known in PUBLIC
            if known.operation.priced and known.operation.name in served
            for method in known.methods
        ]
        + [{"method": method, "path": path, "priced": False, "description": text} for method, path, text in free],
        "rails": described,
        "pricing": _pricing(rails),
    }


def _rails(settings: Payments) -> dict[str, Any]:
    """Those that are on, in the order of the 402."""
    found: dict[str, Any] = {}
    if settings.l402 is not None and settings.lightning is not None:
        found["l402"] = {
            "header": "Authorization: L402 <macaroon>:<preimage>",
            "network": "lightning",
            "unit": "sat",
            "min": settings.l402.sats_min,
            "expires_seconds": settings.l402.seconds,
        }
    if settings.mpp is not None and settings.lightning is not None:
        found["mpp"] = {
            "header": "Authorization: Payment <credential>",
            "method": "lightning",
            "intent": "charge",
            "realm": settings.mpp.realm,
        }
    if settings.x402 is not None:
        found["x402"] = _x402(settings)
    if settings.cashu is not None:
        found["cashu"] = {
            "header": "X-Cashu: cashuB...",
            "unit": "sat",
            "min": settings.cashu.sats_min,
            "mints": [mint.url for mint in settings.cashu.mints],
            "proofs_max": settings.cashu.proofs_max,
            "streaming": False,
        }
    if settings.balance is not None:
        balance = settings.balance
        found["balance"] = {
            "header": "Authorization: Bearer bal_...",
            "url": _BALANCE[1],
            "min_sats": balance.sats_min,
            "max_sats": balance.sats_max,
            "charge_min_sats": balance.charge_sats_min,
            "idle_days": balance.idle_days,
            "days": balance.days,
        }
    return found


def _x402(settings: Payments) -> dict[str, Any]:
    x402 = settings.x402
    if x402 is None:
        return {}
    return {
        "header": "Payment-Signature",
        "x402Version": 2,
        "scheme": "exact",
        "payTo": x402.pay_to,
        "assets": [
            {
                "network": asset.network,
                "asset": asset.address,
                "decimals": asset.decimals,
                "extra": {"name": asset.name, "version": asset.version},
            }
            for asset in x402.assets
        ],
        "min_usd": usd_text(Nano(x402.usdc_min * NANO_PER_USDC)),
        "v1": x402.v1,
    }


def _pricing(rails: Rails) -> dict[str, Any]:
    rate = rails.nano_per_btc
    return {
        "model": "per request: the counted input and the whole max_tokens, at the model's rates; of a panel its price",
        "unit": "sat",
        "btc_usd": None if rate is None else usd_text(Nano(rate)),
        "surcharge_percent": str(rails.settings.surcharge_percent),
        "surcharge_usd": usd_text(rails.settings.surcharge),
        "estimate": "/v1/estimate-cost",
        "models": "/v1/models",
    }
