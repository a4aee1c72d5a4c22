"""Customers' own upstream keys through the whole proxy: the real SDKs, real sockets, the operator's own commands."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml

from proxy.byo import new_key
from tests.edge.conftest import open_holds
from tests.peers.behaviour import Behaviour
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY, ScriptedProvider
from tests.support.world import World, world

CUSTOMER_KEY = "sk-customer-CANARY-4711-of-red"
NEW_KEY = "sk-customer-CANARY-4712-of-red"
BLUE_KEY = "sk-customer-CANARY-0815-of-blue"
OWN_KEY = "sk-own-server-CANARY-42-of-red"
SECRETS = (CUSTOMER_KEY, NEW_KEY, BLUE_KEY, OWN_KEY)
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
TEXT = Behaviour().text
SECONDS_MAX = 15.0
TEAMS = {
    "organisations": {"acme": {}},
    "teams": {
        "red": {"organisation": "acme", "tier": "standard"},
        "blue": {"organisation": "acme", "tier": "standard"},
        "listed": {
            "organisation": "acme",
            "tier": "standard",
            "caps": [{"usd": "0.02", "window": "total", "basis": "list"}],
        },
        "charged": {
            "organisation": "acme",
            "tier": "standard",
            "caps": [{"usd": "0.00001", "window": "total", "basis": "charged"}],
        },
    },
}


@dataclass(slots=True)
class Customers:
    """A proxy with customers' keys, the provider behind it, and a server of a customer's own."""

    world: World
    own: ScriptedProvider
    encryption_key: str
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, team: str) -> str:
        """A key of ours for a team, made once."""
        if team not in self.keys:
            self.keys[team] = self.world.gateway.make_key(team=team)
        return self.keys[team]

    def api(self, key: str, method: str = "GET", path: str = "/byo/keys", **options: Any) -> httpx.Response:
        """One request to /v1."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.request(method, self.world.base_url + path, headers=headers, timeout=20, **options)

    def register(self, caller: str, /, **fields: Any) -> httpx.Response:
        """byo-openai-gpt-4o at the configured openai, or as told."""
        body = {"alias": "byo-openai-gpt-4o", "upstream": "openai", "model": "gpt-4o", "key": CUSTOMER_KEY, **fields}
        return self.api(caller, "POST", json={name: value for name, value in body.items() if value is not None})

    def spend(self, by: str = "model") -> dict[str, dict[str, Any]]:
        """`tollway spend --json`, by group."""
        rows = json.loads(self.world.gateway.cli("spend", "--by", by, "--json").stdout)
        return {row[by]: row for row in (rows["rows"] if isinstance(rows, dict) else rows)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Customers]:
    encryption_key = new_key()
    with ScriptedProvider(keys=frozenset({OWN_KEY})) as own:
        config = {
            "byo": {"keys": ["${TOLLWAY_BYO_KEY}"], "allow_private": [f"127.0.0.1:{own.port}"], "registrations_max": 8}
        }
        with world(
            tmp_path_factory.mktemp("byo"),
            config=config,
            policies={"teams": TEAMS},
            environment={"TOLLWAY_BYO_KEY": encryption_key},
        ) as running:
            yield Customers(running, own, encryption_key)


@pytest.fixture
def customers(shared: Customers) -> Iterator[Customers]:
    """Nothing registered, providers that remember this test only."""
    shared.world.provider.keys = frozenset({OPENAI_KEY, ANTHROPIC_KEY, CUSTOMER_KEY, NEW_KEY, BLUE_KEY})
    for provider in (shared.world.provider, shared.own):
        provider.reset()
    yield shared
    assert open_holds(shared.world) == 0
    for key in shared.keys.values():
        for one in shared.api(key).json()["data"]:
            shared.api(key, "DELETE", params={"alias": one["alias"]})


