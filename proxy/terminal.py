"""What stands behind the last plugin: a provider, an endpoint of our own, or an untouched way through.

It opens nothing on its own word: a priced call is made only when every fact it needs is on the exchange,
and an unmetered one only with the client's own provider credential.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

from proxy.chain import PRICED_FACTS
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import ANSWER_ROLE, Exchange, Request, Response, Upgrade
from proxy.forwarding import answer_headers, own_headers, passed_headers, upstream_headers
from proxy.identities import IdentityKind
from proxy.listeners.api import ConnectPolicy
from proxy.operations import MODELS, ORCHESTRATE, PREFLIGHT, Target
from proxy.payments.free import is_free
from proxy.upstreams.api import FailureKind, Upstream, UpstreamClient, UpstreamFailure

UPSTREAM_PATHS = {
    "chat.completions": "/chat/completions",
    "embeddings": "/embeddings",
    "messages": "/messages",
    "responses": "/responses",
}
"""Operation -> path under an upstream's base URL."""

_CONTENT = (Target.UPSTREAM, Target.UNMETERED, Target.WEBSOCKET)
"""Targets that a client's content goes to."""

_SECOND_METHODS: Final = frozenset(
    {"$httpmethod", "_method", "x-http-method-override", "x-http-method", "x-method-override"}
)
"""Header fields and query parameters that give another method than the request's own."""

_TIMEOUTS = (FailureKind.FIRST_BYTE, FailureKind.IDLE, FailureKind.TOTAL)


class Terminal:
    """The end of the chain."""

    def __init__(
        self,
        *,
        client: UpstreamClient,
        local: Callable[[Exchange], Awaitable[Response]],
        connect_policy: ConnectPolicy,
        answer_bytes_max: int,
        log: Any,
    ) -> None:
        self._client = client
        self._local = local
        self._connect_policy = connect_policy
        self._answer_bytes_max = answer_bytes_max
        self._log = log

    async def __call__(self, exchange: Exchange) -> Response:
        """Serve what the chain let through."""
        target = exchange.operation.target
        if target in _CONTENT and exchange.policy is not None and exchange.policy.content:
            self._require_check(exchange)
        if target is Target.UPSTREAM:
            return await self._priced(exchange)
        if exchange.operation is PREFLIGHT:
            raise Refusal("method_not_allowed", "OPTIONS is for browsers' preflights here.", headers={"allow": "POST"})
        if target is Target.LOCAL:
            if exchange.operation is MODELS and exchange.origin.captured_host and _own_credential(exchange):
                return await self._unmetered(exchange)
            return await self._local(exchange)
        if target is Target.PLAIN:
            return await self._plain(exchange)
        if not _own_credential(exchange):
            raise Refusal(
                "path_not_allowed",
                "Only chat completions, embeddings, messages, responses and models are served with a Tollway key: "
                "other paths of a provider are not metered. Send your own provider key to use them.",
            )
        if target is Target.WEBSOCKET:
            return self._websocket(exchange)
        return await self._unmetered(exchange)

    def _require_check(self, exchange: Exchange) -> None:
        """What content rules apply to goes to nobody unread."""
        if exchange.content_checked is not True:
            self._log.error("content_not_checked", request_id=exchange.request_id)
            raise Refusal(
                "internal_error", "This path is closed: content rules apply, and nothing in the chain reads it."
            )

    def _require_payment(self, exchange: Exchange) -> None:
        """Nobody is served for a promise: a payer's money is ours, or set aside, before a provider is called."""
        identity, hold = exchange.identity, exchange.hold
        if identity is None or hold is None or identity.kind is not IdentityKind.PAYER or is_free(exchange):
            return
        paid = exchange.collected and hold.lease is not None and hold.lease.settled
        if not paid and hold.balance is None:
            self._log.error("priced_call_without_payment", request_id=exchange.request_id)
            raise Refusal("internal_error", "This priced path is closed: nothing in the chain took the payment.")

    def _require_panel(self, exchange: Exchange) -> None:
        """A panel's answer has its own price: one model alone never answers for it, and its format goes nowhere."""
        panel = exchange.model is not None and exchange.model.panel is not None and exchange.role == ANSWER_ROLE
        if panel or exchange.operation is ORCHESTRATE:
            self._log.error("panel_not_asked", request_id=exchange.request_id)
            raise Refusal("internal_error", "This path is closed: nothing in the chain asks a panel of models.")

    async def _priced(self, exchange: Exchange) -> Response:
        missing = [fact for fact in PRICED_FACTS if getattr(exchange, fact) is None]
        if missing or exchange.call is None or exchange.quote is None or exchange.route is None:
            self._log.error("priced_call_without_facts", request_id=exchange.request_id, missing=missing)
            raise Refusal("internal_error", "This priced path is closed: the chain did not establish what it costs.")
        self._require_panel(exchange)
        self._require_payment(exchange)
        current = exchange.route.current
        current.outcome = "unsent"
        upstream = current.candidate.endpoint or _upstream(exchange, current.candidate.upstream)
        quote = exchange.quote
        body = DIALECTS[exchange.call.dialect].rewrite(
            exchange.call,
            model=current.candidate.upstream_model,
            output_tokens=quote.output_tokens if quote.enforced else None,
            output_field=upstream.output_field,
            report_usage=upstream.reports_usage,
        )
        path, host = self._priced_path(exchange, upstream)
        headers = upstream_headers(exchange, upstream)
        current.outcome = "running"
        try:
            answer = await self._client.send(upstream, method="POST", path=path, headers=headers, body=body, host=host)
            exchange.streams.append(answer)
            current.status = answer.status
            sse = answer.headers.get("content-type", "").lower().startswith("text/event-stream")
            if sse and answer.status == 200:
                current.outcome = "served"
                return Response(200, answer_headers(exchange, answer.headers), stream=answer, sse=True)
            whole = await answer.read(self._answer_bytes_max)
        except UpstreamFailure as failure:
            current.outcome = failure.kind.value
            current.detail = failure.detail
            return _unanswered(failure)
        current.outcome = "served" if answer.status < 300 else "status"
        if answer.status >= 300 and upstream.key is not None:
            # A provider's words about a request are the client's; the operator's key is not, should they quote it.
            whole = whole.replace(upstream.key.encode(), b"[redacted]")
        return Response(answer.status, answer_headers(exchange, answer.headers), whole)

    def _priced_path(self, exchange: Exchange, upstream: Upstream) -> tuple[str, str | None]:
        """Path with query, and the host where it is not the upstream's own."""
        request = exchange.request
        if _own_credential(exchange) and exchange.origin.captured_host is not None:
            return _path_and_query(request.path, request.query), exchange.origin.captured_host
        return upstream.base_path + UPSTREAM_PATHS[exchange.operation.name], None

    async def _unmetered(self, exchange: Exchange) -> Response:
        """Another path of a captured host, both ways streamed."""
        origin, captured = exchange.origin, exchange.captured
        if captured is None:
            raise Refusal("not_found", "No provider is known under this host name.")
        _refuse_second_method(exchange.request)
        upstream = _upstream(exchange, captured.upstream)
        return await self._through(exchange, upstream, origin.captured_host)

    async def _plain(self, exchange: Exchange) -> Response:
        """Plain HTTP to a host that is not captured, where the listener tunnels such hosts."""
        origin = exchange.origin
        host, port = origin.captured_host or "", origin.captured_port or 80
        verdict = await self._connect_policy.decide(
            listener=origin.listener,
            peer=origin.peer,
            loopback=origin.loopback,
            host=host,
            port=port,
            credential=origin.proxy_credential,
        )
        if verdict.action != "tunnel" or verdict.address is None:
            raise verdict.refusal or Refusal("target_not_allowed", f"{host}:{port} is not allowed by this proxy.")
        upstream = Upstream("plain", f"http://{_netloc(host, port, 80)}", None, connect_to=verdict.address)
        return await self._through(exchange, upstream, None)

    async def _through(self, exchange: Exchange, upstream: Upstream, host: str | None) -> Response:
        request = exchange.request
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        has_body = has_body or (exchange.origin.http2 and request.method not in ("GET", "HEAD"))
        sent = own_headers(exchange)
        if has_body and (declared := request.headers.get("content-length")) is not None:
            sent["content-length"] = declared
        try:
            answer = await self._client.send(
                upstream,
                method=request.method,
                path=_path_and_query(request.path, request.query),
                headers=sent,
                body=request.stream() if has_body else None,
                host=host,
            )
        except UpstreamFailure as failure:
            return _unanswered(failure)
        exchange.streams.append(answer)
        headers = passed_headers(answer.headers)
        if (length := answer.headers.get("content-length")) is not None:
            headers["content-length"] = length
        return Response(answer.status, headers, stream=answer)

    def _websocket(self, exchange: Exchange) -> Response:
        origin = exchange.origin
        host, port = origin.captured_host or "", origin.captured_port or 443
        headers = own_headers(exchange)
        return Response(101, headers, upgrade=Upgrade(host, port, origin.tls, headers))


