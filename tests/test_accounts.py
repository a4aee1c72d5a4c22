"""Whose things are whose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.accounts import account_of, payer_of
from proxy.exchange import Exchange
from proxy.identities import Identity, IdentityKind
from proxy.operations import LOCAL
from proxy.payments.api import Credential, Presented
from proxy.payments.settings import Payments
from tests.support.fakes import exchange, generation, identity, origin

BALANCE = Presented(Credential.BALANCE, "bal_x", "ab" * 32)
PROOF = Presented(Credential.L402, "x", "cd" * 32)
PAYER = identity(kind=IdentityKind.PAYER, key_id="payer")
ANONYMOUS = identity(kind=IdentityKind.ANONYMOUS)


def seen(who: Identity | None, **facts: Any) -> Exchange:
    made = exchange(**{name: facts.pop(name) for name in ("at", "under", "operation", "headers") if name in facts})
    made.identity = who
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("who", "facts", "account", "payer"),
    [
        (identity(), {}, "key:key_000000000001", "key:key_000000000001"),
        (identity(provider_credential=True), {}, None, None),
        (PAYER, {"presented": BALANCE}, f"balance:{'ab' * 32}", f"balance:{'ab' * 32}"),
        (PAYER, {"presented": PROOF, "payment_proof": "cd" * 32}, None, f"proof:{'cd' * 32}"),
        (PAYER, {}, None, None),
        (ANONYMOUS, {}, None, "anonymous"),
        (ANONYMOUS, {"at": origin(loopback=False)}, None, None),
        (None, {}, None, None),
    ],
)
def test_account_and_payer(who: Identity | None, facts: dict[str, Any], account: str | None, payer: str | None) -> None:
    """A key by its public id, a balance by its token's digest, a proof by its own."""
    made = seen(who, **facts)
    assert (account_of(made), payer_of(made)) == (account, payer)


def test_balance_is_known_at_our_own_endpoints() -> None:
    """Where payments are nobody's business; with rails on alone, and by the same digest."""
    headers = {"authorization": f"Bearer bal_{'a' * 40}"}
    under = replace(generation(), payments=Payments())
    local = seen(ANONYMOUS, headers=headers, operation=LOCAL, under=under)
    account = account_of(local)
    assert account is not None
    assert account.startswith("balance:")
    assert account_of(seen(ANONYMOUS, headers=headers, operation=LOCAL)) is None
    assert account_of(seen(ANONYMOUS, headers=headers, under=under)) is None
