"""A real Cashu mint and a real wallet: nutshell, in an environment of their own beside the proxy's.

    with mint() as m:                              # up in two to four seconds: keep it for a session
        token = await m.notes(64)                  # m.url is what tokens name
        with wallet(m) as w:                       # nutshell's own wallet
            token = w.send(21)
            assert w.receive(token) == 21

Both need the environment of this folder, which `make test` makes; mark tests `needs(PROGRAM)`.
"""

from __future__ import annotations

from tests.peers.mint.nutshell import PROGRAM, Mint, MintDied, Wallet

__all__ = ["PROGRAM", "Mint", "MintDied", "Wallet", "mint", "wallet"]


def mint(*, fee_ppk: int = 100) -> Mint:
    """A mint of its own on a free port of loopback, with `with`; spending a note costs so many thousandths of a sat."""
    return Mint(fee_ppk=fee_ppk)


def wallet(of: Mint) -> Wallet:
    """nutshell's wallet, empty, with `with`."""
    return Wallet(of.url)
