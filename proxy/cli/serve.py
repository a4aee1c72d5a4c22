"""tollway serve: run until SIGTERM or Ctrl-C, then drain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import typer

from proxy import __version__
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail
from proxy.cli.program import program
from proxy.config.checked import checked
from proxy.config.problems import ConfigProblems
from proxy.config.schema import Generation, Listener

if TYPE_CHECKING:
    from proxy.gateway import Gateway

PAID_DEMO: Final = "demo-paid"
"""The demo at a price: needs no provider's key, and is there to be paid for."""
Addresses = Mapping[str, tuple[str, int]]


def serve(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Start the proxy. The log goes to standard error; --json prints the bound addresses as one line."""
    if not config.exists():
        fail(f"There is no {config}. Run 'tollway init' here, or say where it is with --config PATH.")
    try:
        generation = checked(config)
    except ConfigProblems as error:
        fail(str(error), EXIT_FINDINGS)
    from proxy import serving
    from proxy.assembly import StartError
    from proxy.listeners.mitm.engine import ListenError

    def started(running: Gateway) -> None:
        addresses = running.addresses
        if json:
            typer.echo(orjson.dumps({"listeners": addresses}).decode())
            return
        for line in greeting(running.generation, addresses, config):
            typer.echo(line)

    try:
        serving.run(generation, config, started=started)
    except (StartError, ListenError) as error:
        fail(f"Tollway cannot start: {error}", EXIT_FINDINGS)


def greeting(generation: Generation, addresses: Addresses, config: Path) -> Iterator[str]:
    """What an operator wants to know first: where it listens, a request to try, how to make a key."""
    option = "" if config == DEFAULT_CONFIG else f" --config {config}"
    yield f"Tollway {__version__} is up. Ctrl-C drains and stops."
    for listener in generation.listeners:
        host, port = addresses[listener.name]
        yield f"  {listener.name:<9}{_use(listener, host, port)}"
    base = next((_base(listener, addresses) for listener in generation.listeners if listener.kind == "reverse"), None)
    free = next((model.name for model in generation.models.values() if model.open), None)
    if base is not None and free is not None:
        yield "\nTry it, no key needed:"
        yield f"  curl {base}/chat/completions -H 'content-type: application/json' \\"
        yield f'    -d \'{{"model": "{free}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\''
    if generation.payments is not None:
        yield "\nWhoever has no key pays for the request. To see how:"
        node = generation.payments.lightning
        wallet = " --dev" if node is not None and node.backend == "dev" else ""
        yield f"  {program()} pay --model {PAID_DEMO}{wallet} 'Hello!'{option}"
    served = sorted({model.name for model in generation.models.values() if not model.open} - {PAID_DEMO})
    if served:
        yield f"\n{len(served)} models need a Tollway key. Make one:"
        yield f"  {program()} keys create --user me{option}"
    if generation.unavailable_models:
        waiting = len({generation.catalogue[name].name for name in generation.unavailable_models})
        yield f"\n{waiting} models wait for a provider's key, such as OPENAI_API_KEY: {program()} models{option}"


def _use(listener: Listener, host: str, port: int) -> str:
    """The listener's address in the words a client needs."""
    where = _netloc(host, port)
    if listener.kind == "regular":
        return f"HTTPS_PROXY=http://{where}   (with the CA of '{program()} ca path')"
    scheme = "https" if listener.cert_file is not None else "http"
    if listener.kind == "admin":
        return f"{scheme}://{where}/metrics, /upstreams, /health"
    return f"{scheme}://{where}/v1   (an SDK's base_url)"


def _base(listener: Listener, addresses: Addresses) -> str:
    scheme = "https" if listener.cert_file is not None else "http"
    return f"{scheme}://{_netloc(*addresses[listener.name])}/v1"


def _netloc(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
