"""A world with every kind of way in, on loopback and off it, and clients for its HTTP proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.listeners.mitm.harness import WAIT_SECONDS, Answer, Client
from tests.peers.certificates import authority
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY, ScriptedProvider
from tests.support.world import CAPTURE, MODELS, World, world

OWN_OPENAI_KEY = "sk-a-clients-own-key"
OWN_ANTHROPIC_KEY = "sk-ant-a-clients-own-key"
AZURE_KEY = "azure-operator-key"
GOOGLE_KEY = "google-operator-key"
AZURE_HOST = "resource.openai.azure.com"
GOOGLE_HOST = "generativelanguage.googleapis.com"
PRICE = {"input": "1", "output": "2"}


@dataclass(slots=True)
class Ways:
    """The running proxy: its listeners by name, the providers behind it.

    api, house, secure: reverse; on loopback, off it, with TLS. capture, office: HTTP proxies on loopback and off it,
    which may tunnel to 127.0.0.1 and have a default team. guarded: one that may not and has none. closed: one that
    refuses all but providers.
    """

    world: World
    plain: ScriptedProvider
    """Azure, Google and a local server, over plain HTTP; takes any key."""
    key: str

    @property
    def provider(self) -> ScriptedProvider:
        """OpenAI and Anthropic."""
        return self.world.provider

    def address(self, listener: str) -> tuple[str, int]:
        """Where a client connects to."""
        host, port = self.world.gateway.address(listener)
        return ("127.0.0.1" if host == "0.0.0.0" else host, port)

    def url(self, listener: str, *, scheme: str = "http") -> str:
        """The same as a URL."""
        host, port = self.address(listener)
        return f"{scheme}://{host}:{port}"

    def reset(self) -> None:
        """Forget what the providers were told and have seen."""
        self.provider.reset()
        self.plain.reset()

    async def audited(self, **wanted: Any) -> dict[str, Any]:
        """The first audit line with these values, as soon as it is written."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                for line in self.world.gateway.audit_lines():
                    if line.items() >= wanted.items():
                        return line
                await asyncio.sleep(0.02)


