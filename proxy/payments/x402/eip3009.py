"""The token's side of EIP-3009: calls to it, what its events say, and why it refuses.

A transfer counts where the very same event pair stands in a receipt: `AuthorizationUsed` of this payer and nonce, and
as the token's next event the `Transfer` of exactly this amount from the payer to us. The pair matters: one transaction
may use several authorizations, and the payer may have signed the same nonce towards somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from eth_hash.auto import keccak

from proxy.payments.x402 import rpc
from proxy.payments.x402.abi import decoded, encode, selector
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.rpc import NodeFailure

TRANSFER_EVENT: Final = keccak(b"Transfer(address,address,uint256)")
USED_EVENT: Final = keccak(b"AuthorizationUsed(address,bytes32)")
CANCELLED_EVENT: Final = keccak(b"AuthorizationCanceled(address,bytes32)")
LOGS_MAX: Final = 10_000
"""Of one receipt that are looked at."""
_MESSAGE: Final = ("address", "address", "uint256", "uint256", "uint256", "bytes32")
_ERROR: Final = keccak(b"Error(string)")[:4]
PLAIN_SIGNATURE_BYTES: Final = 65


_BY_KEY: Final = selector(f"transferWithAuthorization({','.join(_MESSAGE)},uint8,bytes32,bytes32)")
_BY_BYTES: Final = selector(f"transferWithAuthorization({','.join(_MESSAGE)},bytes)")
_BALANCE: Final = selector("balanceOf(address)")
_STATE: Final = selector("authorizationState(address,bytes32)")


def transfer_call(authorization: Authorization, signature: bytes) -> bytes:
    """`transferWithAuthorization`: by v, r, s where the signature is a key's 65 bytes, by `bytes` else."""
    message = (
        authorization.payer,
        authorization.pay_to,
        authorization.value,
        authorization.valid_after,
        authorization.valid_before,
        authorization.nonce,
    )
    if len(signature) == PLAIN_SIGNATURE_BYTES:
        parts = (signature[64], signature[:32], signature[32:64])
        return _BY_KEY + encode((*_MESSAGE, "uint8", "bytes32", "bytes32"), (*message, *parts))
    return _BY_BYTES + encode((*_MESSAGE, "bytes"), (*message, signature))


def signature_in(call: bytes) -> bytes | None:
    """The signature that a direct call of `transferWithAuthorization` carries; None where it is no such call."""
    if call[:4] == _BY_KEY:
        values = decoded((*_MESSAGE, "uint8", "bytes32", "bytes32"), call[4:])
        return None if values is None else values[-2] + values[-1] + bytes((values[-3],))
    if call[:4] == _BY_BYTES:
        values = decoded((*_MESSAGE, "bytes"), call[4:])
        return None if values is None else bytes(values[-1])
    return None


def balance_call(holder: str) -> bytes:
    """`balanceOf`."""
    return _BALANCE + encode(("address",), (holder,))


def state_call(authorization: Authorization) -> bytes:
    """`authorizationState`."""
    return _STATE + encode(("address", "bytes32"), (authorization.payer, authorization.nonce))


def number(word: bytes) -> int:
    """The one number, or truth, that a function gave back. Raises NodeFailure."""
    if len(word) != 32:
        raise NodeFailure("the token's answer is not one number", sent=True)
    return int.from_bytes(word)


def topic_of(address: str) -> str:
    """An address as an indexed member of an event."""
    return "0x" + address[2:].lower().rjust(64, "0")


@dataclass(frozen=True, slots=True)
class Event:
    """One log of a receipt, of whatever contract."""

    address: str
    """Lower case."""
    topics: tuple[bytes, ...]
    data: bytes
    index: int


def events_of(receipt: Any) -> tuple[Event, ...]:
    """A receipt's logs, in their order. Raises NodeFailure for what is no receipt, or one of too many logs."""
    logs = rpc.items(rpc.member(receipt, "logs"))
    if len(logs) > LOGS_MAX:
        raise NodeFailure(f"a transaction with more than {LOGS_MAX} events is not looked at", sent=True)
    events = [
        Event(
            address=str(rpc.member(log, "address")).lower(),
            topics=tuple(rpc.data(topic) for topic in rpc.items(rpc.member(log, "topics"))),
            data=rpc.data(rpc.member(log, "data")),
            index=rpc.quantity(rpc.member(log, "logIndex")),
        )
        for log in logs
    ]
    return tuple(sorted(events, key=lambda event: event.index))


def pays(events: Sequence[Event], authorization: Authorization) -> bool:
    """Whether these events, of one transaction, are this authorization's payment to us, exactly."""
    own = [event for event in events if event.address == authorization.asset.address.lower()]
    used = (USED_EVENT, _word(authorization.payer), authorization.nonce)
    paid = (TRANSFER_EVENT, _word(authorization.payer), _word(authorization.pay_to))
    return any(
        first.topics == used and second.topics == paid and second.data == authorization.value.to_bytes(32)
        for first, second in pairwise(own)
    )


def transferred(events: Sequence[Event], *, asset: str, payer: str, pay_to: str) -> int:
    """All that went from `payer` to `pay_to` in a transaction, in the token's smallest unit."""
    wanted = (TRANSFER_EVENT, _word(payer), _word(pay_to))
    return sum(
        int.from_bytes(event.data)
        for event in events
        if event.address == asset.lower() and event.topics == wanted and len(event.data) == 32
    )


def uses_authorization(events: Sequence[Event], asset: str) -> bool:
    """Whether a transaction used any signed authorization of this token."""
    return any(event.address == asset.lower() and event.topics[:1] == (USED_EVENT,) for event in events)


def reason_of(message: str, returned: bytes) -> str:
    """Why the token refuses a transfer: the x402 specification's reason code, `""` where its words are not known."""
    said = message.lower()
    if returned[:4] == _ERROR and (values := decoded(("bytes",), returned[4:])) is not None:
        said += " " + values[0].decode(errors="replace").lower()
    return next((reason for words, reason in _REASONS for word in words if word in said), "")


_REASONS: Final = (
    (("authorization is expired", "authorizationexpired"), "invalid_exact_evm_payload_authorization_valid_before"),
    (
        ("authorization is not yet valid", "authorizationnotyetvalid"),
        "invalid_exact_evm_payload_authorization_valid_after",
    ),
    (
        ("authorization is used", "authorizationalreadyused", "authorizationusedorcanceled"),
        "invalid_exact_evm_nonce_already_used",
    ),
    (("exceeds balance", "erc20insufficientbalance"), "invalid_exact_evm_insufficient_balance"),
    (("invalid signature", "signermismatch", "invalidsignature"), "invalid_exact_evm_payload_signature"),
)
"""Words of USDC 2.2 and of common implementations, as the x402 SDK reads them."""


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
