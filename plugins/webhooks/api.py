"""/v1/webhooks/config and /v1/webhooks/test: one webhook a key. No answer holds the secret but the one that made it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from proxy.endpoints.access import keyholder
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.identities import Identity
from proxy.webhooks.api import EVENTS, DeliveryReport, WebhookConfig
from proxy.webhooks.service import Webhooks
from proxy.webhooks.targets import URL_CHARS_MAX

_SECRET_HINT: Final = "PUT /v1/webhooks/config with rotate_secret: true shows a new one, once"  # noqa: S105


class WebhookEntry(BaseModel):
    """What is to be configured, in the place of what was."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    url: str | None = Field(default=None, max_length=URL_CHARS_MAX)
    """https, public. None: only requests that name a webhook_url of their own are told of."""
    events: list[str] | None = Field(default=None, max_length=len(EVENTS))
    """None: all."""
    rotate_secret: bool = False
    """A new secret, shown once; the old one signs beside it for 24 h."""


def router(webhooks: Webhooks, log: Any) -> APIRouter:
    """All four endpoints, for the holder of a key of ours."""
    routes = APIRouter(dependencies=[Depends(_holder)])  # Before a body is looked into.

    @routes.get("/v1/webhooks/config")
    async def configured(request: Request) -> Response:
        """What is configured, and what became of the last deliveries."""
        found, recent = await webhooks.config(_holder(request).key_id)
        if found is None:
            raise _none()
        return json_answer({**_entry(found, None), "recent": [_delivery(one) for one in recent]})

    @routes.put("/v1/webhooks/config")
    async def configure(request: Request, body: WebhookEntry) -> Response:
        """Configure the URL and the events; `secret` is in the answer where it is new."""
        owner = _holder(request).key_id
        if body.url is not None:
            await webhooks.check(body.url, param="url")
        events = _events(body.events)
        made, secret = await webhooks.put(owner, body.url, events, rotate=body.rotate_secret)
        log.info("webhook_configured", owner=owner, has_url=body.url is not None, new_secret=secret is not None)
        answer = json_answer(_entry(made, secret))
        answer.headers["cache-control"] = "no-store"
        return answer

    @routes.delete("/v1/webhooks/config")
    async def remove(request: Request) -> Response:
        """Send nothing more to the configured URL. The secret stays, for what requests themselves name."""
        owner = _holder(request).key_id
        if not await webhooks.remove(owner):
            raise _none()
        log.info("webhook_removed", owner=owner)
        return json_answer({"object": "webhook.config", "deleted": True})

    @routes.post("/v1/webhooks/test")
    async def test(request: Request) -> Response:
        """Send a `webhook.test`: 202 with its id, which GET /v1/webhooks/config then tells more of."""
        event_id = await webhooks.test(_holder(request).key_id)
        if event_id is None:
            raise _none()
        return json_answer({"object": "webhook.delivery", "id": event_id, "status": "pending"}, 202)

    return routes


def _holder(request: Request) -> Identity:
    """Who holds one of our keys. Raises Refusal."""
    exchange: Exchange = request.scope[EXCHANGE]
    identity = keyholder(exchange)
    if identity is None:
        raise Refusal("invalid_api_key", "Send your Tollway key: 'Authorization: Bearer KEY'.")
    return identity


def _none() -> Refusal:
    return Refusal("not_found", "This key has no webhook, or it was switched off. PUT /v1/webhooks/config sets one.")


def _events(given: list[str] | None) -> tuple[str, ...]:
    """In the order in which we list them; none: all. Raises Refusal."""
    if given is None:
        return ()
    unknown = [name for name in given if name not in EVENTS]
    if unknown or not given:
        raise Refusal(
            "invalid_request", f"events: One or more of {', '.join(EVENTS)}; or leave it out for all.", param="events"
        )
    return tuple(name for name in EVENTS if name in given)


def _entry(config: WebhookConfig, secret: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "object": "webhook.config",
        "url": config.url,
        "events": list(config.events or EVENTS),
        "status": "disabled" if config.disabled else "enabled" if config.url is not None else "no_url",
        "created": config.created_ms // 1000,
        "secret_created": config.rotated_ms // 1000,
    }
    if config.disabled:
        entry["reason"] = config.disabled
    return entry | ({"secret_hint": _SECRET_HINT} if secret is None else {"secret": secret})


def _delivery(report: DeliveryReport) -> dict[str, Any]:
    return {
        "id": report.event_id,
        "type": report.type,
        "status": report.state.value,
        "attempts": report.attempts,
        "http_status": report.status,
        "error": report.error or None,
        "created": report.created_ms // 1000,
        "next_attempt": None if report.due_ms is None else report.due_ms // 1000,
        "ended": None if report.ended_ms is None else report.ended_ms // 1000,
    }
