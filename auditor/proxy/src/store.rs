//! The user's own receipts and pinned checkpoints, in SQLite.

use std::path::Path;

use anyhow::Context;
use glassbloom_spec::{
    bundle::ReceiptBundle, hash::Hash, id::UnixMillis, promise::Promised, receipt::LoggedReceipt,
    statement::Statement, verify::VerifiedProvider,
};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// An open store; clones share connections.
#[derive(Clone, Debug)]
pub struct Store(SqlitePool);

/// One receipt, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Leaf hash of the receipt.
    pub id: String,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Alias of the model.
    pub model: String,
    /// Leaf hash of the provider's attestation.
    pub provider: String,
    /// Origin of the receipts log.
    pub log: String,
    /// Place in that log.
    pub index: i64,
    /// Tokens of the prompt.
    pub prompt: i64,
    /// Tokens of the answer.
    pub completion: i64,
}

/// A receipt that a log promised to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromisedReceipt {
    /// Leaf hash of the receipt.
    pub id: String,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Origin of the receipts log.
    pub log: String,
    /// Place in that log.
    pub index: i64,
    /// Seconds since 1970: from then on the log's checkpoints cover it.
    pub deadline: i64,
    /// The signed receipt.
    pub receipt: Vec<u8>,
    /// The signed promise.
    pub promise: Vec<u8>,
}

impl Store {
    /// Opens the store, creating it with access for the owner alone.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            glassbloom_service::durable::write_secret(path, b"")
                .with_context(|| format!("{} cannot be created", path.display()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .with_context(|| format!("the receipts in {} cannot be opened", path.display()))?;
        sqlx::migrate!().run(&pool).await.context("the receipts database cannot be brought up to date")?;
        Ok(Self(pool))
    }

    /// Keeps a receipt with its bundle.
    pub async fn keep(
        &self,
        bundle: &ReceiptBundle,
        provider: &VerifiedProvider,
        logged: &LoggedReceipt,
        now: UnixMillis,
    ) -> sqlx::Result<()> {
        let usage = logged.receipt().usage();
        sqlx::query(
            "INSERT OR IGNORE INTO receipts (id, created, model, provider, log, log_index, prompt, completion, bundle) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(bundle.id().to_string())
        .bind(now.get() as i64)
        .bind(provider.model_alias())
        .bind(provider.attestation_hash().to_string())
        .bind(&logged.head().origin)
        .bind(logged.index().get() as i64)
        .bind(usage.prompt as i64)
        .bind(usage.completion as i64)
        .bind(bundle.to_bytes().as_slice())
        .execute(&self.0)
        .await?;
        Ok(())
    }

    /// Keeps a receipt that the log has promised to publish, with the promise.
    pub async fn keep_promise(
        &self,
        receipt: &Statement,
        promised: &Promised,
        now: UnixMillis,
    ) -> sqlx::Result<()> {
        let promise = promised.promise();
        sqlx::query(
            "INSERT OR IGNORE INTO promises (id, created, log, log_index, deadline, receipt, promise) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(promise.leaf.to_string())
        .bind(now.get() as i64)
        .bind(&promise.origin)
        .bind(promise.index.get() as i64)
        .bind(promise.deadline.get() as i64)
        .bind(receipt.bytes())
        .bind(promised.note_bytes())
        .execute(&self.0)
        .await?;
        Ok(())
    }

    /// The promises that were kept instead of proofs, newest first.
    pub async fn promises(&self) -> sqlx::Result<Vec<PromisedReceipt>> {
        let rows = sqlx::query(
            "SELECT id, created, log, log_index, deadline, receipt, promise FROM promises ORDER BY created DESC",
        )
        .fetch_all(&self.0)
        .await?;
        Ok(rows
            .iter()
            .map(|row| PromisedReceipt {
                id: row.get("id"),
                created: row.get("created"),
                log: row.get("log"),
                index: row.get("log_index"),
                deadline: row.get("deadline"),
                receipt: row.get("receipt"),
                promise: row.get("promise"),
            })
            .collect())
    }

    /// The receipts, newest first.
    pub async fn list(&self, most: u32) -> sqlx::Result<Vec<Summary>> {
        let rows = sqlx::query(
            "SELECT id, created, model, provider, log, log_index, prompt, completion FROM receipts ORDER BY created DESC LIMIT ?",
        )
        .bind(most)
        .fetch_all(&self.0)
        .await?;
        Ok(rows.iter().map(row).collect())
    }

    /// The receipts whose identifier starts with the text, with their bundles: two at most.
    pub async fn find(&self, prefix: &str) -> sqlx::Result<Vec<(Summary, Vec<u8>)>> {
        let rows = sqlx::query(
            "SELECT id, created, model, provider, log, log_index, prompt, completion, bundle FROM receipts \
             WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2",
        )
        .bind(prefix)
        .fetch_all(&self.0)
        .await?;
        Ok(rows.iter().map(|found| (row(found), found.get("bundle"))).collect())
    }

    /// The last checkpoint verified of a log.
    pub async fn checkpoint(&self, origin: &str) -> sqlx::Result<Option<Vec<u8>>> {
        let row = sqlx::query("SELECT note FROM checkpoints WHERE origin = ?")
            .bind(origin)
            .fetch_optional(&self.0)
            .await?;
        Ok(row.map(|row| row.get("note")))
    }

    /// Pins a checkpoint that extends the one pinned before.
    pub async fn pin(&self, origin: &str, note: &[u8]) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO checkpoints (origin, note) VALUES (?, ?) ON CONFLICT (origin) DO UPDATE SET note = excluded.note")
            .bind(origin)
            .bind(note)
            .execute(&self.0)
            .await?;
        Ok(())
    }
}

fn row(row: &sqlx::sqlite::SqliteRow) -> Summary {
    Summary {
        id: row.get("id"),
        created: row.get("created"),
        model: row.get("model"),
        provider: row.get("provider"),
        log: row.get("log"),
        index: row.get("log_index"),
        prompt: row.get("prompt"),
        completion: row.get("completion"),
    }
}

/// Whether text can be the start of a receipt's identifier.
pub fn is_prefix(text: &str) -> bool {
    (4..=2 * Hash::LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
