-- A ledger as version 2 made it.
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    book TEXT NOT NULL CHECK (book IN ('charged', 'list')),
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
INSERT INTO "attempts" VALUES(2,1,'openai','gpt-4o-2024','answer',1700000000000,'served',200,100,20,40,0,0,5,0,70,2000,'gpu-coop');
INSERT INTO "attempts" VALUES(3,1,'openai','gpt-4o-2024','answer',1700000000000,'served',200,100,20,40,0,0,5,0,150,2000,'gpu-coop');
INSERT INTO "attempts" VALUES(4,1,'openai','gpt-4o-2024','answer',1700000000000,'served',200,100,20,40,0,0,5,0,100,2000,'gpu-coop');
INSERT INTO "attempts" VALUES(6,1,'openai','gpt-4o-2024','answer',1700000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE boots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL UNIQUE,
    first_hold INTEGER NOT NULL
) STRICT;
INSERT INTO "boots" VALUES(1,'old',1);
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
INSERT INTO "counters" VALUES(1,'team','red','day',0,86400000,'charged',380,100,50,10000,60,0);
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
INSERT INTO "days" VALUES(1,0,'red','ann','key_1','gpt-4o',1,100,20,40,5,60,60,0,0,60);
CREATE TABLE grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    purse INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount <> 0),
    note TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "grants" VALUES(1,'g1',1,1000,'',500);
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
    price_source TEXT
) STRICT;
INSERT INTO "holds" VALUES(2,'before-1',1,3,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,70,70,'[1]',80,2000,'served',1,10,70,'models.yaml 2026-11-01');
INSERT INTO "holds" VALUES(3,'before-2',1,3,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,150,150,'[1]',160,2000,'served',1,10,100,'models.yaml 2026-11-01');
INSERT INTO "holds" VALUES(4,'before-3',1,3,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,100,100,'[1]',110,2000,'served',1,10,30,'models.yaml 2026-11-01');
INSERT INTO "holds" VALUES(5,'before-5',1,4,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,0,0,'[1]',1000,5,'refused',NULL,0,NULL,'models.yaml 2026-11-01');
INSERT INTO "holds" VALUES(6,'before-6',1,1,'key_1','ann','red','acme','gpt-4o','chat.completions',100,100,NULL,NULL,'[1]',1000,NULL,NULL,1,10,NULL,'models.yaml 2026-11-01');
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
INSERT INTO "partner_days" VALUES(0,'gpu-coop','openai',1,100,20,60,60,60);
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
INSERT INTO "purses" VALUES(1,'team','red','balance',1000,260,100,50,60,0);
CREATE TABLE transfers (
    origin INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL CHECK (credit <> debit),
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (origin, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "transfers" VALUES(1,13,4,5,60,0);
INSERT INTO "transfers" VALUES(1,15,2,3,60,0);
INSERT INTO "transfers" VALUES(1,21,1,2,1000,500);
INSERT INTO "transfers" VALUES(2,3,4,5,70,2000);
INSERT INTO "transfers" VALUES(2,5,2,3,70,2000);
INSERT INTO "transfers" VALUES(3,2,6,3,50,2000);
INSERT INTO "transfers" VALUES(3,3,4,5,100,2000);
INSERT INTO "transfers" VALUES(3,4,7,5,50,2000);
INSERT INTO "transfers" VALUES(3,5,2,3,100,2000);
INSERT INTO "transfers" VALUES(4,1,8,3,70,2000);
INSERT INTO "transfers" VALUES(4,3,4,5,100,2000);
INSERT INTO "transfers" VALUES(4,5,2,3,30,2000);
CREATE INDEX grants_by_purse ON grants (purse);
CREATE INDEX keys_by_id ON keys (id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('boots',1);
INSERT INTO "sqlite_sequence" VALUES('purses',1);
INSERT INTO "sqlite_sequence" VALUES('grants',1);
INSERT INTO "sqlite_sequence" VALUES('counters',1);
INSERT INTO "sqlite_sequence" VALUES('days',1);
PRAGMA user_version=2;
