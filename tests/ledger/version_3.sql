-- A ledger as version 3 made it.
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    book TEXT NOT NULL CHECK (book IN ('charged', 'list', 'msat', 'usdc')),
    name TEXT NOT NULL,
    UNIQUE (book, name)
) STRICT;
INSERT INTO "accounts" VALUES(1,'charged','grants');
INSERT INTO "accounts" VALUES(2,'charged','purse:team:red:balance');
INSERT INTO "accounts" VALUES(3,'charged','income');
INSERT INTO "accounts" VALUES(4,'list','team:red');
INSERT INTO "accounts" VALUES(5,'list','providers');
INSERT INTO "accounts" VALUES(6,'charged','overage:red');
INSERT INTO "accounts" VALUES(7,'list','overage:red');
INSERT INTO "accounts" VALUES(8,'charged','team:red');
CREATE TABLE attempts (
    hold_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    upstream TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    role TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    outcome TEXT,
    status INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cached_tokens INTEGER,
    cache_write_tokens INTEGER,
    cache_write_1h_tokens INTEGER,
    reasoning_tokens INTEGER,
    counted INTEGER,
    list_cost INTEGER,
    ended_ms INTEGER,
    partner TEXT,
    PRIMARY KEY (hold_id, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,'openai','gpt-4o-2024','answer',1700000000000,'served',200,100,20,40,0,0,5,0,50,2000,NULL);
INSERT INTO "attempts" VALUES(2,1,'openai','gpt-4o-2024','answer',1700000000000,'served',200,100,20,40,0,0,5,0,130,2000,NULL);
INSERT INTO "attempts" VALUES(3,1,'openai','gpt-4o-2024','answer',1700000000000,'served',200,100,20,40,0,0,5,0,20,2000,NULL);
INSERT INTO "attempts" VALUES(5,1,'openai','gpt-4o-2024','answer',1700000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE balances (
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
CREATE TABLE boots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL UNIQUE,
    first_hold INTEGER NOT NULL
) STRICT;
INSERT INTO "boots" VALUES(1,'dba3d5d8222e6228',1);
CREATE TABLE counters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    window TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    basis TEXT NOT NULL CHECK (basis IN ('charged', 'list')),
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    overage INTEGER NOT NULL DEFAULT 0,
    limit_max INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    folded_overage INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, scope_id, window, start_ms, basis)
) STRICT;
INSERT INTO "counters" VALUES(1,'team','red','day',0,86400000,'charged',200,77,30,1000000,0,0);
CREATE TABLE days (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    team TEXT NOT NULL,
    user TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    list INTEGER NOT NULL,
    charged_overage INTEGER NOT NULL,
    list_overage INTEGER NOT NULL,
    paid INTEGER NOT NULL DEFAULT 0,
    UNIQUE (at_ms, team, user, key_id, model)
) STRICT;
CREATE TABLE ecash (
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
CREATE TABLE grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    purse INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount <> 0),
    note TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "grants" VALUES(1,'grant-0',1,5000,'',500);
