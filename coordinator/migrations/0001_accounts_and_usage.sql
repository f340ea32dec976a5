-- Nothing in this database is evidence: what the network claims stands in the logs. A lost database costs accounts
-- and books, not receipts.

CREATE TABLE accounts (
    -- Assigned once, never reused.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What the operator calls it. Immutable.
    name TEXT NOT NULL UNIQUE,
    -- Milliseconds since 1970. Immutable.
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    -- SHA-256 over the key's text; the key itself is shown once and stored nowhere. Immutable.
    hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    -- Whom its requests are charged to. Immutable.
    account INTEGER NOT NULL REFERENCES accounts (id),
    -- Milliseconds since 1970. Immutable.
    created INTEGER NOT NULL,
    -- Milliseconds since 1970; NULL while the key works.
    revoked INTEGER
) STRICT;

CREATE TABLE provider_tokens (
    -- SHA-256 over the token's text. Immutable.
    hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    -- What the operator calls the provider. Immutable.
    name TEXT NOT NULL UNIQUE,
    -- Milliseconds since 1970. Immutable.
    created INTEGER NOT NULL,
    -- Milliseconds since 1970; NULL while the token works.
    revoked INTEGER
) STRICT;

-- One row per logged receipt; rows are never changed.
CREATE TABLE requests (
    -- Index of the receipt in the receipts log.
    receipt_index INTEGER NOT NULL PRIMARY KEY,
    -- The x-request-id of the HTTP request.
    request_id TEXT NOT NULL,
    -- Who asked.
    account INTEGER NOT NULL REFERENCES accounts (id),
    -- The model's alias.
    model TEXT NOT NULL,
    -- Leaf hash of the provider's attestation.
    attestation BLOB NOT NULL CHECK (length(attestation) = 32),
    -- Tokens of the prompt; NULL where the provider's opening did not open the receipt's commitment.
    prompt_tokens INTEGER,
    -- Tokens of the answer; NULL in the same cases.
    completion_tokens INTEGER,
    -- What the tokens cost, in pico-dollars (10^-12 USD); NULL in the same cases.
    charge INTEGER,
    -- `user` or `coordinator`.
    sealed_by TEXT NOT NULL,
    -- When the request came and when its receipt was logged, in milliseconds since 1970.
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL
) STRICT;

CREATE INDEX requests_by_account ON requests (account, started);
