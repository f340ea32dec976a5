//! What an auditor remembers between runs, in one SQLite file.
//!
//! One transaction per log: a run that is interrupted, or that finds a log damaged, leaves the earlier state as it was.

use std::{path::Path, time::Duration};

use glassbloom_spec::{
    checkpoint::TreeHead,
    hash::Hash,
    id::{KeyId, LeafIndex},
    merkle::Frontier,
};
use sqlx::{
    Row, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{finding::Finding, rules};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS seen (
    origin    TEXT NOT NULL PRIMARY KEY, -- of the log
    head      TEXT NOT NULL,             -- JSON TreeHead of the newest checkpoint ever accepted; never goes back
    note      BLOB NOT NULL              -- that checkpoint with its signatures: half of a fork proof
) STRICT;
CREATE TABLE IF NOT EXISTS replayed (
    origin    TEXT NOT NULL PRIMARY KEY,
    policy    BLOB NOT NULL,             -- SHA-256 of the policy that the entries were judged by
    frontier  TEXT NOT NULL              -- JSON Frontier after the last entry replayed
) STRICT;
CREATE TABLE IF NOT EXISTS registry_entry (
    idx       INTEGER NOT NULL PRIMARY KEY,
    bytes     BLOB    NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS logged_receipt (
    leaf      BLOB    NOT NULL PRIMARY KEY, -- leaf hash
    origin    TEXT    NOT NULL,             -- the receipts log that it was first seen in
    idx       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_use (
    key       BLOB    NOT NULL,             -- key identifier of a receipt's signer
    origin    TEXT    NOT NULL,             -- of a receipts log
    idx       INTEGER NOT NULL,             -- the key's last receipt there
    leaf      BLOB    NOT NULL,
    PRIMARY KEY (key, origin)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS finding (
    origin    TEXT NOT NULL,
    rule      TEXT NOT NULL,
    idx       INTEGER NOT NULL,
    leaf      BLOB NOT NULL,
    detail    TEXT NOT NULL,
    PRIMARY KEY (origin, idx, rule, detail)
) STRICT;
CREATE TABLE IF NOT EXISTS told (
    subject   TEXT    NOT NULL PRIMARY KEY, -- of a watch
    next      INTEGER NOT NULL              -- first entry of the registry that its owner was not told of
) STRICT;
";

/// Earlier versions knew one receipts log. What they remembered of receipts is replayed; what they saw is kept.
const FORGET_OLD: &str = "
BEGIN IMMEDIATE;
DELETE FROM replayed;
DELETE FROM registry_entry;
DELETE FROM finding;
DROP TABLE receipt;
DROP TABLE used_key;
COMMIT;
";

/// The state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A value in the file is out of range.
    #[error(
        "the audit state holds a {0} that this program did not write; delete the state folder to begin anew"
    )]
    Corrupt(&'static str),
    /// The folder.
    #[error("state folder: {0}")]
    Io(#[from] std::io::Error),
    /// SQLite reported an error.
    #[error("audit state: {0}")]
    Sqlite(#[from] sqlx::Error),
}

/// The file.
#[derive(Clone, Debug)]
pub struct State(SqlitePool);

/// The newest checkpoint ever accepted of a log.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its head.
    pub head: TreeHead,
    /// Its note.
    pub note: Vec<u8>,
}

impl State {
    /// Opens the file in the folder, creating both when missing.
    pub async fn open(folder: &Path) -> Result<Self, StateError> {
        glassbloom_service::durable::create_folder(folder)?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join("audit.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        let old = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'used_key'");
        if old.fetch_optional(&pool).await?.is_some() {
            let mut connection = pool.acquire().await?;
            sqlx::raw_sql(FORGET_OLD).execute(&mut *connection).await?;
        }
        Ok(Self(pool))
    }

    /// The checkpoint to compare the log's present one with.
    pub async fn seen(&self, origin: &str) -> Result<Option<Seen>, StateError> {
        let row = sqlx::query("SELECT head, note FROM seen WHERE origin = ?")
            .bind(origin)
            .fetch_optional(&self.0)
            .await?;
        row.map(|row| {
            let head = serde_json::from_str(row.try_get(0)?).map_err(|_| StateError::Corrupt("head"))?;
            Ok(Seen { head, note: row.try_get(1)? })
        })
        .transpose()
    }

    /// Where the last replay of the log under this policy ended; nothing when there was none under it.
    pub async fn frontier(&self, origin: &str, policy: &Hash) -> Result<Frontier, StateError> {
        let row = sqlx::query("SELECT frontier FROM replayed WHERE origin = ? AND policy = ?")
            .bind(origin)
            .bind(&policy.as_bytes()[..])
            .fetch_optional(&self.0)
            .await?;
        match row {
            None => Ok(Frontier::new()),
            Some(row) => serde_json::from_str(row.try_get(0)?).map_err(|_| StateError::Corrupt("frontier")),
        }
    }

    /// Entries of the registry as they were replayed, in order.
    pub async fn registry_entries(&self) -> Result<Vec<Vec<u8>>, StateError> {
        let rows = sqlx::query("SELECT bytes FROM registry_entry ORDER BY idx").fetch_all(&self.0).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Findings about entries of a log, from this run and earlier ones.
    pub async fn findings(&self, origin: &str) -> Result<Vec<Finding>, StateError> {
        let rows =
            sqlx::query("SELECT rule, idx, leaf, detail FROM finding WHERE origin = ? ORDER BY idx, rule")
                .bind(origin)
                .fetch_all(&self.0)
                .await?;
        rows.iter()
            .map(|row| {
                let rule = rules::find(row.try_get(0)?).ok_or(StateError::Corrupt("rule"))?;
                let leaf =
                    Hash::try_from(row.try_get::<&[u8], _>(2)?).map_err(|_| StateError::Corrupt("leaf"))?;
                let detail: String = row.try_get(3)?;
                Ok(Finding::about_entry(rule, origin, from_integer(row.try_get(1)?)?, leaf, detail))
            })
            .collect()
    }

    /// The first entry of the registry that a watch has not told of.
    pub async fn told(&self, subject: &str) -> Result<LeafIndex, StateError> {
        let row = sqlx::query("SELECT next FROM told WHERE subject = ?")
            .bind(subject)
            .fetch_optional(&self.0)
            .await?;
        row.map_or(Ok(LeafIndex::new(0)), |row| from_integer(row.try_get(0)?))
    }

    /// Remembers up to where a watch has told.
    pub async fn set_told(&self, subject: &str, next: LeafIndex) -> Result<(), StateError> {
        sqlx::query("INSERT INTO told (subject, next) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET next = ?2")
            .bind(subject)
            .bind(to_integer(next)?)
            .execute(&self.0)
            .await?;
        Ok(())
    }

    /// Begins changes that are kept together or not at all.
    pub async fn begin(&self) -> Result<Change, StateError> {
        Ok(Change(self.0.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Changes under way; dropped, they never happened.
pub struct Change(Transaction<'static, Sqlite>);

impl Change {
    /// Forgets what was concluded from a log's entries, but not which checkpoint was seen.
    pub async fn forget(&mut self, origin: &str, is_registry: bool) -> Result<(), StateError> {
        sqlx::query("DELETE FROM replayed WHERE origin = ?").bind(origin).execute(&mut *self.0).await?;
        sqlx::query("DELETE FROM finding WHERE origin = ?").bind(origin).execute(&mut *self.0).await?;
        if is_registry {
            sqlx::query("DELETE FROM registry_entry").execute(&mut *self.0).await?;
        } else {
            for delete in
                ["DELETE FROM logged_receipt WHERE origin = ?", "DELETE FROM key_use WHERE origin = ?"]
            {
                sqlx::query(delete).bind(origin).execute(&mut *self.0).await?;
            }
        }
        Ok(())
    }

    /// Keeps an entry of the registry.
    pub async fn registry_entry(&mut self, index: LeafIndex, bytes: &[u8]) -> Result<(), StateError> {
        sqlx::query("INSERT INTO registry_entry (idx, bytes) VALUES (?, ?)")
            .bind(to_integer(index)?)
            .bind(bytes)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Notes a receipt; returns the place of an equal one before it, with the origin when that is in another log.
    pub async fn receipt(
        &mut self,
        origin: &str,
        leaf: &Hash,
        index: LeafIndex,
    ) -> Result<Option<(LeafIndex, Option<String>)>, StateError> {
        let added = sqlx::query(
            "INSERT INTO logged_receipt (leaf, origin, idx) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&leaf.as_bytes()[..])
        .bind(origin)
        .bind(to_integer(index)?)
        .execute(&mut *self.0)
        .await?;
        if added.rows_affected() == 1 {
            return Ok(None);
        }
        let row = sqlx::query("SELECT idx, origin FROM logged_receipt WHERE leaf = ?")
            .bind(&leaf.as_bytes()[..])
            .fetch_one(&mut *self.0)
            .await?;
        let first: String = row.try_get(1)?;
        Ok(Some((from_integer(row.try_get(0)?)?, (first != origin).then_some(first))))
    }

    /// Notes the last receipt of a key in a log.
    pub async fn used_key(
        &mut self,
        origin: &str,
        key: &KeyId,
        index: LeafIndex,
        leaf: &Hash,
    ) -> Result<(), StateError> {
        sqlx::query(
            "INSERT INTO key_use (key, origin, idx, leaf) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET idx = ?3, leaf = ?4",
        )
        .bind(&key.0.as_bytes()[..])
        .bind(origin)
        .bind(to_integer(index)?)
        .bind(&leaf.as_bytes()[..])
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    /// The last receipt of a key in a log.
    pub async fn last_receipt(
        &mut self,
        origin: &str,
        key: &KeyId,
    ) -> Result<Option<(LeafIndex, Hash)>, StateError> {
        let row = sqlx::query("SELECT idx, leaf FROM key_use WHERE key = ? AND origin = ?")
            .bind(&key.0.as_bytes()[..])
            .bind(origin)
            .fetch_optional(&mut *self.0)
            .await?;
        row.map(|row| {
            let leaf =
                Hash::try_from(row.try_get::<&[u8], _>(1)?).map_err(|_| StateError::Corrupt("leaf"))?;
            Ok((from_integer(row.try_get(0)?)?, leaf))
        })
        .transpose()
    }

    /// Keeps a finding about an entry, so that later runs repeat it.
    pub async fn finding(
        &mut self,
        origin: &str,
        index: LeafIndex,
        leaf: &Hash,
        (rule, detail): &rules::Broken,
    ) -> Result<(), StateError> {
        sqlx::query("INSERT INTO finding (origin, rule, idx, leaf, detail) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(origin)
            .bind(rule.id)
            .bind(to_integer(index)?)
            .bind(&leaf.as_bytes()[..])
            .bind(detail)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Notes how far the log has been replayed under which policy.
    pub async fn replayed(
        &mut self,
        origin: &str,
        policy: &Hash,
        frontier: &Frontier,
    ) -> Result<(), StateError> {
        let frontier = serde_json::to_string(frontier).expect("numbers and hashes are JSON");
        sqlx::query(
            "INSERT INTO replayed (origin, policy, frontier) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET policy = ?2, frontier = ?3",
        )
        .bind(origin)
        .bind(&policy.as_bytes()[..])
        .bind(frontier)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    /// Remembers the newest checkpoint.
    pub async fn seen(&mut self, head: &TreeHead, note: &[u8]) -> Result<(), StateError> {
        let json = serde_json::to_string(head).expect("text, number and hash are JSON");
        sqlx::query(
            "INSERT INTO seen (origin, head, note) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET head = ?2, note = ?3",
        )
        .bind(&head.origin)
        .bind(json)
        .bind(note)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    /// Makes the changes durable.
    pub async fn commit(self) -> Result<(), StateError> {
        Ok(self.0.commit().await?)
    }
}

fn to_integer(index: LeafIndex) -> Result<i64, StateError> {
    i64::try_from(index.get()).map_err(|_| StateError::Corrupt("index"))
}

fn from_integer(index: i64) -> Result<LeafIndex, StateError> {
    u64::try_from(index).map(LeafIndex::from).map_err(|_| StateError::Corrupt("index"))
}