def own_address() -> str:
    """An address of this machine that is not loopback; loopback where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.255", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


@contextmanager
def every_way(folder: Path) -> Iterator[Ways]:
    """Start it all; at the end the books are audited."""
    certificate = authority().issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "own-cert.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "own-key.pem"))
    (folder / "own-key.pem").chmod(0o600)
    home = {"default_team": "default", "allow_targets": ["127.0.0.1"]}
    listeners: dict[str, dict[str, Any]] = {
        "capture": home,
        "office": {"kind": "regular", "bind": "0.0.0.0:0", **home},
        "guarded": {"kind": "regular", "bind": "127.0.0.1:0"},
        "closed": {"kind": "regular", "bind": "127.0.0.1:0", "other_targets": "refuse"},
        "house": {"kind": "reverse", "bind": "0.0.0.0:0"},
        "secure": {
            "kind": "reverse",
            "bind": "127.0.0.1:0",
            "tls": {"cert_file": "own-cert.pem", "key_file": "own-key.pem"},
        },
    }
    with (
        ScriptedProvider(keys=None) as plain,
        world(
            folder,
            listeners=listeners,
            more_upstreams=_upstreams(plain),
            policies={"models": {"models": MODELS | _MODELS}, "capture": {"capture": CAPTURE | _capture(plain.port)}},
        ) as running,
    ):
        running.provider.keys = frozenset({OPENAI_KEY, ANTHROPIC_KEY, OWN_OPENAI_KEY, OWN_ANTHROPIC_KEY})
        yield Ways(running, plain, running.gateway.make_key(user="ann"))
        running.gateway.cli("ledger", "audit")


_MODELS: dict[str, Any] = {
    "azure-gpt": {"candidates": ["azure"], "price": PRICE, "context": 128_000},
    "gemini": {"candidates": ["google"], "price": PRICE, "context": 128_000},
    "llama": {"candidates": ["local"], "price": PRICE, "context": 128_000},
}


def _upstreams(plain: ScriptedProvider) -> dict[str, Any]:
    address = f"127.0.0.1:{plain.port}"
    return {
        "azure": {
            "base_url": f"http://{AZURE_HOST}/openai/v1",
            "key": AZURE_KEY,
            "credential_header": "api-key",
            "credential_scheme": "",
            "connect_to": address,
        },
        "google": {"base_url": f"http://{GOOGLE_HOST}/v1beta/openai", "key": GOOGLE_KEY, "connect_to": address},
        "local": {"base_url": f"http://{address}/v1", "keyless": True},
    }


def _capture(port: int) -> dict[str, Any]:
    chat = "chat.completions"
    return {
        "azure": {
            "hosts": ["*.openai.azure.com"],
            "upstream": "azure",
            "credential_headers": ["api-key", "authorization"],
            "base_path": "/openai",
            "paths": {"/deployments/{model}/chat/completions": chat, "/v1/chat/completions": chat},
        },
        "google": {
            "hosts": [GOOGLE_HOST],
            "upstream": "google",
            "credential_headers": ["authorization", "x-goog-api-key"],
            "base_path": "/v1beta/openai",
            "paths": {"/chat/completions": chat},
        },
        "local": {
            "hosts": ["127.0.0.1", "localhost"],
            "ports": [port],
            "scheme": "http",
            "upstream": "local",
            "base_path": "/v1",
            "paths": {"/chat/completions": chat, "/models": "models"},
        },
    }


@dataclass(slots=True)
class Dialler:
    """Opens connections to the proxies under test and closes them when the test is over."""

    ways: Ways
    clients: list[Client] = field(default_factory=list)

    async def open(self, listener: str, *, host: str | None = None, tls: ssl.SSLContext | None = None) -> Client:
        """A connection to a listener; `host` is another of this machine's addresses."""
        usual, port = self.ways.address(listener)
        name = "localhost" if tls is not None else None
        reader, writer = await asyncio.open_connection(host or usual, port, ssl=tls, server_hostname=name)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def connect(self, listener: str, target: str, *fields: str, host: str | None = None) -> tuple[Client, Answer]:
        """CONNECT; `fields` are whole header lines."""
        client = await self.open(listener, host=host)
        lines = (f"CONNECT {target} HTTP/1.1", f"Host: {target}", *fields, "", "")
        client.send("\r\n".join(lines).encode())
        answer = await client.head()
        if answer.status != 200:
            answer.body = await client.reader.readexactly(int(answer.headers["content-length"]))
        return client, answer

    async def captured(self, host: str, *fields: str, listener: str = "capture") -> Client:
        """Inside of TLS with a leaf of our CA for `host`."""
        client, answer = await self.connect(listener, f"{host}:443", *fields)
        assert answer.status == 200
        await client.writer.start_tls(our_ca(self.ways), server_hostname=host)
        return client


@asynccontextmanager
async def dialling(ways: Ways) -> AsyncIterator[Dialler]:
    """A dialler whose connections are closed at the end."""
    dialler = Dialler(ways)
    try:
        yield dialler
    finally:
        for client in dialler.clients:
            client.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(client.writer.wait_closed(), WAIT_SECONDS)


def our_ca(ways: Ways) -> ssl.SSLContext:
    """Trusts the CA of the proxy and nobody else."""
    return ssl.create_default_context(cafile=str(ways.world.proxy_ca))


def origin_ca() -> ssl.SSLContext:
    """Trusts the authority of the tests: providers, origins and the proxy's own certificate."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


def credentials(user: str, password: str = "") -> str:
    """A Proxy-Authorization line."""
    pair = b64encode(f"{user}:{password}".encode()).decode()
    return f"Proxy-Authorization: Basic {pair}"
