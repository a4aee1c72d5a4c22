"""A certificate authority for tests, and what it issues for the hosts that a peer stands in for."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import trustme

PROVIDER_HOSTS = ("api.openai.com", "api.anthropic.com", "localhost", "127.0.0.1")


@functools.cache
def authority() -> trustme.CA:
    """One authority for the whole test run."""
    return trustme.CA(organization_name="Tollway tests")


@functools.cache
def server_context(*names: str) -> ssl.SSLContext:
    """A server's TLS context with one certificate for `names`, speaking HTTP/1.1 only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


def write_ca_file(folder: Path) -> Path:
    """The authority's certificate as a PEM file in `folder`, for `ca_file` and SSL_CERT_FILE."""
    path = folder / "tests-ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return path