CREATE TABLE holds (
    id INTEGER PRIMARY KEY,
    exchange_id TEXT NOT NULL UNIQUE,
    boot INTEGER NOT NULL,
    state INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT NOT NULL,
    organisation TEXT NOT NULL,
    model TEXT NOT NULL,
    operation TEXT NOT NULL,
    held_charged INTEGER NOT NULL CHECK (held_charged >= 0),
    held_list INTEGER CHECK (held_list >= 0),
    charged INTEGER CHECK (charged >= 0),
    list INTEGER CHECK (list >= 0),
    counters TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    outcome TEXT,
    purse INTEGER,
    input_charged INTEGER NOT NULL DEFAULT 0 CHECK (input_charged >= 0),
    paid INTEGER CHECK (paid >= 0),
    price_source TEXT,
    payment INTEGER,
    balance INTEGER,
    tender_unit TEXT,
    tender_held INTEGER CHECK (tender_held >= 0),
    tender_input INTEGER CHECK (tender_input >= 0),
    tender_paid INTEGER CHECK (tender_paid >= 0)
) STRICT;
INSERT INTO "holds" VALUES(1,'exchange-1',1,3,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,50,50,'[1]',1000,2000,'served',1,10,50,'models.yaml 2026-11-01',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(2,'exchange-2',1,3,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,130,130,'[1]',1000,2000,'served',1,10,100,'models.yaml 2026-11-01',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(3,'exchange-3',1,3,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,20,20,'[1]',1000,2000,'served',1,10,12,'models.yaml 2026-11-01',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(4,'exchange-4',1,4,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,0,0,'[1]',1000,2000,'client_gone',1,10,0,'models.yaml 2026-11-01',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(5,'exchange-5',1,1,'key_1','ann','red','acme','gpt-4o','chat.completions',77,77,NULL,NULL,'[1]',1000,NULL,NULL,NULL,0,NULL,'models.yaml 2026-11-01',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE invoices (
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
CREATE TABLE key_generation (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO "key_generation" VALUES(1,0);
CREATE TABLE keys (
    digest BLOB PRIMARY KEY,
    id TEXT NOT NULL,
    hint TEXT NOT NULL,
    name TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT NOT NULL,
    organisation TEXT NOT NULL,
    tier TEXT,
    caps TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    rotated_ms INTEGER,
    revoked_ms INTEGER
) STRICT;
CREATE TABLE paid_answers (
    payment INTEGER PRIMARY KEY,
    request_digest TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE partner_days (
    at_ms INTEGER NOT NULL,
    partner TEXT NOT NULL,
    upstream TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    list INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    revenue INTEGER NOT NULL,
    PRIMARY KEY (at_ms, partner, upstream)
) STRICT, WITHOUT ROWID;
CREATE TABLE payments (
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
CREATE TABLE purses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    wallet TEXT NOT NULL,
    granted INTEGER NOT NULL DEFAULT 0,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    overage INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    folded_overage INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, scope_id, wallet),
    CHECK (spent + held <= granted)
) STRICT;
INSERT INTO "purses" VALUES(1,'team','red','balance',5000,162,0,30,0,0);
CREATE TABLE transfers (
    origin INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL CHECK (credit <> debit),
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (origin, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "transfers" VALUES(1,3,4,5,50,2000);
INSERT INTO "transfers" VALUES(1,5,2,3,50,2000);
INSERT INTO "transfers" VALUES(1,21,1,2,5000,500);
INSERT INTO "transfers" VALUES(2,2,6,3,30,2000);
INSERT INTO "transfers" VALUES(2,3,4,5,100,2000);
INSERT INTO "transfers" VALUES(2,4,7,5,30,2000);
INSERT INTO "transfers" VALUES(2,5,2,3,100,2000);
INSERT INTO "transfers" VALUES(3,1,8,3,8,2000);
INSERT INTO "transfers" VALUES(3,3,4,5,20,2000);
INSERT INTO "transfers" VALUES(3,5,2,3,12,2000);
CREATE INDEX grants_by_purse ON grants (purse);
CREATE INDEX keys_by_id ON keys (id);
CREATE INDEX payments_leased ON payments (boot) WHERE boot IS NOT NULL;
CREATE INDEX payments_unknown ON payments (asked_ms) WHERE state = 3;
CREATE INDEX payments_unclaimed ON payments (changed_ms) WHERE state = 2;
CREATE INDEX payments_untaken ON payments (changed_ms) WHERE state IN (0, 6);
CREATE INDEX invoices_pending ON invoices (client, expires_ms) WHERE settled_ms IS NULL;
CREATE INDEX invoices_by_end ON invoices (expires_ms) WHERE settled_ms IS NULL;
CREATE INDEX ecash_by_payment ON ecash (payment);
CREATE INDEX ecash_of_ours ON ecash (mint) WHERE owner = 'us';
CREATE INDEX paid_answers_by_age ON paid_answers (at_ms);
INSERT INTO "sqlite_sequence" VALUES('boots',1);
INSERT INTO "sqlite_sequence" VALUES('purses',1);
INSERT INTO "sqlite_sequence" VALUES('grants',1);
INSERT INTO "sqlite_sequence" VALUES('counters',1);
PRAGMA user_version=3;
