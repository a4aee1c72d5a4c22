"""/v1/byo/keys, called in process, and the guard against aliases that lead back to a proxy like this one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.byo.plugin import ByoPlugin, ByoSettings
from proxy import addresses
from proxy.byo import ByoStore
from proxy.config.schema import Generation
from proxy.endpoints import bridge
from proxy.endpoints.public import application
from proxy.errors import Refusal
from proxy.exchange import Request, Response
from proxy.headers import Headers
from proxy.identities import Identity, IdentityKind
from proxy.operations import LOCAL
from tests.byo.making import SECRET, configured, wanted
from tests.support.fakes import Body, FakeClock, Log, Rest, exchange, identity

RED = identity(team="red", key_id="key_red")
BLUE = identity(team="blue", key_id="key_blue")
GPT = {"alias": "byo-gpt", "upstream": "openai", "model": "gpt-4o", "key": SECRET}


class Api:
    """The plugin with a store of its own."""

    def __init__(self, folder: Path, under: Generation, **settings: Any) -> None:
        self.under, self.log = under, Log()
        self.store = ByoStore(folder / "tollway.db", FakeClock(), under)
        services: Any = SimpleNamespace(byo=self.store, log=self.log)
        self.plugin = ByoPlugin(ByoSettings(**settings), services)
        router = self.plugin.router()
        self._app = application("test", [] if router is None else [router])

    async def call(
        self,
        method: str,
        path: str = "/v1/byo/keys",
        *,
        caller: Identity | None = RED,
        body: Mapping[str, Any] | bytes = b"",
        query: str = "",
        content_type: str = "application/json",
    ) -> Response:
        """One request of `caller`."""
        seen = exchange(operation=LOCAL, under=self.under)
        seen.identity = caller
        raw = body if isinstance(body, bytes) else json.dumps(dict(body)).encode()
        headers = Headers({"content-type": content_type})
        seen.request = Request(method=method, path=path, query=query, headers=headers, reader=Body(raw))
        return await bridge.call(self._app, seen)

    async def register(self, caller: Identity = RED, **changes: Any) -> Response:
        """POST what `GPT` says."""
        body = {key: value for key, value in (GPT | changes).items() if value is not None}
        return await self.call("POST", caller=caller, body=body)

    async def listed(self, caller: Identity = RED) -> list[dict[str, Any]]:
        """GET."""
        answer = await self.call("GET", caller=caller)
        assert answer.status == 200
        found: list[dict[str, Any]] = json.loads(answer.body)["data"]
        return found


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, configured())
    with closing(made.store):
        yield made


def error_of(answer: Response) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)["error"]
    return found


async def test_a_registration_is_told_without_its_key(api: Api) -> None:
    """201, a hint of four characters, and the model is there at once."""
    answer = await api.register()
    assert answer.status == 201
    entry = json.loads(answer.body)
    assert {key: entry[key] for key in ("object", "alias", "upstream", "base_url", "model", "key_hint")} == {
        "object": "byo.key", "alias": "byo-gpt", "upstream": "openai", "base_url": None, "model": "gpt-4o",
        "key_hint": SECRET[-4:],
    }  # fmt: skip
    assert (entry["available"], entry["rotated"]) == (True, None)
    assert await api.listed() == [entry]
    found = api.store.model("red", "byo-gpt")
    assert found is not None and found.candidates[0].endpoint is not None
    assert found.candidates[0].endpoint.key == SECRET
    assert SECRET.encode() not in answer.body


async def test_teams_do_not_see_each_other(api: Api) -> None:
    """Not listed, not rotated, not removed, and no difference to an alias that is not there."""
    await api.register()
    assert await api.listed(BLUE) == []
    rotation = {"alias": "byo-gpt", "key": "sk-evil-0123456789"}
    for answer in (
        await api.call("POST", "/v1/byo/keys/rotate", caller=BLUE, body=rotation),
        await api.call("DELETE", caller=BLUE, query="alias=byo-gpt"),
    ):
        assert (answer.status, error_of(answer)["code"]) == (404, "not_found")
    assert (await api.register(BLUE)).status == 201
    found = api.store.model("red", "byo-gpt")
    assert found is not None and found.candidates[0].endpoint is not None
    assert found.candidates[0].endpoint.key == SECRET


async def test_rotation_and_removal(api: Api) -> None:
    """The alias keeps its id; afterwards it is gone."""
    made = json.loads((await api.register()).body)
    body = {"alias": "byo-gpt", "key": "sk-rotated-0123456789"}
    answer = await api.call("POST", "/v1/byo/keys/rotate", body=body)
    assert answer.status == 200
    rotated = json.loads(answer.body)
    assert (rotated["id"], rotated["key_hint"]) == (made["id"], "6789")
    assert rotated["rotated"] is not None
    answer = await api.call("DELETE", query="alias=byo-gpt")
    assert json.loads(answer.body) == {
        "id": made["id"], "object": "byo.key", "alias": "byo-gpt", "deleted": True,
    }  # fmt: skip
    assert await api.listed() == []
    assert api.store.model("red", "byo-gpt") is None


CALLS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("GET", "/v1/byo/keys", "", {}),
    ("POST", "/v1/byo/keys", "", GPT),
    ("POST", "/v1/byo/keys", "", {"nonsense": 1}),
    ("DELETE", "/v1/byo/keys", "alias=byo-gpt", {}),
    ("POST", "/v1/byo/keys/rotate", "", {"alias": "byo-gpt", "key": "sk-evil-0123456789"}),
]
NOBODY = [
    None,
    identity(kind=IdentityKind.ANONYMOUS, team="red"),
    identity(kind=IdentityKind.OWN_KEY, team="red", provider_credential=True),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]}")
@pytest.mark.parametrize("caller", NOBODY, ids=["nobody", "anonymous", "own-key"])
async def test_only_a_key_of_ours_may(api: Api, call: tuple[str, str, str, Any], caller: Identity | None) -> None:
    """401 before anything is looked at, and nothing has changed."""
    await api.register()
    method, path, query, body = call
    answer = await api.call(method, path, caller=caller, query=query, body=body)
    assert (answer.status, error_of(answer)["code"]) == (401, "invalid_api_key")
    assert [one["alias"] for one in await api.listed()] == ["byo-gpt"]


async def test_tiers_may_be_kept_from_it(tmp_path: Path) -> None:
    """They see what they have and change nothing; the tiers named may."""
    api = Api(tmp_path, configured(), tiers=("pro", "founder"))
    with closing(api.store):
        answer = await api.register()
        assert (answer.status, error_of(answer)["code"]) == (403, "policy_denied")
        assert "founder" in error_of(answer)["message"]
        assert await api.listed() == []
        assert (await api.register(replace(RED, tier="pro"))).status == 201


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"alias": "gpt"}, "alias"),
    ({"alias": None}, "alias"),
    ({"alias": 5}, "alias"),
    ({"model": ""}, "model"),
    ({"key": "short"}, "key"),
    ({"key": None}, "key"),
    ({"key": ["sk-CANARY-0123456789"]}, "key"),
    ({"key": "sk-CANARY with spaces 0123456789"}, "key"),
    ({"key": "lld_" + "0" * 32}, "key"),
    ({"upstream": "nobody"}, "upstream"),
    ({"upstream": None}, "upstream"),
    ({"base_url": "https://llm.example.com"}, "upstream"),
    ({"upstream": None, "base_url": "http://llm.example.com"}, "base_url"),
    ({"upstream": None, "base_url": "https://127.0.0.1/v1"}, "base_url"),
    ({"upstream": None, "base_url": "https://user:pass@llm.example.com"}, "base_url"),
    ({"operations": ["fine-tuning"]}, "operations"),
    ({"operations": ["chat.completions"] * 9}, "operations"),
    ({"credential_header": "cookie"}, "credential_header"),
    ({"no_such_member": True}, "no_such_member"),
]


@pytest.mark.parametrize(("changes", "param"), INVALID)
async def test_what_cannot_be_registered_is_refused_by_its_member(
    api: Api, changes: dict[str, Any], param: str
) -> None:
    """400 in our envelope, and nothing of a key in it."""
    answer = await api.register(**changes)
    assert answer.status == 400
    error = error_of(answer)
    assert (error["code"], error["type"]) == ("invalid_request", "invalid_request_error")
    assert (error["param"] or "").split(".")[0] == param
    assert b"CANARY" not in answer.body
    assert api.store.registrations() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b'{"alias":"byo-x","key":"sk-CANARY'])
async def test_a_body_that_is_no_object_is_refused(api: Api, body: bytes) -> None:
    """400, not repeated."""
    answer = await api.call("POST", body=body)
    assert (answer.status, error_of(answer)["code"]) == (400, "invalid_request")
    assert b"CANARY" not in answer.body


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_only_json_is_taken(api: Api, content_type: str) -> None:
    """415 for what a form on a web page could send."""
    with pytest.raises(Refusal) as caught:
        await api.call("POST", body=GPT, content_type=content_type)
    assert caught.value.code == "unsupported_media_type"
    assert api.store.registrations() == []


async def test_a_large_body_is_not_read(api: Api) -> None:
    """16 KB."""
    with pytest.raises(Refusal) as caught:
        await api.call("POST", body=b" " * (16 << 10) + b"{}")
    assert caught.value.code == "payload_too_large"


async def test_a_base_url_that_leads_inside_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is looked up before anything is stored."""

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        return [addresses.ipaddress.ip_address("10.0.0.1")]

    monkeypatch.setattr(addresses, "resolve", resolve)
    answer = await api.register(upstream=None, base_url="https://llm.example.com/v1")
    assert (answer.status, error_of(answer)["param"]) == (400, "base_url")
    assert b"10.0.0.1" not in answer.body
    assert api.store.registrations() == []


