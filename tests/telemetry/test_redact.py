"""Nothing secret and nothing a caller wrote reaches the log, whatever shape it comes in."""

from __future__ import annotations

import base64
import json
import time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from proxy.telemetry.redact import DEPTH_MAX, ITEMS_MAX, REDACTED, TEXT_CHARS_MAX, escape, redact, redact_text, withheld

HEX32 = "0123456789abcdef0123456789abcdef"
HEX64 = HEX32 + "fedcba9876543210fedcba9876543210"
MACAROON = "AgEJbGxtNDAyLmFpAkIAAPYL1NzQ9mwGqS0QAAIXUmVxdWVzdFBhdGgg"

CREDENTIALS = [
    f"lld_{HEX32}",
    f"acme_{HEX32}",
    "bal_Zk3JqP0v8sTnXy",
    "sk-proj-AbCdEf0123456789AbCdEf0123456789",
    "sk-ant-api03-AbCdEf_0123456789-AbCdEf0123456789AA",
    "sk-or-v1-0123456789abcdef",
    "gsk_AbCdEf0123456789AbCdEf01",
    "AIzaSyA0123456789abcdefghijklmnopqrstu",
    "xai-AbCdEf0123456789",
    "nvapi-AbCdEf0123456789-AbCdEf",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWhlcmU",
    "cashuBo2FteCJodHRwczovL21pbnQuZXhhbXBsZQ",
    MACAROON,
    f"{MACAROON}:{HEX64}",
    "MDAxN2xvY2F0aW9uIGxsbTQwMi5haQowMDJkaWRlbnRpZmllciA",
    "0x" + HEX64 + HEX64 + "1b",
    base64.b64encode(json.dumps({"x402Version": 2, "payload": {"signature": HEX64}}, indent=2).encode()).decode(),
    base64.b64encode(b'{ "challenge": {"id": "' + HEX64.encode() + b'"}}').decode(),
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAbCdEf\n-----END EC PRIVATE KEY-----",
]
SURROUNDINGS = [
    "{}",
    "call failed for {} after 3 attempts",
    "{},",
    '"{}"',
    "(key={})",
    "[b'x-trace', b'{}']",
    "https://host/path?x=1&y={}#z",
    "https://user:{}@host:8403/",
    '{{"a": {{"b": "{}"}}}}',
]


def leaks(secret: str, shown: object) -> bool:
    """Whether any 12 characters of the secret stand in what is shown."""
    text = json.dumps(shown, default=str)
    return any(secret[at : at + 12] in text for at in range(len(secret) - 11))


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("secret", CREDENTIALS)
def test_credential_in_any_text_is_redacted(secret: str, surrounding: str) -> None:
    """Known by its shape alone, wherever it stands."""
    assert not leaks(secret, redact(surrounding.format(secret)))


@pytest.mark.parametrize("secret", CREDENTIALS)
def test_credential_deep_in_a_structure_is_redacted(secret: str) -> None:
    """In lists, tuples, names of members and exceptions."""
    value = {"a": [{"b": (secret, {"c": secret})}], secret: 1, "error": ValueError(f"bad key {secret}")}

    assert not leaks(secret, redact(value))


