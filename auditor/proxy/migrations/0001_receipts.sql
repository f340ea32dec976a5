-- The user's own receipts. Bundles hold the salts of each exchange: this file belongs to the user alone.
CREATE TABLE receipts (
    id         TEXT PRIMARY KEY,     -- leaf hash of the receipt, hexadecimal; immutable
    created    INTEGER NOT NULL,     -- milliseconds since 1970, by this machine's clock
    model      TEXT NOT NULL,        -- alias that was asked for
    provider   TEXT NOT NULL,        -- leaf hash of the provider's attestation
    log        TEXT NOT NULL,        -- origin of the receipts log
    log_index  INTEGER NOT NULL,     -- place in that log
    prompt     INTEGER NOT NULL,     -- tokens of the prompt
    completion INTEGER NOT NULL,     -- tokens of the answer
    bundle     BLOB NOT NULL         -- the receipt bundle, spec/bundle.md
) STRICT;

CREATE INDEX receipts_by_time ON receipts (created);

-- The last checkpoint that was verified, per log: what every later one must extend.
CREATE TABLE checkpoints (
    origin TEXT PRIMARY KEY,         -- of the log
    note   BLOB NOT NULL             -- signed and cosigned checkpoint, to the byte
) STRICT;