@pytest.fixture(autouse=True)
def clean() -> None:
    """In the place of the one for tests of the shared proxy."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def sdk(opened: ExitStack, customers: Customers, key: str) -> openai.OpenAI:
    return opened.enter_context(openai.OpenAI(api_key=key, base_url=customers.world.base_url, max_retries=0))


def until(condition: Callable[[], bool]) -> None:
    """Another process's change is seen within a second; a busy machine has longer."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def test_registered_called_charged_nothing_and_counted_at_list(customers: Customers, opened: ExitStack) -> None:
    """Whole and streamed: the customer's key goes upstream, 0 is charged, the list cost is recorded."""
    key = customers.key("red")
    assert customers.register(key, alias="byo-counted").status_code == 201
    client = sdk(opened, customers, key)
    answer = client.chat.completions.create(model="byo-counted", messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    stream = client.chat.completions.create(model="byo-counted", messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT

    for seen in customers.world.provider.requests:
        assert seen.header("authorization") == f"Bearer {CUSTOMER_KEY}"
        assert seen.json()["model"] == "gpt-4o"
        assert "max_tokens" not in seen.json() and "max_completion_tokens" not in seen.json()
    usage = answer.usage
    assert usage is not None
    list_usd = (usage.prompt_tokens * 2.5 + usage.completion_tokens * 10) / 1e6
    assert open_holds(customers.world) == 0
    row = customers.spend()["byo-counted"]
    assert (row["requests"], float(row["charged_usd"])) == (2, 0)
    assert float(row["list_usd"]) == pytest.approx(2 * list_usd)


def test_messages_by_anthropics_sdk(customers: Customers, opened: ExitStack) -> None:
    """The upstream's own header and version."""
    key = customers.key("red")
    made = customers.register(key, alias="byo-anthropic-sonnet", upstream="anthropic", model="claude-sonnet-4-6")
    assert made.status_code == 201, made.text
    base = customers.world.base_url.removesuffix("/v1")
    client = opened.enter_context(anthropic.Anthropic(api_key=key, base_url=base, max_retries=0))
    answer = client.messages.create(model="byo-anthropic-sonnet", max_tokens=50, messages=HELLO)
    assert answer.content[0].type == "text"
    seen = customers.world.provider.requests[-1]
    assert seen.header("x-api-key") == CUSTOMER_KEY
    assert seen.header("authorization") is None
    assert seen.header("anthropic-version")


def test_a_customers_own_server(customers: Customers, opened: ExitStack) -> None:
    """Registered by its base URL: called there, charged nothing, list cost unknown."""
    key = customers.key("red")
    made = customers.register(
        key, alias="byo-own", upstream=None, base_url=f"http://127.0.0.1:{customers.own.port}/v1", key=OWN_KEY
    )
    assert made.status_code == 201, made.text
    answer = sdk(opened, customers, key).chat.completions.create(model="byo-own", messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    seen = customers.own.requests[-1]
    assert seen.header("authorization") == f"Bearer {OWN_KEY}"
    assert seen.header("via") == "1.1 tollway"
    assert customers.world.provider.requests == []


@pytest.mark.parametrize("tokens", [1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 70])
def test_what_a_customers_server_reports_harms_no_ledger(customers: Customers, opened: ExitStack, tokens: int) -> None:
    """However many tokens it says it used: its own exchange and everybody else's are settled."""
    key = customers.key("red")
    url = f"http://127.0.0.1:{customers.own.port}/v1"
    customers.register(key, alias="byo-liar", upstream=None, base_url=url, key=OWN_KEY)
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}
    customers.own.default = Behaviour(usage=usage)
    client = sdk(opened, customers, key)
    client.chat.completions.create(model="byo-liar", messages=HELLO)
    client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert open_holds(customers.world) == 0
    customers.world.gateway.cli("ledger", "audit")


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:{admin}/v1", "https://127.0.0.1/v1", "https://localhost/v1", "https://[::1]/v1",
     "https://169.254.169.254/latest", "https://2130706433/v1", "https://127.0.0.1.nip.io:8443/v1"],
)  # fmt: skip
def test_a_base_url_that_leads_inside_is_refused(customers: Customers, base_url: str) -> None:
    """Our own admin listener, the machine, the cloud's metadata."""
    url = base_url.format(admin=customers.world.gateway.address("admin")[1])
    answer = customers.register(customers.key("red"), upstream=None, base_url=url)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "base_url"
    assert customers.own.requests == []


def test_another_team_neither_sees_nor_uses_it(customers: Customers, opened: ExitStack) -> None:
    """404 as for any unknown model; its own alias of the same name has its own key."""
    red, blue = customers.key("red"), customers.key("blue")
    customers.register(red)
    names = [one["id"] for one in customers.api(red, path="/models").json()["data"]]
    assert "byo-openai-gpt-4o" in names
    assert "byo-openai-gpt-4o" not in [one["id"] for one in customers.api(blue, path="/models").json()["data"]]
    assert customers.api(blue, path="/models/byo-openai-gpt-4o").status_code == 404
    assert customers.api(red, path="/models/byo-openai-gpt-4o").status_code == 200
    assert customers.api(blue).json()["data"] == []
    client = sdk(opened, customers, blue)
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
    assert caught.value.code == "model_not_available"
    assert customers.world.provider.requests == []

    assert customers.register(blue, key=BLUE_KEY).status_code == 201
    client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
    sdk(opened, customers, red).chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
    sent = [seen.header("authorization") for seen in customers.world.provider.requests]
    assert sent == [f"Bearer {BLUE_KEY}", f"Bearer {CUSTOMER_KEY}"]
    connections = [seen.connection for seen in customers.world.provider.requests]
    assert len(set(connections)) == 2


