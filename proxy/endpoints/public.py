"""What every client may ask of us: health and the models it can call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy import __version__
from proxy.catalogue import Model
from proxy.endpoints.access import is_callable, keyholder, listed_models
from proxy.endpoints.bridge import EXCHANGE
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.panels import members, run_price


def application(title: str, routers: Iterable[APIRouter]) -> FastAPI:
    """A FastAPI application whose own errors are in our envelope."""
    app = FastAPI(title=title, version=__version__, redirect_slashes=False, docs_url=None, redoc_url=None)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    for router in routers:
        app.include_router(router)
    return app


def json_answer(content: Any, status: int = 200) -> Response:
    """JSON as every endpoint of ours sends it."""
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    exchange: Exchange = request.scope[EXCHANGE]
    return Response(error.envelope(for_operator=exchange.origin.loopback), error.status, error.wire_headers())


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    refusal = Refusal(code, "There is no such endpoint here." if status == 404 else str(error), status=status)
    return Response(refusal.envelope(), status, refusal.wire_headers())


async def _invalid(_: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    first = problems[0] if problems else {"loc": (), "msg": "invalid request"}
    where = ".".join(str(part) for part in first["loc"][1:])
    refusal = Refusal("invalid_request", f"{where}: {first['msg']}", param=where or None)
    return Response(refusal.envelope(), 400, refusal.wire_headers())


def router(ready: Callable[[], bool], own_models: Callable[[str], dict[str, Model]] = lambda team: {}) -> APIRouter:
    """`/health`, `/v1/health`, `/v1/models`.

    `ready` is False while starting and draining; `own_models` gives the byo-* aliases of a team.
    """
    routes = APIRouter()

    def visible(exchange: Exchange) -> dict[str, Model]:
        identity = keyholder(exchange)
        own = {} if identity is None else own_models(identity.team)
        return listed_models(exchange) | {name: model for name, model in own.items() if is_callable(exchange, model)}

    @routes.get("/health")
    @routes.get("/v1/health")
    async def health() -> Response:
        """Up and ready, nothing more: 200 while new exchanges are taken, 503 while not."""
        up = ready()
        answer = json_answer({"status": "ok" if up else "draining", "ready": up}, 200 if up else 503)
        if not up:
            answer.headers["retry-after"] = "5"
        return answer

    @routes.get("/v1/models")
    async def models(request: Request) -> Response:
        """The models the caller can call, in OpenAI's shape."""
        exchange: Exchange = request.scope[EXCHANGE]
        owner = exchange.generation.owner
        listed = [_entry(name, model, owner) for name, model in visible(exchange).items()]
        return json_answer({"object": "list", "data": listed})

    @routes.get("/v1/models/{name:path}")
    async def model(name: str, request: Request) -> Response:
        """One of them."""
        exchange: Exchange = request.scope[EXCHANGE]
        found = visible(exchange).get(name)
        if found is None:
            raise Refusal(
                "model_not_available", f"There is no model '{name}' for you. GET /v1/models lists them.", param="model"
            )
        return json_answer(_entry(name, found, exchange.generation.owner))

    return routes


def _entry(name: str, model: Model, owner: str) -> dict[str, Any]:
    """One model in OpenAI's shape, with what else a tool may want to know; `dimensions` for embeddings,
    the price of a run and who answers for panels only."""
    entry: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": owner,
        "context_window": model.context_tokens,
        "tags": list(model.tags),
        "display_name": model.display_name or name,
    }
    if model.panel is not None:
        entry |= {"price_per_run": run_price(model.panel), "members": members(model.panel)}
    if model.dimensions is not None:
        entry["dimensions"] = model.dimensions
    return entry
