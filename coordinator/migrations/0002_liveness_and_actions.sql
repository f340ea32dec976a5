-- What the registry has the digests of: who answered which challenge, and what was changed by hand. Lost, the leaves
-- stand as they are, and nobody can be shown what is behind them.

-- One row per epoch for which challenges went out. Written before the first of them does.
CREATE TABLE epochs (
    -- When it began, in seconds since 1970. Immutable.
    epoch INTEGER NOT NULL PRIMARY KEY,
    -- How long it lasts. Immutable.
    seconds INTEGER NOT NULL,
    -- The registry checkpoint that the challenges name, to the byte. Immutable.
    beacon BLOB NOT NULL,
    -- The signed `challenge-batch` statement; NULL while answers may come. Written once, before it is sent to the log:
    -- after a crash the very same bytes are sent again, and the log takes the same bytes once.
    batch BLOB,
    -- Whether the log has taken the batch.
    logged INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row per attestation that served when the epoch began.
CREATE TABLE challenges (
    epoch INTEGER NOT NULL REFERENCES epochs (epoch),
    -- Leaf hash of the attestation. Immutable.
    attestation BLOB NOT NULL CHECK (length(attestation) = 32),
    -- The answer; NULL where there is none. Written once, before the batch is.
    signature BLOB CHECK (length(signature) = 64),
    PRIMARY KEY (epoch, attestation)
) STRICT;

-- One row per change by hand, written in one transaction with it. Rows are never deleted.
CREATE TABLE operator_actions (
    -- Assigned once, never reused.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The signed `operator-action` statement.
    statement BLOB NOT NULL,
    -- What its `change` is the SHA-256 of. Never public; shown to whoever asks with reason.
    change BLOB NOT NULL,
    -- Whether the log has taken the statement.
    logged INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The oldest checkpoint that was kept with the release of a build.
CREATE TABLE release_proofs (
    -- Leaf hash of the release statement.
    release BLOB NOT NULL PRIMARY KEY CHECK (length(release) = 32),
    -- The checkpoint, to the byte.
    checkpoint BLOB NOT NULL,
    -- The hashes of the inclusion proof, one after the other.
    proof BLOB NOT NULL
) STRICT;
