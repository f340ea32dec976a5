//! Heads in SQLite, in write-ahead mode with a full sync per swap.

use std::path::Path;

use async_trait::async_trait;
use glassbloom_spec::{
    hash::Hash,
    id::{LeafIndex, TreeSize},
};
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Mutex;

use super::{HeadStore, StoreError, StoredHead};

/// One database file, one connection: there is one writer per log anyway.
pub struct SqliteHeads(Mutex<SqliteConnection>);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS head (
    origin  TEXT PRIMARY KEY NOT NULL,
    note    BLOB NOT NULL,     -- checkpoint with the log's own signature
    applied INTEGER NOT NULL   -- tiles are complete up to this size
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leaf (
    origin TEXT NOT NULL,
    hash   BLOB NOT NULL CHECK (length(hash) = 32),   -- SHA-256(0x00 || entry), all of it
    idx    INTEGER NOT NULL,                          -- where the entry was first logged
    PRIMARY KEY (origin, hash)
) STRICT, WITHOUT ROWID;
";

// All leaves of a batch travel as one blob of 32-byte hashes, so that a batch is one statement whatever its size.
const INSERT_LEAVES: &str = "
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n + 1 < length(?2) / 32)
INSERT OR IGNORE INTO leaf (origin, hash, idx) SELECT ?1, substr(?2, n * 32 + 1, 32), ?3 + n FROM i
";
const FIND_LEAVES: &str = "
WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n + 1 < length(?2) / 32)
SELECT n, idx FROM i CROSS JOIN leaf ON origin = ?1 AND hash = substr(?2, n * 32 + 1, 32)
";

impl SqliteHeads {
    /// Opens the database, creating it if missing: for a new log only.
    pub async fn create(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path, true).await
    }

    /// Opens a database that must exist: a log that has lost its head must not quietly begin again.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path, false).await
    }

    async fn connect(path: &Path, create: bool) -> Result<Self, StoreError> {
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .connect()
            .await
            .map_err(|e| failed(format!("open {}", path.display()), e))?;
        sqlx::raw_sql(SCHEMA)
            .execute(&mut connection)
            .await
            .map_err(|e| failed("create the head tables", e))?;
        Ok(Self(Mutex::new(connection)))
    }
}

fn failed(what: impl Into<String>, error: sqlx::Error) -> StoreError {
    StoreError::io(what, std::io::Error::other(error))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a tree has fewer than 2^63 entries")
}

fn concat(leaves: &[Hash]) -> Vec<u8> {
    leaves.iter().flat_map(|leaf| *leaf.as_bytes()).collect()
}

#[async_trait]
impl HeadStore for SqliteHeads {
    async fn create(&self, origin: &str, head: &StoredHead) -> Result<(), StoreError> {
        let done = sqlx::query("INSERT OR IGNORE INTO head (origin, note, applied) VALUES (?, ?, ?)")
            .bind(origin)
            .bind(&head.note)
            .bind(signed(head.applied.get()))
            .execute(&mut *self.0.lock().await)
            .await
            .map_err(|e| failed("store the first head", e))?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError::HeadMoved { origin: origin.to_owned() }),
        }
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        let row = sqlx::query("SELECT note, applied FROM head WHERE origin = ?")
            .bind(origin)
            .fetch_optional(&mut *self.0.lock().await)
            .await
            .map_err(|e| failed("load the head", e))?;
        Ok(row.map(|row| StoredHead {
            note: row.get(0),
            applied: TreeSize::new(row.get::<i64, _>(1).unsigned_abs()),
        }))
    }

    async fn swap(
        &self,
        origin: &str,
        old: &StoredHead,
        new: &StoredHead,
        first: LeafIndex,
        leaves: &[Hash],
    ) -> Result<(), StoreError> {
        let what = "swap the head";
        let mut connection = self.0.lock().await;
        // Takes the write lock at once: a swap that starts as a reader could not become a writer later.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|e| failed(what, e))?;
        let done = sqlx::query(
            "UPDATE head SET note = ?, applied = ? WHERE origin = ? AND note = ? AND applied = ?",
        )
        .bind(&new.note)
        .bind(signed(new.applied.get()))
        .bind(origin)
        .bind(&old.note)
        .bind(signed(old.applied.get()))
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed(what, e))?;
        if done.rows_affected() != 1 {
            return Err(StoreError::HeadMoved { origin: origin.to_owned() });
        }
        if !leaves.is_empty() {
            sqlx::query(INSERT_LEAVES)
                .bind(origin)
                .bind(concat(leaves))
                .bind(signed(first.get()))
                .execute(&mut *transaction)
                .await
                .map_err(|e| failed(what, e))?;
        }
        transaction.commit().await.map_err(|e| failed(what, e))
    }

    async fn find(&self, origin: &str, leaves: &[Hash]) -> Result<Vec<Option<LeafIndex>>, StoreError> {
        let mut found = vec![None; leaves.len()];
        if leaves.is_empty() {
            return Ok(found);
        }
        let rows = sqlx::query(FIND_LEAVES)
            .bind(origin)
            .bind(concat(leaves))
            .fetch_all(&mut *self.0.lock().await)
            .await
            .map_err(|e| failed("look up leaves", e))?;
        for row in rows {
            let place = usize::try_from(row.get::<i64, _>(0)).ok().and_then(|n| found.get_mut(n));
            if let Some(place) = place {
                *place = Some(LeafIndex::new(row.get::<i64, _>(1).unsigned_abs()));
            }
        }
        Ok(found)
    }
}
