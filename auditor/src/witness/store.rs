//! What the witness remembers: per log its keys and the last tree it cosigned. SQLite, one file.
//!
//! A cosignature promises that no inconsistent one follows it, so the row is on disk before the answer leaves
//! (`synchronous=FULL`), and it moves only by compare-and-swap.

use std::{path::Path, time::Duration};

use glassbloom_spec::{
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    note::VerifierKey,
};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS log (
    origin       TEXT    NOT NULL PRIMARY KEY, -- first line of the log's checkpoints
    size         INTEGER NOT NULL,             -- entries in the last cosigned tree, 0 before the first
    root         BLOB    NOT NULL,             -- its root, 32 bytes
    note         BLOB,                         -- that checkpoint with the log's and our signatures; NULL before the first
    cosigned_at  INTEGER                       -- Unix seconds of our signature in `note`
) STRICT;
CREATE TABLE IF NOT EXISTS log_key (
    origin  TEXT NOT NULL REFERENCES log (origin),
    vkey    TEXT NOT NULL,                     -- a key whose signature we accept for the origin
    PRIMARY KEY (origin, vkey)
) STRICT;
";

/// The witness's database.
#[derive(Clone, Debug)]
pub struct Store(SqlitePool);

/// The last tree cosigned for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Entries; 0 before the first cosignature.
    pub size: TreeSize,
    /// Root; [`Hash::EMPTY_TREE`] before the first cosignature.
    pub root: Hash,
}

/// What to remember with a new tree.
#[derive(Clone, Debug)]
pub struct Cosigned {
    /// The tree.
    pub latest: Latest,
    /// The checkpoint with verified signature lines alone.
    pub note: Vec<u8>,
    /// Time of our signature.
    pub at: UnixSeconds,
}

/// The database failed or holds what this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A value in the file is out of range.
    #[error(
        "the witness database holds a {0} that this program did not write; restore it from a backup of the same state, never from an older one"
    )]
    Corrupt(&'static str),
    /// SQLite reported an error.
    #[error("the witness database: {0}")]
    Sqlite(#[from] sqlx::Error),
}

impl Store {
    /// Opens the file, creating it when it is missing.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self(pool))
    }

    /// Accepts a key for the log that it names. Idempotent; nothing is ever removed.
    pub async fn add_log(&self, key: &VerifierKey) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        sqlx::query("INSERT INTO log (origin, size, root) VALUES (?, 0, ?) ON CONFLICT DO NOTHING")
            .bind(key.name())
            .bind(&Hash::EMPTY_TREE.as_bytes()[..])
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO log_key (origin, vkey) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(key.name())
            .bind(key.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The keys accepted for a log; empty when the origin is unknown.
    pub async fn keys(&self, origin: &str) -> Result<Vec<VerifierKey>, StoreError> {
        let rows = sqlx::query("SELECT vkey FROM log_key WHERE origin = ? ORDER BY vkey")
            .bind(origin)
            .fetch_all(&self.0)
            .await?;
        rows.iter()
            .map(|row| row.try_get::<String, _>(0)?.parse().map_err(|_| StoreError::Corrupt("vkey")))
            .collect()
    }

    /// Every origin, sorted.
    pub async fn origins(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT origin FROM log ORDER BY origin").fetch_all(&self.0).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The last tree cosigned; `None` when the origin is unknown.
    pub async fn latest(&self, origin: &str) -> Result<Option<Latest>, StoreError> {
        let row = sqlx::query("SELECT size, root FROM log WHERE origin = ?")
            .bind(origin)
            .fetch_optional(&self.0)
            .await?;
        row.map(|row| {
            let size = u64::try_from(row.try_get::<i64, _>(0)?).map_err(|_| StoreError::Corrupt("size"))?;
            let root =
                Hash::try_from(row.try_get::<&[u8], _>(1)?).map_err(|_| StoreError::Corrupt("root"))?;
            Ok(Latest { size: size.into(), root })
        })
        .transpose()
    }

    /// Moves the log from `old` to `new` if it still stands at `old`; says whether it did. Durable when it returns.
    pub async fn advance(&self, origin: &str, old: Latest, new: &Cosigned) -> Result<bool, StoreError> {
        let moved = sqlx::query(
            "UPDATE log SET size = ?, root = ?, note = ?, cosigned_at = ? WHERE origin = ? AND size = ? AND root = ?",
        )
        .bind(to_integer(new.latest.size.get())?)
        .bind(&new.latest.root.as_bytes()[..])
        .bind(&new.note[..])
        .bind(to_integer(new.at.get())?)
        .bind(origin)
        .bind(to_integer(old.size.get())?)
        .bind(&old.root.as_bytes()[..])
        .execute(&self.0)
        .await?;
        Ok(moved.rows_affected() == 1)
    }

    /// The cosigned checkpoint of the log whose origin has this SHA-256; `None` when there is none.
    pub async fn note(&self, origin_hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        // A witness follows few logs: hashing their names on each read keeps the table free of derived columns.
        for origin in self.origins().await? {
            if Hash::of(origin.as_bytes()) == *origin_hash {
                let row = sqlx::query("SELECT note FROM log WHERE origin = ?")
                    .bind(origin)
                    .fetch_one(&self.0)
                    .await?;
                return Ok(row.try_get(0)?);
            }
        }
        Ok(None)
    }

    /// Finishes what is in flight and closes the file.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

fn to_integer(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt("number above 2^63-1"))
}
