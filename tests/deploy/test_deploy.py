"""deploy/: what can be shown without a cluster. nginx is run before a whole proxy."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

from proxy.config.load import load_generation
from proxy.config.schema import ConfigFile
from tests.peers.behaviour import Behaviour
from tests.support.world import LIMITS, World, world

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]}
DRAIN_SECONDS = ConfigFile.model_fields["drain_seconds"].default
START_SECONDS_MAX = 10.0


def documents(name: str) -> list[dict[str, Any]]:
    return [part for part in yaml.safe_load_all((DEPLOY / name).read_text()) if part is not None]


# -- the shipped configuration, as a container sets it


def environment() -> dict[str, str]:
    """The ENV of the container file."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    return dict(re.findall(r"(TOLLWAY_\w+)=(\S+)", text))


def test_shipped_configuration_starts_in_a_container() -> None:
    """By its environment alone: listeners everywhere but the admin's, state on the volume."""
    generation = load_generation(ROOT / "config.yaml", environment=environment())
    assert {listener.name: listener.loopback for listener in generation.listeners} == {
        "api": False,
        "capture": False,
        "admin": True,
    }
    assert generation.state == Path("/state")


def test_container_has_what_the_proxy_needs() -> None:
    """Every path that is copied exists; it runs as somebody, not root; SIGTERM reaches the process."""
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", text):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
    assert re.search(r"(?m)^USER 10001$", text)
    assert re.search(r'(?m)^ENTRYPOINT \["python", "-m", "proxy"\]$', text)


# -- manifests


def test_kubernetes_probes_and_drain() -> None:
    """Ready by /health; SIGKILL comes after preStop and the drain; ports are those the container listens on."""
    workload, service, admin = documents("kubernetes.yaml")
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (workload["kind"], workload["spec"]["replicas"]) == ("StatefulSet", 1)
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause + DRAIN_SECONDS + 10
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    bound = {key: int(value.rpartition(":")[2]) for key, value in {**environment(), **given}.items() if ":" in value}
    assert ports == {
        "api": bound["TOLLWAY_API_BIND"],
        "proxy": bound["TOLLWAY_CAPTURE_BIND"],
        "admin": bound["TOLLWAY_ADMIN_BIND"],
    }
    for entry in (service, admin):
        assert entry["spec"]["selector"] == workload["spec"]["template"]["metadata"]["labels"]
        assert {port["targetPort"] for port in entry["spec"]["ports"]} <= set(ports)
    assert "admin" not in {port["name"] for port in service["spec"]["ports"]}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert environment()["TOLLWAY_STATE"] in mounted


def test_compose_keeps_the_proxy_behind_its_front() -> None:
    """Only the front has ports of the machine; the drain has its time."""
    (compose,) = documents("compose.yaml")
    proxy, front = compose["services"]["tollway"], compose["services"]["front"]
    assert "ports" not in proxy and front["ports"]
    assert int(proxy["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + 10
    assert (DEPLOY / proxy["build"]["context"] / proxy["build"]["dockerfile"]).exists()
    assert all((DEPLOY / one.partition(":")[0]).exists() for one in front["volumes"] if one.startswith("./"))
    assert "flush_interval -1" in (DEPLOY / "Caddyfile").read_text()


def test_unit_drains_and_is_confined() -> None:
    """systemd waits for the drain; nothing but its state folder can be written."""
    unit = RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / "tollway.service").read_text())
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) >= DRAIN_SECONDS + 10
    assert (service["ProtectSystem"], service["NoNewPrivileges"]) == ("strict", "yes")
    assert service["Environment"] == f"TOLLWAY_STATE=/var/lib/{service['StateDirectory']}"
    for command in (service["ExecStartPre"], service["ExecStart"]):
        assert re.fullmatch(
            r"/opt/tollway/\.venv/bin/tollway (check|serve) --config /etc/tollway/config\.yaml", command
        )


# -- nginx