def _upstream(exchange: Exchange, name: str) -> Upstream:
    found = exchange.generation.upstream(name)
    if found is None:
        raise Refusal(
            "not_found", "Nobody is configured to serve this.", operator_note=f"There is no upstream '{name}'."
        )
    return found


def _refuse_second_method(request: Request) -> None:
    """A GET that the provider takes for a POST would be a priced call that was taken for none.

    Google documents both ways to say so, others know more header names.
    """
    names = {unquote(pair.partition("=")[0]).strip().lower() for pair in re.split("[&;]", request.query)}
    if not _SECOND_METHODS.isdisjoint(names) or any(name in request.headers for name in _SECOND_METHODS):
        raise Refusal("invalid_request", "Take the second method out of the headers or the query: a request has one.")


def _own_credential(exchange: Exchange) -> bool:
    return exchange.identity is not None and exchange.identity.provider_credential


def _path_and_query(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _netloc(host: str, port: int, default: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == default else f"{name}:{port}"


def _unanswered(failure: UpstreamFailure) -> Response:
    """An error answer for an upstream that gave none; the detail stays in our log."""
    code = "upstream_timeout" if failure.kind in _TIMEOUTS else "upstream_error"
    if failure.kind in (FailureKind.CONNECT, FailureKind.BUSY):
        code = "upstream_unavailable"
    refusal = Refusal(
        code,
        f"The upstream gave no answer ({failure.kind.value}). Nothing was charged for this attempt; try again.",
        retry_after_seconds=1 if code == "upstream_unavailable" else None,
    )
    return Response.refused(refusal)