@pytest.mark.parametrize(
    "text",
    [
        "authorization: Bearer CANARY-opaque",
        "Authorization: Basic CANARYdXNlcjpwYXNz",
        "{'authorization': 'Bearer CANARY.opaque'}",
        '{"Proxy-Authorization": "Basic CANARYopaque=="}',
        "[(b'Authorization', b'Bearer CANARYopaque'), (b'Host', b'x')]",
        "[('x-api-key', 'CANARYopaque')]",
        "X-API-Key: CANARYopaque",
        "x-api-key=CANARYopaque",
        "curl -H 'X-API-Key: CANARYopaque' http://x",
        "?api_key=CANARYopaque&model=m",
        "https://host/v1beta/models?key=CANARYopaque",
        "http://CANARYopaque@proxy:8403",
        "http://CANARYopaque:@proxy:8403",
        "Authorization: L402 CANARYmac:0011",
        'WWW-Authenticate: L402 macaroon="CANARYopaque", invoice="lnbc1"',
        "preimage=CANARY00112233",
        "payment_preimage: 'CANARY00112233'",
        "signature=CANARY0xabc",
        "PAYMENT-SIGNATURE: CANARYopaque",
        'Authorization: Payment id="CANARYopaque"',
        'Authorization: L402 token="x", preimage="CANARYopaque"',
        "X-Cashu: CANARYopaque",
        "Cookie: CANARYopaque",
        "aws_secret_access_key = CANARY/opaque+x",
        "password=CANARYopaque",
        'client_secret\\": \\"CANARYopaque\\"',
        "refresh_token: CANARYopaque",
        "bearer CANARYopaque",
        "rune: CANARYopaque==",
        "{'signer_key': '0xCANARYopaque'}",
        "nostr+walletconnect://ab?relay=wss%3A%2F%2Fr&secret=CANARYopaque",
        "https://base-mainnet.example/v2/CANARYopaque0123456789abcdef",
        "https://mainnet.example/v3/CANARYopaque0123456789abcdef failed",
    ],
)
def test_value_beside_a_secret_name_in_text_is_redacted(text: str) -> None:
    """A value without a shape of its own is known by the word before it."""
    assert "CANARY" not in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": [{"role": "user", "content": "CANARY"}]}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":"a \\" CANARY"}]}]}',
        "{'content': 'it\\'s CANARY'}",
        "{'content': \"it's CANARY\"}",
        '{"content": "cut off CANARY',
        '{"content": "ends in a backslash CANARY\\',
        '{"input": ["one", "two ] CANARY", "three"]}',
        '{"prompt":"CANARY"}',
        '{"instructions" : "CANARY"}',
        '{"function": {"arguments": "{\\"city\\": \\"CANARY\\"}"}}',
        '\'{\\"content\\": \\"say \\\\\\"x\\\\\\" CANARY\\"}\'',
        '{"system": "CANARY\n\nmore"}',
    ],
)
def test_content_within_text_is_redacted(text: str) -> None:
    """Prompts and answers do not get in by way of a repr or an error message."""
    assert "CANARY" not in redact_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "x-api-key", "api_key", "key", "token", "password", "preimage", "macaroon",
        "signature", "payment-signature", "client_secret", "proxy_credential", "set-cookie", "prompt", "content",
        "messages", "input", "body", "response_body", "text", "x-goog-api-key", "rune", "signer_key", "rpc", "X-Cashu",
        "X-Cashu-Change", "x-payment", "poll_secret", "blinding", "claim", "ecash", "grpc-metadata-macaroon",
    ],
)  # fmt: skip
def test_field_with_a_telling_name_loses_its_value(name: str) -> None:
    """Whatever the value looks like, at any depth, in text or structure."""
    assert withheld(name)
    assert {"outer": {name: REDACTED}} == redact({"outer": {name: "CANARY"}})
    assert {name: REDACTED} == redact({name: [{"deep": "CANARY"}]})
    assert {name: REDACTED} == redact({name: b"CANARY"})


def test_what_an_operator_needs_stays_readable() -> None:
    """Ids, names, numbers and ordinary sentences are left alone."""
    event: dict[str, Any] = {
        "event": "soft_cap_crossed",
        "request_id": "req_01m7y58pgx0w9zvghcjchrgrr5",
        "key_id": "key_01m7y58pgx0w9zvg",
        "model": "claude-sonnet-4.6",
        "upstream": "openai",
        "tokens": 12,
        "input_tokens": 4,
        "max_tokens": 50,
        "status": 429,
        "limit_nano": 5_000_000_000,
        "left": None,
        "served": True,
        "detail": "connect_failed: api.openai.com:443 refused the connection",
        "url": "https://api.openai.com/v1/chat/completions",
        "path": "/v1/messages",
        "digest": HEX64,
    }

    assert event == redact(event)


