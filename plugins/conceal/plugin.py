"""Nothing in an answer says which provider gave it: server, ids, members and error texts are ours."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from pydantic import Field

from plugins.conceal.formats import FORMATS, Format
from plugins.conceal.names import Names
from plugins.conceal.refusals import READ_BYTES_MAX, told
from plugins.conceal.stream import Concealer
from proxy.dialects import DIALECTS, json_text
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.forwarding import ANSWER_ALLOWED
from proxy.headers import Headers
from proxy.operations import Target
from proxy.plugin import Next, Plugin, PluginSettings, Stage

ROUTE_MODEL: Final = "x-route-model"
_HIDDEN: Final = (*(name for name in ANSWER_ALLOWED if name != "retry-after"), ROUTE_MODEL)
"""All that an answer can have of an upstream's headers, and the one of ours that says what served."""
_NAMES: Final = re.compile(rb'"(?:type|code|param)"\s*:\s*"([\w.\[\]-]{1,64})"', re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,6}")
_UNTOUCHED: Final = (Target.UNMETERED, Target.PLAIN, Target.WEBSOCKET)


class ConcealSettings(PluginSettings):
    """What is shown in the place of what is hidden."""

    server: str = Field(
        default="tollway",
        pattern=r"^[!-~]([ -~]{0,98}[!-~])?$",
        description="Value of the Server header on every answer made on our account.",
    )


class ConcealPlugin(Plugin[ConcealSettings]):
    """Rewrites answers made on our account by an allow-list, streamed ones event by event.

    A caller's exchange with its own provider key passes as it is, and so does what is only tunnelled.
    """

    name = "conceal"
    stage = Stage.OBSERVE
    Settings: ClassVar[type[PluginSettings]] = ConcealSettings
    observes = frozenset({"identity", "call", "model", "route"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        response = await call_next(exchange)
        if exchange.refusal is None and _passes(exchange):
            return response
        if exchange.operation.priced:
            _conceal(exchange, response, self.services.log)
        if exchange.refusal is not None:
            _put(exchange, response, exchange.refusal)
        response.headers["server"] = self.settings.server
        return response


def _passes(exchange: Exchange) -> bool:
    own = exchange.identity is not None and exchange.identity.provider_credential
    return own or exchange.operation.target in _UNTOUCHED


def _conceal(exchange: Exchange, response: Response, log: Any) -> None:
    """Write the answer anew. Sets the exchange's refusal where there is no answer that could be written."""
    routed = response.headers.get(ROUTE_MODEL)
    _clean(response.headers)
    dialect = exchange.operation.dialect or ""
    format_ = FORMATS.get(dialect)
    if format_ is None:
        exchange.refusal = Refusal("internal_error", f"Answers in the format '{dialect}' cannot be concealed.")
        return
    names = Names(exchange, format_.id_prefix, routed)
    response.headers[format_.request_id_header] = exchange.request_id
    if exchange.refusal is not None:
        return
    if response.status >= 300:
        _log_refused(exchange, response, log)
        _put(exchange, response, told(response.status, response.body, exchange.call, exchange.request_id))
    elif response.stream is not None:
        response.headers["content-type"] = "text/event-stream; charset=utf-8"
        response.transforms.append(Concealer(exchange, format_, DIALECTS[dialect], names))
    else:
        _write_whole(exchange, response, format_, names)


def _log_refused(exchange: Exchange, response: Response, log: Any) -> None:
    """What the client is not told: who refused, and the names that it gave the matter. Its words may quote a prompt."""
    tried = exchange.route.current.candidate if exchange.route is not None and exchange.route.tries else None
    log.info(
        "refusal_concealed",
        request_id=exchange.request_id,
        upstream=None if tried is None else tried.upstream,
        upstream_model=None if tried is None else tried.upstream_model,
        status=response.status,
        said=", ".join(dict.fromkeys(word.decode() for word in _NAMES.findall(response.body[:READ_BYTES_MAX]))),
    )


def _clean(headers: Headers) -> None:
    for name in _HIDDEN:
        headers.popall(name, None)
    if not _SECONDS.fullmatch(headers.get("retry-after", "0")):
        del headers["retry-after"]


def _write_whole(exchange: Exchange, response: Response, format_: Format, names: Names) -> None:
    document = json_text.read(response.body)
    ours = None if document is None else format_.whole(document, names)
    body = None if ours is None else json_text.write(ours)
    if body is None:
        exchange.refusal = Refusal(
            "upstream_error", "The model's server gave no answer that could be used. Try again later."
        )
        return
    response.headers["content-type"] = "application/json"
    response.body = body


def _put(exchange: Exchange, response: Response, refusal: Refusal) -> None:
    """Answer with `refusal` in the place of whatever stood there, without what is for the operator alone."""
    response.status = refusal.status
    response.stream = None
    response.sse = False
    response.headers["content-type"] = refusal.headers.get("content-type", "application/json")
    response.body = refusal.envelope(dialect=exchange.operation.dialect)


PLUGIN = ConcealPlugin
