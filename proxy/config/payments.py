"""The rails that are on, from `payments` in config.yaml."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

from proxy.config.payment_entries import L402Entry, LightningEntry, PaymentsEntry, X402Entry
from proxy.config.problems import Marks, Problem, near
from proxy.payments.cashu.urls import is_loopback, mint_url
from proxy.payments.settings import (
    L402,
    X402,
    Asset,
    Balance,
    BitcoinPrice,
    Cashu,
    Lightning,
    Mint,
    Mpp,
    Payments,
)
from proxy.pricing.money import nano_from_usd

SECRET_BYTES: Final = 32
DEVELOPMENT_USD: Final = Decimal(68_000)
"""A bitcoin, where nothing is paid in earnest."""
_MICRO: Final = 1_000_000
_GIGA: Final = 1_000_000_000


def build_payments(
    entry: PaymentsEntry, marks: Marks, problems: list[Problem], *, tiers: Collection[str], root: Path
) -> Payments | None:
    """None where no rail is on. `marks` are those of `payments`."""
    if entry.tier is not None and entry.tier not in tiers:
        problems.append(
            marks.problem(("tier",), f"there is no tier '{entry.tier}'", suggestion=near(entry.tier, tiers))
        )
    lightning = _lightning(entry, marks.below("lightning"), problems, root)
    x402 = _x402(entry.x402, marks.below("x402"), problems, public_url=entry.public_url)
    cashu = _cashu(entry, marks.below("cashu"), problems)
    if lightning is None and x402 is None and cashu is None:
        return None
    bitcoin = _bitcoin(entry, marks.below("bitcoin"), problems, needed=lightning is not None or cashu is not None)
    balance = entry.balance
    if balance.enabled and balance.sats_min > balance.sats_max:
        problems.append(
            marks.below("balance").problem(
                ("sats_min",), f"nobody can pay in so much: 'sats_max' is {balance.sats_max}"
            )
        )
    return Payments(
        secret=_secret(entry.secret, marks, problems),
        url=entry.public_url.rstrip("/"),
        team=entry.team,
        tier=entry.tier,
        description=entry.description,
        surcharge_percent=entry.surcharge_percent,
        surcharge=nano_from_usd(entry.surcharge_usd),
        credit=None if entry.credit_usd is None else nano_from_usd(entry.credit_usd),
        leases_max=entry.leases_max,
        answer_seconds=entry.answer_seconds,
        bitcoin=bitcoin,
        lightning=lightning,
        l402=_l402(entry.l402, marks.below("l402"), problems) if lightning is not None else None,
        mpp=Mpp(entry.mpp.realm) if lightning is not None and entry.mpp.enabled else None,
        x402=x402,
        cashu=cashu,
        balance=Balance(
            sats_min=balance.sats_min,
            sats_max=balance.sats_max,
            idle_days=balance.idle_days,
            days=balance.days,
            charge_sats_min=balance.charge_sats_min,
            poll=balance.poll,
        )
        if balance.enabled
        else None,
    )


def _secret(text: str, marks: Marks, problems: list[Problem]) -> bytes:
    if not text or text.startswith("${"):  # An unset variable is told where references are replaced.
        return b""
    try:
        raw = bytes.fromhex(text) if re.fullmatch(r"[0-9a-fA-F]{64}", text) else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != SECRET_BYTES:
        problems.append(marks.problem(("secret",), f"this is not {SECRET_BYTES} bytes in hex or base64"))
    return raw


def _bitcoin(entry: PaymentsEntry, marks: Marks, problems: list[Problem], *, needed: bool) -> BitcoinPrice | None:
    price = entry.bitcoin
    if price.fixed_usd is None and price.url is None and entry.lightning.backend == "dev":
        return BitcoinPrice(fixed=DEVELOPMENT_USD)
    if price.fixed_usd is None and price.url is None:
        if needed:
            problems.append(
                marks.problem((), "rails in sats need a price of bitcoin: set fixed_usd, or url and pointer")
            )
        return None
    if price.fixed_usd is not None and price.url is not None:
        problems.append(marks.problem(("url",), "set fixed_usd or url, not both"))
    if price.url is not None and not price.url.startswith("https://"):
        problems.append(marks.problem(("url",), "must begin with https://"))
    return BitcoinPrice(price.fixed_usd, price.url, price.pointer, price.poll_seconds, price.stale_seconds)


def _l402(entry: L402Entry, marks: Marks, problems: list[Problem]) -> L402 | None:
    if entry.epoch_min > entry.epoch:
        problems.append(
            marks.problem(("epoch_min",), f"new macaroons would be refused at once: 'epoch' is {entry.epoch}")
        )
    if not entry.enabled:
        return None
    return L402(entry.location, entry.sats_min, entry.seconds, entry.epoch, entry.epoch_min)


def _lightning(entry: PaymentsEntry, marks: Marks, problems: list[Problem], root: Path) -> Lightning | None:
    node = entry.lightning
    if node.backend == "off":
        return None
    problems.extend(_lightning_problems(node, marks))
    return Lightning(
        backend=node.backend,
        url=node.url.rstrip("/"),
        credential=node.credential,
        ca_file=None if node.ca_file is None else root / node.ca_file,
        development=node.development,
        timeout_seconds=node.timeout_seconds,
        invoice_seconds=entry.l402.seconds,
        pending_max=node.pending_max,
        pending_client_max=node.pending_client_max,
    )


def _lightning_problems(node: LightningEntry, marks: Marks) -> list[Problem]:
    found = []
    if node.backend == "dev":
        if not node.development:
            found.append(
                marks.problem(
                    ("backend",),
                    "'dev' makes invoices that no node can pay: say 'development: true' if that is what you want",
                )
            )
        return found
    if node.backend != "nwc" and not node.url.startswith(("https://", "http://")):
        found.append(marks.problem(("url",), "say where the node's REST API is, https://HOST:PORT"))
    if not node.credential:
        found.append(marks.problem(("credential",), f"'{node.backend}' needs a credential"))
    return found


def _x402(entry: X402Entry, marks: Marks, problems: list[Problem], *, public_url: str) -> X402 | None:
    if not entry.pay_to:
        return None
    if _is_mistyped(entry.pay_to):
        problems.append(
            marks.problem(
                ("pay_to",),
                "the case of its letters (EIP-55) does not fit: a digit is mistyped. Copy it again from the wallet",
            )
        )
    networks = {asset.network for asset in entry.assets}
    problems.extend(
        marks.problem(("rpc", network), f"no asset is on '{network}'", suggestion=near(network, networks))
        for network in entry.rpc
        if network not in networks
    )
    if not entry.facilitator:
        problems.extend(
            marks.problem(("rpc",), f"without a facilitator, settling on {network} needs its JSON-RPC URL")
            for network in sorted(networks - entry.rpc.keys())
        )
        if not entry.signer_key:
            problems.append(marks.problem(("signer_key",), "without a facilitator, a key that pays the gas is needed"))
    unset = entry.signer_key.startswith("${")  # Told where references are replaced.
    if entry.signer_key and not unset and re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", entry.signer_key) is None:
        problems.append(marks.problem(("signer_key",), "this is not a private key: 32 bytes in hex"))
    if entry.transfers and not entry.rpc:
        problems.append(marks.problem(("transfers",), "transfers are looked up on chain, which needs rpc"))
    elif entry.transfers and not public_url and not entry.development:
        problems.append(
            marks.problem(
                ("transfers",),
                "payers sign for our address, or the same transfer would pay at another proxy too: set public_url",
            )
        )
    for place, url in (("facilitator", entry.facilitator or "https://"), *(("rpc", url) for url in entry.rpc.values())):
        if not url.startswith("https://") and not entry.development:
            problems.append(marks.problem((place,), "must begin with https://, unless 'development: true'"))
    return X402(
        pay_to=entry.pay_to,
        assets=tuple(Asset(a.network, a.address, a.name, a.version, a.decimals) for a in entry.assets),
        facilitator=entry.facilitator.rstrip("/") or None,
        facilitator_headers=_pairs(entry.facilitator_headers),
        rpc=dict(entry.rpc),
        signer_key=entry.signer_key,
        gas_max=entry.gas_max,
        fee_wei_max=int(entry.fee_gwei_max * _GIGA),
        confirmations=entry.confirmations,
        usdc_min=int(entry.usd_min * _MICRO),
        settle_seconds=entry.settle_seconds,
        factories=frozenset(factory.lower() for factory in entry.factories),
        v1=entry.v1,
        transfers=entry.transfers,
        transfer_seconds_max=entry.transfer_seconds_max,
        development=entry.development,
    )


def _is_mistyped(address: str) -> bool:
    """Whether an address in mixed case fails the checksum that its case is. In one case it has none."""
    from proxy.payments.x402.typed_data import checksummed

    digits = address[2:]
    return digits not in (digits.lower(), digits.upper()) and address != checksummed(address)


def _pairs(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in headers.items())


def _cashu(entry: PaymentsEntry, marks: Marks, problems: list[Problem]) -> Cashu | None:
    if not entry.cashu.mints:
        return None
    mints: dict[str, Mint] = {}
    for index, mint in enumerate(entry.cashu.mints):
        url = mint_url(mint.url)
        trouble = _mint_trouble(url, development=mint.development, listed=url in mints)
        if trouble is not None:
            problems.append(marks.problem(("mints", index, "url"), trouble))
        elif url is not None:
            mints[url] = Mint(url, mint.development)
    return Cashu(
        mints=tuple(mints.values()),
        sats_min=entry.cashu.sats_min,
        timeout_seconds=entry.cashu.timeout_seconds,
    )


def _mint_trouble(url: str | None, *, development: bool, listed: bool) -> str | None:
    if url is None:
        return "this is not the URL of a mint: https://HOST[:PORT][/PATH]"
    if development and not is_loopback(url):
        return "a mint for development is on loopback: http://127.0.0.1:PORT"
    if not development and not url.startswith("https://"):
        return "must begin with https://"
    return "this mint is listed twice" if listed else None