def test_bytes_are_shown_by_their_length() -> None:
    """Raw bytes may be anything."""
    assert redact({"frame": b"CANARY"}) == {"frame": "<6 bytes>"}


def test_unknown_objects_are_shown_by_their_type() -> None:
    """A repr is not trusted."""

    class Chatty:
        def __repr__(self) -> str:
            return "CANARY"

    assert "CANARY" not in redact({"object": Chatty()})["object"]


def test_plain_values_of_the_standard_library_are_shown() -> None:
    """Amounts, paths and enumerations are as useful as text."""

    class Colour(Enum):
        RED = "red"

    assert redact([Decimal("1.50"), Path("/var/log"), Colour.RED]) == ["1.50", "/var/log", "red"]


def test_validation_error_does_not_repeat_its_input() -> None:
    """pydantic quotes what it refused, which can be a prompt."""

    class Body(BaseModel):
        temperature: float

    with pytest.raises(ValidationError) as refused:
        Body.model_validate({"temperature": "CANARY, a prompt in the wrong place"})
    assert "CANARY" not in redact_text(str(refused.value))
    assert "temperature" in redact_text(str(refused.value))


def test_control_characters_are_made_visible() -> None:
    """No value forges a line, clears a screen or turns the reading direction."""
    shown = escape("a\r\nb\x1b[2Jc\x00d\x7fe\x9bf\u2028g\u202eh\ti")

    assert shown == "a\\r\\nb\\x1b[2Jc\\x00d\\x7fe\\x9bf\\u2028g\\u202eh\\ti"


def test_tracebacks_keep_their_line_ends_alone() -> None:
    """They are made to be read; CR stays escaped."""
    assert escape("a\nb\rc", lines=True) == "a\nb\\rc"


def test_long_text_deep_and_wide_structures_are_cut() -> None:
    """A log line has an upper bound."""
    deep: Any = "bottom"
    for _ in range(DEPTH_MAX + 3):
        deep = {"a": deep}

    assert len(redact("x" * 10 * TEXT_CHARS_MAX)) == TEXT_CHARS_MAX + 1
    assert "bottom" not in json.dumps(redact(deep))
    assert len(redact(list(range(1_000)))) == ITEMS_MAX + 1
    assert len(redact({str(number): 1 for number in range(1_000)})) == ITEMS_MAX + 1


@given(st.binary(min_size=12, max_size=64), st.text(max_size=40), st.sampled_from(["Bearer", "Basic", "L402"]))
def test_any_base64_after_a_scheme_is_redacted(secret: bytes, before: str, scheme: str) -> None:
    """Whatever stands before it."""
    encoded = base64.b64encode(secret).decode()

    assert encoded not in redact_text(f"{before} {scheme} {encoded} after")


@given(
    st.recursive(
        st.text() | st.integers() | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_becomes_json(value: Any) -> None:
    """Redaction never fails and what it returns can be written."""
    json.dumps(redact(value))


@pytest.mark.parametrize(
    "piece",
    [
        "a", "\\", "Bearer ", "eyJaaaaaaaaaaaaaa.", "://a:", "secret=", '"content":"', '"input": ["a",', " ",
        "gsk_aaaaaaaa-", "-----BEGIN PRIVATE KEY-----", "input_value=", '\\"content\\": \\"a\\\\\\" ',
        '"input": ["a"' + " " * 100,
    ],
)  # fmt: skip
def test_hostile_text_costs_little(piece: str) -> None:
    """No pattern runs away: a line of the longest text takes milliseconds of CPU, the limit leaves a factor of ten."""
    text = piece * (TEXT_CHARS_MAX // len(piece))
    before = time.process_time()
    redact_text(text)

    assert time.process_time() - before < 0.5
