"""Our answers to the layers' questions, each with a safe default.

mitmproxy's own hooks fail open: a raising addon is logged and the connection goes on. Here an exception
leaves `answer`, and the connection that asked is cut: nothing is decrypted, tunnelled or forwarded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.layer import Layer, NextLayer, NextLayerHook
from mitmproxy.proxy.layers.modes import ReverseProxy
from mitmproxy.proxy.layers.tls import (
    ClientTLSLayer,
    TlsClienthelloHook,
    TlsFailedClientHook,
    TlsStartClientHook,
    TlsStartServerHook,
)
from mitmproxy.tls import ClientHelloData, TlsData

from proxy.exchange import ListenerKind
from proxy.listeners.mitm.http1 import Http1Layer
from proxy.listeners.mitm.http2 import Http2Layer

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection

UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"
"""A fatal TLS alert: the name in the ClientHello is not the one this connection is for (RFC 6066, 3)."""


def first_layer(connection: ClientConnection) -> Layer:
    """What a fresh connection speaks."""
    if connection.listener.cert_file is not None:
        return _client_tls(connection)
    return _http1(connection)


def answer(connection: ClientConnection, hook: StartHook) -> None:
    """Answer a layer's question. Hooks nobody here needs are left at mitmproxy's default, which is to do nothing."""
    if isinstance(hook, NextLayerHook):
        _next_layer(connection, hook.data)
    elif isinstance(hook, TlsClienthelloHook):
        _client_hello(connection, hook.data)
    elif isinstance(hook, TlsStartClientHook):
        _start_client_tls(connection, hook.data)
    elif isinstance(hook, TlsStartServerHook):
        connection.core.certificates.as_client(hook.data)
    elif isinstance(hook, TlsFailedClientHook):
        connection.core.log.debug("tls_failed", reason=connection.client.error, **connection.describe())


def _http1(connection: ClientConnection) -> Layer:
    connection.http = Http1Layer(connection.context, connection)
    return connection.http


def _client_tls(connection: ClientConnection) -> Layer:
    if not connection.context.layers:
        ReverseProxy(connection.context)  # ClientTLSLayer looks at the layer below it
    connection.client_tls = ClientTLSLayer(connection.context)
    return connection.client_tls


def _next_layer(connection: ClientConnection, question: NextLayer) -> None:
    """After TLS: what ALPN says. Inside a captured CONNECT: TLS, or HTTP in the clear."""
    if connection.client.tls_established:
        if connection.client.alpn == b"h2":
            connection.http = question.layer = Http2Layer(connection.context, connection)
        else:
            question.layer = _http1(connection)
    elif connection.admission.captured is not None:
        first = question.data_client()  # type: ignore[no-untyped-call]
        if starts_like_tls_record(first):
            question.layer = _client_tls(connection)
        elif first[:1] != b"\x16":
            question.layer = _http1(connection)


def _client_hello(connection: ClientConnection, hello: ClientHelloData) -> None:
    """On captured traffic the name asked for must be the name of the CONNECT."""
    hello.establish_server_tls_first = False
    captured = connection.admission.captured
    if captured is not None and not connection.core.certificates.may_speak_for(captured[0], hello.client_hello.sni):
        connection.transport.write(UNRECOGNIZED_NAME)
        connection.close()


def _start_client_tls(connection: ClientConnection, start: TlsData) -> None:
    """No `ssl_conn`, no TLS: the layer then closes the connection."""
    if not connection.client.connected or connection.transport.is_closing():
        return
    if connection.admission.kind is ListenerKind.REGULAR:
        captured = connection.admission.captured
        if captured is not None:
            connection.core.certificates.as_captured(start, captured[0])
    else:
        connection.core.certificates.as_listener(start, connection.listener)