WIDE_OFFERS = {
    "lightning": {"backend": "dev", "development": True},
    "x402": {
        "pay_to": "0x" + "ab" * 20,
        "facilitator": "https://facilitator.invalid",
        "assets": [{"network": f"eip155:{number}", "address": "0x" + "cd" * 20} for number in range(1, 17)],
    },
}
"""A 402 whose header fields are as long as they get."""


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    chain = [
        {"ip_limit": {"trusted_proxies": ["127.0.0.1/32"]}},
        "identity",
        "catalogue",
        "team_policy",
        "key_limit",
        "pricing",
    ]
    paid = ["payer_api", "balance", "challenge", "spend_caps", "payment"]
    links = ["cors", "audit", *chain, *paid, "routing", "metering"]
    config = {"chain": links, "payments": WIDE_OFFERS}
    narrow = {**LIMITS, "ip": {"requests": {"per_minute": 3, "burst": 3, "burst_seconds": 60}}}
    with world(tmp_path_factory.mktemp("front"), config=config, policies={"limits": narrow}) as one:
        yield one


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def front(running: World, tmp_path: Path, unused_tcp_port: int, authority: trustme.CA) -> Iterator[httpx.Client]:
    """nginx with the example, its addresses and certificates replaced; a client that trusts it."""
    certificate = authority.issue_cert("llm.example.com", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    host, port = running.gateway.address("api")
    example = (DEPLOY / "nginx.conf").read_text()
    for old, new in {
        "127.0.0.1:8402": f"{host}:{port}",
        "listen 443": f"listen 127.0.0.1:{unused_tcp_port}",
        "/etc/nginx/tls": str(tmp_path),
    }.items():
        assert old in example
        example = example.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log warn;"
        f"events {{ }} http {{ access_log off; {temporary}\n{example}\n}}"
    )
    command = ["nginx", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=20)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        base = f"https://127.0.0.1:{unused_tcp_port}"
        with httpx.Client(base_url=base, verify=trusting(authority), http2=True, timeout=20) as client:
            _until_up(client)
            yield client
    finally:
        process.terminate()
        process.wait(10)


def _until_up(client: httpx.Client) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            client.get("/health")
            return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.mark.needs("nginx")
def test_nginx_streams_and_names_the_client(running: World, front: httpx.Client) -> None:
    """The first event is there before the last is made; what a client claims about its address is not believed."""
    key = running.gateway.make_key()
    running.provider.script(Behaviour(chunks=5, delay_seconds=0.2))
    headers = {"authorization": f"Bearer {key}", "x-forwarded-for": "198.51.100.7"}
    with front.stream("POST", "/v1/chat/completions", json={**HELLO, "stream": True}, headers=headers) as answer:
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        pieces = answer.iter_raw()
        first = next(pieces)
        assert b"data: " in first and not running.provider.requests[-1].answered
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    statuses = []
    for number in range(5):
        claimed = {**headers, "x-forwarded-for": f"198.51.100.{number}"}
        statuses.append(front.post("/v1/chat/completions", json=HELLO, headers=claimed).status_code)
    assert statuses == [200, 200, 429, 429, 429]


@pytest.mark.needs("nginx")
def test_nginx_passes_the_offers_of_a_402_on(front: httpx.Client) -> None:
    """Its header fields are longer than what nginx holds by default."""
    answer = front.post("/v1/chat/completions", json=HELLO)
    assert answer.status_code == 402
    assert len(answer.headers["payment-required"]) > 4096
    assert answer.headers["www-authenticate"].startswith("L402 ")


@pytest.mark.needs("nginx")
def test_nginx_passes_a_refusal_on_while_the_upload_runs(front: httpx.Client, authority: trustme.CA) -> None:
    """No buffering of requests: 401 after the first bytes of a body that never comes to its end."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: llm.example.com\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer lld_{'0' * 32}\r\nContent-Length: 1000000\r\n\r\n"
    )
    address = (front.base_url.host, front.base_url.port or 443)
    with (
        socket.create_connection(address, 10) as plain,
        trusting(authority).wrap_socket(plain, server_hostname=address[0]) as tls,
    ):
        tls.sendall(head.encode() + b'{"model": ')
        assert tls.recv(64).startswith(b"HTTP/1.1 401 ")
