"""The gateways that are compared, each started as its own documentation says, with one worker."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench import setup, tollway
from bench.gateway import Gateway
from bench.process import Server, free_port, tool
from bench.wire import Endpoint, answers

LITELLM: Final = """\
model_list:
  - model_name: bench-model
    litellm_params:
      model: openai/bench-model
      api_base: "http://127.0.0.1:{port}/v1"
      api_key: sk-bench
      input_cost_per_token: 1.0e-6
      output_cost_per_token: 2.0e-6
litellm_settings: {{num_retries: 0, callbacks: []}}
general_settings: {{master_key: {key}}}
"""
LITELLM_ENVIRONMENT: Final = (
    "LITELLM_MODE=PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP=True",
    "LITELLM_TELEMETRY=False",
    "LITELLM_LOG=ERROR",
)


def _ready(name: str, server: Server, endpoint: Endpoint, version: str) -> Gateway:
    server.wait_ready(lambda: answers(endpoint))
    return Gateway(name, version, server, endpoint)


def start_mitmdump(upstream_port: int, folder: Path, *, streaming: bool) -> Gateway:
    """Stock mitmdump of Tollway's own environment, reverse mode; streams with stream_large_bodies=1."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("mitmdump")), "-q", "--mode", f"reverse:http://127.0.0.1:{upstream_port}",
        "--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", f"confdir={folder / 'mitmdump-ca'}",
        *(("--set", "stream_large_bodies=1") if streaming else ()),
    ]  # fmt: skip
    server = Server(f"mitmdump{'-streams' * streaming}", command, folder)
    endpoint = Endpoint("mitmdump", port, "bench-model", ((("authorization", "Bearer sk-bench"),),))
    return _ready("mitmdump", server, endpoint, version("mitmproxy"))


def start_portkey(upstream_port: int, folder: Path, *, streaming: bool) -> Gateway:
    """Portkey's open gateway on node; each request says where it goes."""
    environment = setup.portkey()
    port = free_port()
    package = environment / "node_modules/@portkey-ai/gateway"
    command = [tool("node"), str(package / "build/start-server.js"), f"--port={port}", "--headless"]
    server = Server(f"portkey{'-streams' * streaming}", command, folder)
    route = {
        "provider": "openai",
        "custom_host": f"http://127.0.0.1:{upstream_port}/v1",
        "api_key": "sk-bench",
        "retry": {"attempts": 2},
    }
    endpoint = Endpoint("portkey", port, "bench-model", ((("x-portkey-config", json.dumps(route)),),))
    packaged = json.loads((package / "package.json").read_text())
    return _ready("portkey", server, endpoint, str(packaged["version"]))


def start_litellm(upstream_port: int, folder: Path, *, streaming: bool) -> Gateway:
    """LiteLLM's proxy, one worker, no database."""
    environment = setup.litellm()
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    configuration = folder / f"litellm{'-streams' * streaming}.yaml"
    configuration.write_text(LITELLM.format(port=upstream_port, key=key))
    command = [
        tool("env"), *LITELLM_ENVIRONMENT, str(environment / "bin/litellm"), "--config", str(configuration),
        "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
    ]  # fmt: skip
    server = Server(f"litellm{'-streams' * streaming}", command, folder)
    endpoint = Endpoint("litellm", port, "bench-model", ((("authorization", f"Bearer {key}"),),))
    lock = (setup.LOCKS / "litellm.lock").read_text()
    return _ready("litellm", server, endpoint, lock.partition("\nlitellm==")[2].split()[0])


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway that can be started."""

    name: str
    start: Callable[..., Gateway]


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("tollway", tollway.start),
        Peer("mitmdump", start_mitmdump),
        Peer("portkey", start_portkey),
        Peer("litellm", start_litellm),
    )
}
"""In the order of the table."""
