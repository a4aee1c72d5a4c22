"""Certificates towards clients: a listener's own, or a leaf of our CA for a captured host."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Final

import certifi
from cryptography import x509
from mitmproxy.certs import CertStore
from mitmproxy.options import CONF_BASENAME
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from proxy.config.schema import Listener

PROTOCOLS: Final = (b"h2", b"http/1.1")
KEY_BITS: Final = 2048


class Certificates:
    """Made once an engine. Raises CertificateError at start, not at the first connection."""

    def __init__(self, listeners: tuple[Listener, ...], confdir: Path, authorities: Path | None) -> None:
        self._own = {entry.name: _own_context(entry) for entry in listeners if entry.cert_file is not None}
        self._store: CertStore | None = None
        if any(entry.kind == "regular" for entry in listeners):
            confdir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store = CertStore.from_store(confdir, CONF_BASENAME, KEY_BITS)
        self._captured = _server_context()
        self._towards_providers = _client_context(authorities)

    def as_listener(self, start: TlsData, listener: Listener) -> None:
        """Speak as the listener itself."""
        start.ssl_conn = SSL.Connection(self._own[listener.name])
        start.ssl_conn.set_accept_state()

    def as_captured(self, start: TlsData, host: str) -> None:
        """Speak as `host`, with a leaf of our CA."""
        if self._store is None:
            return
        name = _general_name(host)
        entry = self._store.get_cert(host, [name])
        connection = SSL.Connection(self._captured)
        connection.use_certificate(entry.cert.to_cryptography())
        connection.use_privatekey(entry.privatekey)
        connection.set_accept_state()
        start.ssl_conn = connection

    def as_client(self, start: TlsData) -> None:
        """Speak to a provider: its certificate is verified against `authorities` and its name."""
        name = start.conn.sni
        if name is None:
            return
        connection = SSL.Connection(self._towards_providers)
        expect_host(connection, name)
        connection.set_alpn_protos([b"http/1.1"])
        connection.set_connect_state()
        start.ssl_conn = connection

    @staticmethod
    def may_speak_for(host: str, asked: str | None) -> bool:
        """Whether a ClientHello for `asked` belongs into a connection to `host`. Addresses are never asked for."""
        if asked is None:
            return isinstance(_general_name(host), x509.IPAddress)
        return asked.lower().rstrip(".") == host


class CertificateError(Exception):
    """A certificate or key file that cannot be used; says which."""


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _server_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_alpn_select_callback(_select_protocol)
    return context


def _client_context(authorities: Path | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER, None)
    context.load_verify_locations(str(authorities) if authorities is not None else certifi.where())
    return context


def expect_host(connection: SSL.Connection, host: str) -> None:
    """Send the name and have the certificate checked against it (OpenSSL's SSL_set1_host; pyOpenSSL has no call
    for it, so as mitmproxy's own client side does)."""
    lib, parameters = SSL._lib, SSL._lib.SSL_get0_param(connection._ssl)  # type: ignore[attr-defined]  # noqa: SLF001
    lib.X509_VERIFY_PARAM_set_hostflags(parameters, lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.encode("idna")
        connection.set_tlsext_host_name(name)
        matched = lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
    else:
        matched = lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
    if matched != 1:
        raise CertificateError(f"{host} cannot be verified")


def _own_context(listener: Listener) -> SSL.Context:
    context = _server_context()
    try:
        context.use_certificate_chain_file(str(listener.cert_file))
        context.use_privatekey_file(str(listener.key_file))
        context.check_privatekey()
    except SSL.Error as error:
        raise CertificateError(
            f"listener {listener.name}: {listener.cert_file} and {listener.key_file} are no usable "
            f"certificate and key: {error}"
        ) from error
    return context


def _select_protocol(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Our first that the client speaks: who offers HTTP/2 at all was told to use it."""
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS
