//! Heads and the leaf index in SQLite, each in a database of its own: the head is synced on every swap, the index never.

use std::{io, path::Path};

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

use super::{HeadStore, LeafStore, StoreError, StoredHead, leaf_key};

/// One database file, one connection: there is one writer per log anyway.
pub struct SqliteHeads(Mutex<SqliteConnection>);

// Earlier versions kept the leaf index in this database, too.
const HEAD_SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS head (
    origin  TEXT PRIMARY KEY NOT NULL,
    note    BLOB NOT NULL,     -- checkpoint with the log's own signature
    applied INTEGER NOT NULL   -- tiles are complete up to this size
) STRICT, WITHOUT ROWID;
DROP TABLE IF EXISTS leaf;
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
        let options = options(path).create_if_missing(create).synchronous(SqliteSynchronous::Full);
        let mut connection =
            options.connect().await.map_err(|e| failed(format!("open {}", path.display()), e))?;
        sqlx::raw_sql(HEAD_SCHEMA)
            .execute(&mut connection)
            .await
            .map_err(|e| failed("create the head table", e))?;
        Ok(Self(Mutex::new(connection)))
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal)
}

fn failed(what: impl Into<String>, error: sqlx::Error) -> StoreError {
    StoreError::io(what, io::Error::other(error))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a tree has fewer than 2^63 entries")
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

    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError> {
        // One statement is one transaction, and one turn of the connection's thread.
        let done = sqlx::query(
            "UPDATE head SET note = ?, applied = ? WHERE origin = ? AND note = ? AND applied = ?",
        )
        .bind(&new.note)
        .bind(signed(new.applied.get()))
        .bind(origin)
        .bind(&old.note)
        .bind(signed(old.applied.get()))
        .execute(&mut *self.0.lock().await)
        .await
        .map_err(|e| failed("swap the head", e))?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError::HeadMoved { origin: origin.to_owned() }),
        }
    }
}

/// The leaf index: 64 bits of each leaf hash, in a file that may be deleted while the log is stopped.
pub struct SqliteLeaves {
    path: String,
    // Two connections, so that looking up never waits for an insert.
    reader: Mutex<SqliteConnection>,
    writer: Mutex<SqliteConnection>,
}

const LEAF_SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS log (
    id      INTEGER PRIMARY KEY,
    origin  TEXT NOT NULL UNIQUE,
    indexed INTEGER NOT NULL        -- leaves below this index are in the table below
) STRICT;
CREATE TABLE IF NOT EXISTS leaf (
    log  INTEGER NOT NULL,          -- log.id
    hash INTEGER NOT NULL,          -- the first 64 bits of SHA-256(0x00 || entry)
    idx  INTEGER NOT NULL,          -- where the entry was logged
    PRIMARY KEY (log, hash, idx)
) STRICT, WITHOUT ROWID;
";

// All leaves travel as one JSON array, so that a batch is one statement whatever its size. Inserting in the order of
// the key visits each page once.
const MOVE_INDEXED: &str = "
INSERT INTO log (origin, indexed) VALUES (?1, ?2) ON CONFLICT (origin) DO UPDATE SET indexed = ?2
";
const INSERT_LEAVES: &str = "
INSERT OR IGNORE INTO leaf (log, hash, idx)
SELECT (SELECT id FROM log WHERE origin = ?1), value, ?3 + key FROM json_each(?2) ORDER BY value
";
const FIND_LEAVES: &str = "
SELECT place.key, leaf.idx FROM json_each(?2) AS place
CROSS JOIN leaf ON leaf.log = (SELECT id FROM log WHERE origin = ?1) AND leaf.hash = place.value
ORDER BY leaf.idx
";
/// Memory for pages of the index, per connection, in KiB.
const PAGES_KIB: &str = "-8192";

impl SqliteLeaves {
    /// Opens the index, or makes an empty one, which `Log::open` fills from the tiles. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a database; deleting it is safe.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let options = options(path)
            .create_if_missing(true)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", PAGES_KIB)
            // Or the file keeps the size of the largest batch ever.
            .pragma("journal_size_limit", "4194304");
        let wrong = |error| damaged(&shown, "open", &error);
        let mut writer = options.connect().await.map_err(wrong)?;
        sqlx::raw_sql(LEAF_SCHEMA).execute(&mut writer).await.map_err(wrong)?;
        let reader = options.connect().await.map_err(wrong)?;
        Ok(Self { reader: Mutex::new(reader), writer: Mutex::new(writer), path: shown })
    }

    fn damaged(&self, what: &str, error: &sqlx::Error) -> StoreError {
        damaged(&self.path, what, error)
    }
}

fn damaged(path: &str, what: &str, error: &sqlx::Error) -> StoreError {
    let why = format!("{error}; stop the log, delete {path} and start again: it is rebuilt from the tiles");
    StoreError::io(format!("{what} the leaf index {path}"), io::Error::other(why))
}

fn json_keys(leaves: &[Hash]) -> String {
    let mut text = String::with_capacity(leaves.len() * 21 + 2);
    text.push('[');
    for (n, leaf) in leaves.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&leaf_key(leaf).to_string());
    }
    text.push(']');
    text
}

#[async_trait]
impl LeafStore for SqliteLeaves {
    async fn indexed(&self, origin: &str) -> Result<TreeSize, StoreError> {
        let size: Option<i64> = sqlx::query_scalar("SELECT indexed FROM log WHERE origin = ?")
            .bind(origin)
            .fetch_optional(&mut *self.reader.lock().await)
            .await
            .map_err(|e| self.damaged("read", &e))?;
        Ok(TreeSize::new(size.unwrap_or(0).unsigned_abs()))
    }

    async fn insert(&self, origin: &str, from: LeafIndex, leaves: &[Hash]) -> Result<(), StoreError> {
        let wrong = |error| self.damaged("write", &error);
        let mut connection = self.writer.lock().await;
        // Takes the write lock at once: a transaction that starts as a reader could not become a writer later.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(wrong)?;
        sqlx::query(MOVE_INDEXED)
            .bind(origin)
            .bind(signed(from.get() + leaves.len() as u64))
            .execute(&mut *transaction)
            .await
            .map_err(wrong)?;
        sqlx::query(INSERT_LEAVES)
            .bind(origin)
            .bind(json_keys(leaves))
            .bind(signed(from.get()))
            .execute(&mut *transaction)
            .await
            .map_err(wrong)?;
        transaction.commit().await.map_err(wrong)
    }

    async fn find(&self, origin: &str, leaves: &[Hash]) -> Result<Vec<Vec<LeafIndex>>, StoreError> {
        let mut found = vec![Vec::new(); leaves.len()];
        if leaves.is_empty() {
            return Ok(found);
        }
        let rows = sqlx::query(FIND_LEAVES)
            .bind(origin)
            .bind(json_keys(leaves))
            .fetch_all(&mut *self.reader.lock().await)
            .await
            .map_err(|e| self.damaged("read", &e))?;
        for row in rows {
            let place = usize::try_from(row.get::<i64, _>(0)).ok().and_then(|n| found.get_mut(n));
            if let Some(place) = place {
                place.push(LeafIndex::new(row.get::<i64, _>(1).unsigned_abs()));
            }
        }
        Ok(found)
    }
}
