"""What a client sends is read strictly, and never ends in anything but a value or a refusal."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.payments.x402.payload import HEADER_CHARACTERS_MAX, SIGNATURE_BYTES_MAX, VALUE_MAX, Authorization, read
from proxy.payments.x402.verify import Verifier
from tests.support.x402 import NONCE, PAYER, Payload, encoded, settings


def refused(value: str, version: int = 2) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(value, version=version)
    assert caught.value.code == "x402_bad_payload"
    assert caught.value.status == 400
    assert "Payment-Required" in caught.value.message
    return caught.value


def test_payload_of_version_2_is_read():
    """Every member comes out typed, and the payload is kept as it was sent."""
    sent = read(Payload(extra={"resource": {"url": "/x"}}).header(), version=2)
    assert (sent.scheme, sent.network, sent.value, sent.valid_after) == ("exact", "eip155:8453", 3150, 0)
    assert (sent.payer, sent.nonce, len(sent.signature)) == (PAYER.address, NONCE, 65)
    assert sent.payload["resource"] == {"url": "/x"}


def test_payload_of_version_1_is_read():
    """It names scheme and network at its top and no token."""
    sent = read(Payload(version=1).header(), version=1)
    assert (sent.network, sent.accepted) == ("base", None)


def test_version_must_be_the_headers():
    """A payload of one version in the other's header is refused."""
    refused(Payload(version=1).header(), version=2)
    refused(Payload().header(), version=1)
    refused(encoded(Payload().document() | {"x402Version": True}))
    refused(encoded(Payload().document() | {"x402Version": 2.0}))


@pytest.mark.parametrize("value", ["", "%%%", "e30", "a,b", "é", "e30=\n", base64.b64encode(b"\xff\xfe").decode()])
def test_what_is_not_base64_of_json_is_refused(value):
    """Nothing is guessed: no other alphabet, no missing padding, no other text."""
    refused(value)


@pytest.mark.parametrize(
    "raw", [b"[]", b"1", b"null", b'"x"', b"{}", b"[" * 9000, b'{"a":' * 2000 + b"1" + b"}" * 2000]
)
def test_what_is_not_one_plain_object_is_refused(raw):
    """Neither other JSON nor deep nesting gets further."""
    refused(base64.b64encode(raw).decode())


def test_oversized_header_is_refused_before_it_is_decoded():
    """One character too many, and nothing is looked at."""
    assert "longer" in refused("A" * (HEADER_CHARACTERS_MAX + 1)).message


@pytest.mark.parametrize("place", ["top", "authorization", "escaped"])
def test_duplicate_keys_are_refused(place):
    """Two readers could take two different values."""
    text = json.dumps(Payload().document())
    if place == "top":
        text = text.replace('{"x402Version": 2', '{"x402Version": 2, "x402Version": 2')
    elif place == "authorization":
        text = text.replace('"value": "3150"', '"value": "3150", "value": "1"')
    else:
        text = text.replace('"value": "3150"', '"value": "3150", "v\\u0061lue": "1"')
    assert "twice" in refused(base64.b64encode(text.encode()).decode()).message


@pytest.mark.parametrize(
    "value",
    [
        3150,
        3150.0,
        "3150.0",
        "-1",
        "+1",
        " 1",
        "1e3",
        "0x10",
        "",
        "01",
        "١",
        None,
        True,
        [],
        str(VALUE_MAX + 1),
        "9" * 400,
    ],
)
def test_value_must_be_plain_decimal_text(value):
    """Floats, signs, exponents, other digits and what no ledger counts are refused."""
    refused(encoded(Payload(signature=bytes(65), authorization={"value": value}).document()))


@pytest.mark.parametrize("member", ["validAfter", "validBefore"])
@pytest.mark.parametrize("value", [1, "-1", "1.5", str(1 << 256), None])
def test_times_must_fit_the_tokens_type(member, value):
    """uint256 as decimal text, as the token has it."""
    refused(encoded(Payload(signature=bytes(65), authorization={member: value}).document()))


@pytest.mark.parametrize("nonce", ["0x" + "0" * 63, "0x" + "0" * 66, "0" * 64, 5, None, "0x" + "g" * 64])
def test_nonce_must_be_32_bytes(nonce):
    """0x and 64 hex digits."""
    refused(encoded(Payload(signature=bytes(65), authorization={"nonce": nonce}).document()))


@pytest.mark.parametrize("member", ["from", "to"])
@pytest.mark.parametrize("address", ["0x0", "833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 1, None, "0x" + "٣" * 40])
def test_addresses_must_be_20_bytes(member, address):
    """0x and 40 hex digits."""
    refused(encoded(Payload(signature=bytes(65), authorization={member: address}).document()))


@pytest.mark.parametrize("signature", ["0x", "0x1", "zz", None, 1, "0x" + "00" * (SIGNATURE_BYTES_MAX + 1)])
def test_signature_must_be_bounded_hex(signature):
    """A contract wallet's is long, but not as long as somebody likes."""
    document = Payload(signature=bytes(65)).document()
    document["payload"]["signature"] = signature
    refused(encoded(document))


@pytest.mark.parametrize("path", [("accepted",), ("payload",), ("payload", "authorization"), ("accepted", "extra")])
@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_objects_must_be_objects(path, value):
    """Everything else in their place is malformed."""
    document = Payload().document()
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    refused(encoded(document))


def test_permit2_is_told_apart():
    """A client that signed by another method learns which one is taken."""
    document = Payload().document()
    document["payload"] = {"permit2Authorization": {}, "signature": "0x00"}
    assert "EIP-3009" in refused(encoded(document)).message


def test_claim_is_no_part_of_what_a_facilitator_is_given():
    """It is for us alone."""
    sent = read(Payload(extra={"claim": "0x" + "01" * 65}).header(), version=2)
    assert sent.claim == b"\x01" * 65
    assert "claim" not in sent.payload


def test_authorization_survives_a_crash():
    """What is kept with a proof reads back as it was, and shows no signature in its repr."""
    authorization = Verifier(settings()).authorization(read(Payload(valid_before=(1 << 256) - 1).header(), version=2))
    assert Authorization.parse(authorization.json()) == authorization
    assert authorization.signature.hex() not in repr(authorization)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
PATHS = [
    ("x402Version",),
    ("accepted",),
    ("accepted", "asset"),
    ("accepted", "extra"),
    ("accepted", "amount"),
    ("payload",),
    ("payload", "signature"),
    ("payload", "authorization"),
    *(("payload", "authorization", key) for key in ("from", "to", "value", "validAfter", "validBefore", "nonce")),
    ("claim",),
]


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: base64.b64encode(raw).decode()))
def test_noise_is_refused(value):
    """No text makes anything but a refusal."""
    refused(value)


@given(st.sampled_from(PATHS), JSON, st.sampled_from([1, 2]))
def test_any_json_in_any_place_is_read_or_refused(path, value, version):
    """No JSON in any member makes anything but a value or a refusal, in parsing and in verification."""
    document = Payload(signature=bytes(64) + b"\x1b", version=version).document()
    holder = document
    for key in path[:-1]:
        if key not in holder:
            return
        holder = holder[key]
    holder[path[-1]] = value
    verifier = Verifier(settings(rpc={"eip155:8453": "https://rpc.example"}))
    try:
        verifier.authorization(read(base64.b64encode(json.dumps(document).encode()).decode(), version=version))
    except Refusal as refusal:
        assert refusal.code in {"x402_bad_payload", "x402_settlement_failed"}