async def test_a_public_base_url_is_registered(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And shown to its team."""

    async def resolve(host: str, port: int, **_: Any) -> list[addresses.Address]:
        return [addresses.ipaddress.ip_address("1.1.1.1")]

    monkeypatch.setattr(addresses, "resolve", resolve)
    answer = await api.register(upstream=None, base_url="https://llm.example.com/v1", credential_header="x-api-key")
    assert answer.status == 201
    entry = json.loads(answer.body)
    assert (entry["upstream"], entry["base_url"]) == (None, "https://llm.example.com/v1")


async def test_an_alias_that_is_taken_and_one_too_many_conflict(tmp_path: Path) -> None:
    """409 with what to do."""
    api = Api(tmp_path, configured(registrations_max=1))
    with closing(api.store):
        await api.register()
        for answer in (await api.register(), await api.register(alias="byo-other")):
            assert (answer.status, error_of(answer)["code"]) == (409, "conflict")


async def test_a_proxy_without_an_encryption_key_says_so(tmp_path: Path) -> None:
    """Nothing is stored in the clear instead."""
    api = Api(tmp_path, configured(keys=()))
    with closing(api.store):
        answer = await api.register()
        assert (answer.status, error_of(answer)["code"]) == (404, "not_found")
        assert "operator" in error_of(answer)["message"]
        assert await api.listed() == []


async def test_an_unusable_registration_says_why(api: Api) -> None:
    """In the list; the key can be registered again."""
    await api.register()
    api.store.follow(configured())
    (entry,) = await api.listed()
    assert entry["available"] is False
    assert "cannot be read" in entry["reason"]


async def test_a_file_that_cannot_be_written_is_a_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Retry-After, and nothing of SQLite's words."""

    def fail(*_: Any) -> Any:
        raise sqlite3.OperationalError("database is locked at /var/lib")

    monkeypatch.setattr(api.store, "add", fail)
    answer = await api.register()
    assert (answer.status, error_of(answer)["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert b"/var" not in answer.body


async def test_every_change_is_logged_without_the_key(api: Api) -> None:
    """Who, what, which team."""
    await api.register()
    await api.call("POST", "/v1/byo/keys/rotate", body={"alias": "byo-gpt", "key": "sk-rotated-0123456789"})
    await api.call("DELETE", query="alias=byo-gpt")
    assert api.log.names() == ["byo_registered", "byo_rotated", "byo_removed"]
    for _, _, fields in api.log.events:
        assert (fields["team"], fields["alias"], fields["by"]) == ("red", "byo-gpt", "key_red")
    assert SECRET not in repr(api.log.events)
    assert "sk-rotated" not in repr(api.log.events)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_other_methods_are_refused(api: Api, method: str) -> None:
    """405 in our envelope."""
    answer = await api.call(method)
    assert (answer.status, error_of(answer)["code"]) == (405, "method_not_allowed")


async def test_an_alias_that_leads_back_here_is_refused(api: Api) -> None:
    """A call that a proxy like this one made for a customer's base URL reaches no alias of ours."""
    api.store.add("red", wanted(api.under))
    seen = exchange(under=api.under, headers={"via": "1.0 cdn, 1.1 Tollway"})
    seen.identity, seen.model = RED, api.store.model("red", "byo-gpt")
    rest = Rest()
    with pytest.raises(Refusal, match="leads back"):
        await api.plugin(seen, rest)
    assert rest.seen == []


@pytest.mark.parametrize("via", ["", "1.1 varnish"])
async def test_other_calls_pass(api: Api, via: str) -> None:
    """Aliases through other proxies, and every other model."""
    api.store.add("red", wanted(api.under))
    for found in (api.store.model("red", "byo-gpt"), api.under.models["gpt-4o"], None):
        seen = exchange(under=api.under, headers={"via": via})
        seen.identity, seen.model = RED, found
        rest = Rest()
        assert (await api.plugin(seen, rest)).status == 200
        assert rest.seen == [seen]
