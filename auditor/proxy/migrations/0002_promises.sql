-- Receipts that a log promised to publish when it could not prove them in time; see spec/promise.md.
CREATE TABLE promises (
    id        TEXT PRIMARY KEY,      -- leaf hash of the receipt, hexadecimal; immutable
    created   INTEGER NOT NULL,      -- milliseconds since 1970, by this machine's clock
    log       TEXT NOT NULL,         -- origin of the receipts log
    log_index INTEGER NOT NULL,      -- the promised place in that log
    deadline  INTEGER NOT NULL,      -- seconds since 1970
    receipt   BLOB NOT NULL,         -- the signed statement
    promise   BLOB NOT NULL          -- the signed note
) STRICT;
