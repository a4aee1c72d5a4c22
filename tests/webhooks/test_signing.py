"""The scheme of Standard Webhooks."""

from __future__ import annotations

import base64

from proxy.webhooks.signing import secret_text, signature, signed_headers

KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
MESSAGE = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_signature_is_that_of_the_reference_libraries() -> None:
    """Their own test vector."""
    assert signature(KEY, *MESSAGE) == SIGNED
    assert secret_text(KEY) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_while_a_secret_is_replaced_both_sign() -> None:
    """A receiver that knows either one accepts it."""
    headers = signed_headers([b"new", KEY], *MESSAGE)
    assert headers["webhook-signature"] == f"{signature(b'new', *MESSAGE)} {SIGNED}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (MESSAGE[0], "1614265330")


def test_everything_that_is_signed_matters() -> None:
    """Another id, time or body has another signature."""
    event, moment, body = MESSAGE
    others = [("msg_other", moment, body), (event, moment + 1, body), (event, moment, body + b" ")]
    assert len({signature(KEY, *other) for other in others} | {SIGNED}) == 4
