"""The tables of what comes with a request: payments, balances, invoices, ecash, paid answers.

Amounts count the row's `unit`; ecash counts sats. A payment's `boot` and `hold` say who has it leased; both are NULL
where nobody has. `offered` is what its proof says that it brings, `amount` what it brought: 0 until it is settled.
`due_change` and `due_absorbed` are what its receipt set apart, which becomes `change` and `absorbed` once it is burnt.
A balance's `folded` is what it has paid for holds that were pruned.
"""

from __future__ import annotations

from typing import Final

PAYMENT_TABLES: Final = """
CREATE TABLE IF NOT EXISTS payments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    rail TEXT NOT NULL,
    key TEXT NOT NULL,
    unit TEXT NOT NULL CHECK (unit IN ('msat', 'usdc')),
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
    fence INTEGER NOT NULL,
    boot INTEGER,
    hold INTEGER,
    orphaned INTEGER NOT NULL CHECK (orphaned IN (0, 1)),
    offered INTEGER NOT NULL CHECK (offered >= 0),
    amount INTEGER NOT NULL CHECK (amount >= 0),
    captured INTEGER NOT NULL CHECK (captured >= 0),
    credited INTEGER NOT NULL CHECK (credited >= 0),
    returned INTEGER NOT NULL CHECK (returned >= 0),
    change INTEGER NOT NULL CHECK (change >= 0),
    fee INTEGER NOT NULL CHECK (fee >= 0),
    absorbed INTEGER NOT NULL CHECK (absorbed >= 0),
    expired INTEGER NOT NULL CHECK (expired >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    due_change INTEGER NOT NULL CHECK (due_change >= 0),
    due_absorbed INTEGER NOT NULL CHECK (due_absorbed >= 0),
    balance INTEGER,
    binding TEXT NOT NULL,
    detail BLOB NOT NULL,
    receipt_detail BLOB NOT NULL,
    reference TEXT NOT NULL,
    reason TEXT NOT NULL,
    on_failure TEXT NOT NULL CHECK (on_failure IN ('free', 'return')),
    leases INTEGER NOT NULL,
    leases_max INTEGER NOT NULL,
    use_until_ms INTEGER NOT NULL,
    asked_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    UNIQUE (rail, key),
    CHECK (amount = captured + credited + returned + change + fee + absorbed + expired + held)
) STRICT;
CREATE INDEX IF NOT EXISTS payments_leased ON payments (boot) WHERE boot IS NOT NULL;
CREATE INDEX IF NOT EXISTS payments_unknown ON payments (asked_ms) WHERE state = 3;
CREATE INDEX IF NOT EXISTS payments_unclaimed ON payments (changed_ms) WHERE state = 2;
CREATE INDEX IF NOT EXISTS payments_untaken ON payments (changed_ms) WHERE state IN (0, 6);
CREATE TABLE IF NOT EXISTS balances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    unit TEXT NOT NULL CHECK (unit IN ('msat', 'usdc')),
    kind TEXT NOT NULL CHECK (kind IN ('bought', 'refund')),
    deposited INTEGER NOT NULL DEFAULT 0,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    expired INTEGER NOT NULL DEFAULT 0 CHECK (expired >= 0),
    folded INTEGER NOT NULL DEFAULT 0 CHECK (folded >= 0),
    requests INTEGER NOT NULL DEFAULT 0,
    idle_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    ends_ms INTEGER NOT NULL,
    CHECK (spent + held + expired <= deposited)
) STRICT;
CREATE TABLE IF NOT EXISTS invoices (
    payment_hash TEXT PRIMARY KEY,
    bolt11 TEXT NOT NULL,
    msat INTEGER NOT NULL CHECK (msat > 0),
    purpose TEXT NOT NULL CHECK (purpose IN ('request', 'balance')),
    client TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    backend TEXT NOT NULL,
    terms TEXT NOT NULL,
    poll_digest BLOB NOT NULL,
    settled_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS invoices_pending ON invoices (client, expires_ms) WHERE settled_ms IS NULL;
CREATE INDEX IF NOT EXISTS invoices_by_end ON invoices (expires_ms) WHERE settled_ms IS NULL;
CREATE TABLE IF NOT EXISTS ecash (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    payment INTEGER NOT NULL,
    mint TEXT NOT NULL,
    keyset TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    secret TEXT NOT NULL UNIQUE,
    signature TEXT NOT NULL,
    dleq TEXT NOT NULL,
    kept INTEGER NOT NULL CHECK (kept IN (0, 1)),
    owner TEXT NOT NULL CHECK (owner IN ('nobody', 'us', 'payer', 'exported'))
) STRICT;
CREATE INDEX IF NOT EXISTS ecash_by_payment ON ecash (payment);
CREATE INDEX IF NOT EXISTS ecash_of_ours ON ecash (mint) WHERE owner = 'us';
CREATE TABLE IF NOT EXISTS paid_answers (
    payment INTEGER PRIMARY KEY,
    request_digest TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS paid_answers_by_age ON paid_answers (at_ms);
"""
FROM_2: Final = """
ALTER TABLE holds ADD COLUMN payment INTEGER;
ALTER TABLE holds ADD COLUMN balance INTEGER;
ALTER TABLE holds ADD COLUMN tender_unit TEXT;
ALTER TABLE holds ADD COLUMN tender_held INTEGER CHECK (tender_held >= 0);
ALTER TABLE holds ADD COLUMN tender_input INTEGER CHECK (tender_input >= 0);
ALTER TABLE holds ADD COLUMN tender_paid INTEGER CHECK (tender_paid >= 0);
CREATE TABLE accounts_of_more_books (
    id INTEGER PRIMARY KEY,
    book TEXT NOT NULL CHECK (book IN ('charged', 'list', 'msat', 'usdc')),
    name TEXT NOT NULL,
    UNIQUE (book, name)
) STRICT;
INSERT INTO accounts_of_more_books SELECT id, book, name FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_of_more_books RENAME TO accounts;
"""
"""Holds learn of tenders, accounts of the books of both units."""
