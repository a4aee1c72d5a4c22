"""The providers' side: nginx with one fixed answer, and a node server that emits timed chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from bench.process import Server, free_port, port_open, tool
from bench.wire import Endpoint, answers

ANSWER: Final = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "bench-model",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The ledger says that the road is owed two coins for the bridge and one for the tunnel, "
                "that the driver paid with a banknote at the first gate, and that the change is kept in a hold until "
                "the journey ends. Nothing is lost, and nothing is charged twice.",
                "refusal": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 190, "completion_tokens": 60, "total_tokens": 250},
    "system_fingerprint": "fp_bench",
}
"""About 600 bytes on the wire."""

NGINX: Final = """\
daemon off;
master_process off;
error_log stderr error;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    keepalive_timeout 600;
    tcp_nodelay on;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""

NO_HEADERS: Final[tuple[tuple[tuple[str, str], ...], ...]] = ((("authorization", "Bearer sk-bench"),),)


class Upstream:
    """A started upstream and the endpoint that reaches it without any gateway."""

    def __init__(self, server: Server, endpoint: Endpoint) -> None:
        self.server = server
        self.endpoint = endpoint
        self.port = endpoint.port


def start_fixed(folder: Path, *, name: str = "nginx", port: int | None = None) -> Upstream:
    """nginx, one process, always the same chat completion; at `port`, or a free one."""
    port = port or free_port()
    prefix = folder / name
    prefix.mkdir(exist_ok=True)
    configuration = prefix / "nginx.conf"
    configuration.write_text(NGINX.format(folder=prefix, port=port, answer=json.dumps(ANSWER, separators=(",", ":"))))
    server = Server(name, [tool("nginx"), "-e", "stderr", "-p", str(prefix), "-c", str(configuration)], folder)
    endpoint = Endpoint("direct", port, "bench-model", NO_HEADERS)
    server.wait_ready(lambda: answers(endpoint))
    return Upstream(server, endpoint)


def start_streaming(folder: Path, chunk_count: int, chunk_milliseconds: int) -> Upstream:
    """node, one process; every stream is `chunk_count` numbered chunks, one each `chunk_milliseconds`."""
    port = free_port()
    script = Path(__file__).with_name("stream_upstream.mjs")
    server = Server(
        "stream-upstream", [tool("node"), str(script), str(port), str(chunk_count), str(chunk_milliseconds)], folder
    )
    server.wait_ready(lambda: port_open(port))
    return Upstream(server, Endpoint("direct", port, "bench-model", NO_HEADERS))