def test_a_cap_on_list_cost_counts_it_and_refuses_when_exhausted(customers: Customers, opened: ExitStack) -> None:
    """402 once what it cost at list is used up; nothing was charged all the while."""
    key = customers.key("listed")
    customers.register(key)
    client = sdk(opened, customers, key)
    usage = {"prompt_tokens": 10, "completion_tokens": 900, "total_tokens": 910}
    customers.world.provider.default = Behaviour(usage=usage)
    served = 0
    with pytest.raises(openai.APIStatusError) as caught:
        for _ in range(20):
            client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO, max_tokens=1000)
            served += 1
    assert (caught.value.status_code, caught.value.code) == (402, "quota_exhausted")
    assert 0 < served < 20
    assert open_holds(customers.world) == 0
    assert float(customers.spend("team")["listed"]["charged_usd"]) == 0


def test_a_cap_on_list_cost_refuses_what_has_no_list_price(customers: Customers, opened: ExitStack) -> None:
    """It could not count it."""
    key = customers.key("listed")
    customers.register(key, alias="byo-unheard", model="gpt-unheard-of")
    with pytest.raises(openai.BadRequestError) as caught:
        sdk(opened, customers, key).chat.completions.create(model="byo-unheard", messages=HELLO)
    assert caught.value.code == "unbounded_cost"
    assert customers.world.provider.requests == []


def test_a_cap_on_what_is_charged_does_not_count_it(customers: Customers, opened: ExitStack) -> None:
    """A cap that no paid call fits under lets a hundred of these through."""
    key = customers.key("charged")
    customers.register(key)
    client = sdk(opened, customers, key)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.code == "quota_exhausted"
    for _ in range(5):
        client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
    assert len(customers.world.provider.requests) == 5


def test_rotation_by_api_and_by_command(customers: Customers, opened: ExitStack) -> None:
    """The new key is used at once, or within a second where another process made the change."""
    key = customers.key("red")
    customers.register(key, key=NEW_KEY)
    client = sdk(opened, customers, key)

    def sent() -> str | None:
        client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
        return customers.world.provider.requests[-1].header("authorization")

    assert sent() == f"Bearer {NEW_KEY}"
    body = {"alias": "byo-openai-gpt-4o", "key": CUSTOMER_KEY}
    assert customers.api(key, "POST", "/byo/keys/rotate", json=body).status_code == 200
    assert sent() == f"Bearer {CUSTOMER_KEY}"
    file = customers.world.gateway.folder / "new-key.txt"
    file.write_text(NEW_KEY + "\n")
    customers.world.gateway.cli(
        "byo", "rotate", "--team", "red", "--alias", "byo-openai-gpt-4o", "--key-file", str(file)
    )
    file.unlink()
    until(lambda: sent() == f"Bearer {NEW_KEY}")


def test_encryption_keys_are_rotated_under_a_running_proxy(customers: Customers, opened: ExitStack) -> None:
    """New key first, reload; everything encrypted anew; old key away, reload: the alias is served all the while."""
    key = customers.key("red")
    customers.register(key)
    client = sdk(opened, customers, key)
    gateway = customers.world.gateway
    config, before = gateway.folder / "config.yaml", gateway.log().count('"reloaded"')
    (gateway.folder / "new.key").write_text(new_key())
    original = config.read_text()

    def reload(keys: list[str], count: int) -> None:
        whole = yaml.safe_load(original)
        whole["byo"]["keys"] = keys
        config.write_text(yaml.safe_dump(whole))
        gateway.signal(signal.SIGHUP)
        until(lambda: gateway.log().count('"reloaded"') >= before + count)
        assert client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO).choices

    reload(["file:new.key", "${TOLLWAY_BYO_KEY}"], 1)
    done = json.loads(gateway.cli("byo", "rotate-key", "--json").stdout)
    assert (done["encrypted"] >= 1, done["unreadable"]) == (True, [])
    reload(["file:new.key"], 2)
    reload(["${TOLLWAY_BYO_KEY}", "file:new.key"], 3)
    gateway.cli("byo", "rotate-key")
    config.write_text(original)
    gateway.signal(signal.SIGHUP)
    until(lambda: gateway.log().count('"reloaded"') >= before + 4)
    assert client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO).choices
    (gateway.folder / "new.key").unlink()


