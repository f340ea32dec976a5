//! What the witness remembers: per log its keys and the last tree it cosigned. SQLite, one file.
//!
//! A cosignature promises that no inconsistent one follows it, so the row is on disk before the answer leaves
//! (`synchronous=FULL`), and it moves only by compare-and-swap.

use std::{collections::HashSet, path::Path, time::Duration};

use glassbloom_spec::{
    hash::Hash,
    id::{TreeSize, UnixSeconds},
    note::VerifierKey,
};
use sqlx::{
    QueryBuilder, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::Latest;

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

/// A move of one log from the tree cosigned last to the next.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The log.
    pub origin: String,
    /// Where it must stand still.
    pub old: Latest,
    /// Where it will stand.
    pub new: Latest,
    /// The checkpoint with verified signature lines alone.
    pub note: Vec<u8>,
}

/// A key accepted for a log, and where that log stands.
#[derive(Debug)]
pub(super) struct KeyRow {
    /// Grows with each key that is added.
    pub(super) number: i64,
    pub(super) key: VerifierKey,
    pub(super) latest: Latest,
}

/// The database failed or holds what this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process held the file for too long; nothing was written.
    #[error("another process is writing to the witness database; try again")]
    Busy,
    /// A value in the file is out of range.
    #[error(
        "the witness database holds a {0} that this program did not write; restore it from a backup of the same state, never from an older one"
    )]
    Corrupt(&'static str),
    /// An earlier write failed, and what the disk holds is unknown until the file is opened anew.
    #[error("the witness stopped after its database failed; see its log and start it again")]
    Halted,
    /// SQLite reported an error.
    #[error("the witness database: {0}")]
    Sqlite(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        match code {
            // SQLITE_BUSY, in the low byte of its extended codes.
            Some(code) if code & 0xff == 5 => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
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

    /// Accepts keys for the logs that they name, all or none. Idempotent; nothing is ever removed.
    pub async fn add_logs(&self, keys: &[VerifierKey]) -> Result<(), StoreError> {
        let mut transaction = self.0.begin().await?;
        for key in keys {
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
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The keys added after the one with this number, in the order of their numbers; 0 for all.
    pub(super) async fn keys_after(&self, number: i64) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT size, root, coalesce(cosigned_at, 0), log_key.rowid, vkey \
             FROM log_key JOIN log USING (origin) WHERE log_key.rowid > ? ORDER BY log_key.rowid",
        )
        .bind(number)
        .fetch_all(&self.0)
        .await?;
        let read = |row: &SqliteRow| {
            let key = row.try_get::<&str, _>(4)?.parse().map_err(|_| StoreError::Corrupt("vkey"))?;
            Ok(KeyRow { number: row.try_get(3)?, key, latest: latest(row)? })
        };
        rows.iter().map(read).collect()
    }

    /// The number of logs that are followed.
    pub async fn count(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query("SELECT count(*) FROM log").fetch_one(&self.0).await?.try_get(0)?;
        Ok(count.unsigned_abs())
    }

    /// The last tree cosigned; `None` when the origin is unknown.
    pub async fn latest(&self, origin: &str) -> Result<Option<Latest>, StoreError> {
        let row = sqlx::query("SELECT size, root, coalesce(cosigned_at, 0) FROM log WHERE origin = ?")
            .bind(origin)
            .fetch_optional(&self.0)
            .await?;
        row.as_ref().map(latest).transpose()
    }

    /// Moves each log that still stands where its move begins, in one transaction, and returns the origins of those.
    /// Durable when it returns. Each log may be named once.
    pub async fn advance(&self, moves: &[&Advance]) -> Result<HashSet<String>, StoreError> {
        let mut sql = QueryBuilder::new("WITH new(origin, old_size, old_root, size, root, note, at) AS (");
        let mut rows = Vec::with_capacity(moves.len());
        for advance in moves {
            let Advance { origin, old, new, note } = advance;
            let sizes = (to_integer(old.size.get())?, to_integer(new.size.get())?);
            rows.push((origin, sizes, old, new, note, to_integer(new.at.get())?));
        }
        sql.push_values(rows, |mut row, (origin, (old_size, size), old, new, note, at)| {
            row.push_bind(origin).push_bind(old_size).push_bind(&old.root.as_bytes()[..]);
            row.push_bind(size).push_bind(&new.root.as_bytes()[..]).push_bind(&note[..]).push_bind(at);
        });
        sql.push(
            ") UPDATE log SET size = new.size, root = new.root, note = new.note, cosigned_at = new.at FROM new \
             WHERE log.origin = new.origin AND log.size = new.old_size AND log.root = new.old_root \
             AND coalesce(log.cosigned_at, 0) <= new.at RETURNING origin",
        );
        let moved = sql.build().fetch_all(&self.0).await?;
        moved.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The log's cosigned checkpoint; `None` when there is none.
    pub async fn note(&self, origin: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row =
            sqlx::query("SELECT note FROM log WHERE origin = ?").bind(origin).fetch_optional(&self.0).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Finishes what is in flight and closes the file.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Size, root and time, the first three columns.
fn latest(row: &SqliteRow) -> Result<Latest, StoreError> {
    let number =
        |column, what| u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Corrupt(what));
    let root = Hash::try_from(row.try_get::<&[u8], _>(1)?).map_err(|_| StoreError::Corrupt("root"))?;
    let at = UnixSeconds::new(number(2, "time")?);
    Ok(Latest { size: TreeSize::new(number(0, "size")?), root, at })
}

fn to_integer(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt("number above 2^63-1"))
}