def test_a_key_that_the_provider_refuses_is_told_to_its_owner(customers: Customers, opened: ExitStack) -> None:
    """502 that says whose key it is, every time: no circuit opens, the operator's own calls go on."""
    key = customers.key("red")
    customers.register(key, key="sk-customer-CANARY-revoked-0000")
    client = sdk(opened, customers, key)
    for _ in range(8):
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")
        assert "your team registered for 'byo-openai-gpt-4o'" in caught.value.message
        assert "CANARY" not in caught.value.response.text
    assert client.chat.completions.create(model="gpt-4o", messages=HELLO).choices[0].message.content == TEXT
    body = {"alias": "byo-openai-gpt-4o", "key": CUSTOMER_KEY}
    customers.api(key, "POST", "/byo/keys/rotate", json=body)
    assert client.chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO).choices


def test_one_customers_trouble_is_nobody_elses(customers: Customers, opened: ExitStack) -> None:
    """Failures behind red's alias leave blue's, and the operator's own model, served."""
    red, blue = customers.key("red"), customers.key("blue")
    customers.register(red, alias="byo-a")
    customers.register(blue, alias="byo-b", key=BLUE_KEY)
    client = sdk(opened, customers, red)
    customers.world.provider.default = Behaviour(status=500)
    for _ in range(12):
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="byo-a", messages=HELLO)
    customers.world.provider.reset()
    for caller, name in ((blue, "byo-b"), (red, "gpt-4o")):
        assert sdk(opened, customers, caller).chat.completions.create(model=name, messages=HELLO).choices


def test_a_providers_words_lose_the_key_they_quote(customers: Customers, opened: ExitStack) -> None:
    """An error that repeats the customer's key reaches the client without it."""
    key = customers.key("red")
    customers.register(key)
    quoting = json.dumps({"error": {"message": f"bad request with key {CUSTOMER_KEY}", "type": "x"}}).encode()
    customers.world.provider.default = Behaviour(status=400, body=quoting)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk(opened, customers, key).chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
    assert "bad request with key" in caught.value.response.text
    assert CUSTOMER_KEY not in caught.value.response.text


def test_removed_by_command_is_gone_within_a_second(customers: Customers) -> None:
    """For the API, for the list of models."""
    key = customers.key("red")
    customers.register(key)
    customers.world.gateway.cli("byo", "remove", "--team", "red", "--alias", "byo-openai-gpt-4o")
    until(lambda: customers.api(key, path="/models/byo-openai-gpt-4o").status_code == 404)
    assert customers.api(key).json()["data"] == []


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer lld_" + "0" * 32}, {"authorization": "Bearer sk-x"}])
def test_nobody_registers_without_a_key_of_ours(customers: Customers, headers: dict[str, str]) -> None:
    """401."""
    for method in ("GET", "POST", "DELETE"):
        answer = httpx.request(method, f"{customers.world.base_url}/byo/keys", headers=headers, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_large_registration_is_not_read(customers: Customers) -> None:
    """413 past 16 KB."""
    answer = customers.register(customers.key("red"), alias="byo-" + "a" * (17 << 10))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")


def test_no_secret_is_written_anywhere(customers: Customers, opened: ExitStack) -> None:
    """Log, audit, database, answers: after everything above, and a refused registration, ciphertext only."""
    key = customers.key("red")
    customers.register(key)
    listing = customers.api(key).text
    customers.register(key, key=CUSTOMER_KEY + " with a space")
    customers.register(key, alias="not-byo", key=NEW_KEY)
    with pytest.raises(openai.APIStatusError):
        customers.world.provider.keys = frozenset({OPENAI_KEY})
        sdk(opened, customers, key).chat.completions.create(model="byo-openai-gpt-4o", messages=HELLO)
    command = customers.world.gateway.cli("byo", "list", "--all").stdout
    assert '"byo_registered"' in customers.world.gateway.log()
    folder = customers.world.gateway.folder
    files = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    assert any(path.name == "tollway.db" for path in files)
    assert any(path.name == "audit.jsonl" for path in files)
    for secret in (*SECRETS, customers.encryption_key, "CANARY"):
        assert secret not in listing
        assert secret not in command
        for path, content in files.items():
            assert secret.encode() not in content, path
    with closing(sqlite3.connect(folder / "var" / "tollway.db")) as connection:
        sealed = [row[0] for row in connection.execute("SELECT sealed FROM byo_registrations WHERE revoked_ms IS NULL")]
    assert sealed and all(blob.startswith(b"gAAAA") for blob in sealed)
