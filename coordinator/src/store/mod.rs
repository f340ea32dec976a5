//! Accounts, keys and books, and what is behind digests in the registry, in SQLite. Nothing here is evidence: what the
//! network claims stands in the logs.

mod actions;
mod epochs;
mod releases;

use std::path::Path;

use glassbloom_spec::{hash::Hash, id::UnixMillis};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub(crate) use self::{actions::ByHand, epochs::OpenEpoch};

/// Who asks, found by an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) name: String,
}

/// A provider's token, found by its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderToken {
    pub(crate) name: String,
}

/// What the books say of one answered request.
#[derive(Clone, Debug)]
pub(crate) struct Usage<'a> {
    pub(crate) receipt_index: u64,
    pub(crate) request_id: &'a str,
    pub(crate) account: i64,
    pub(crate) model: &'a str,
    pub(crate) attestation: Hash,
    /// Tokens of prompt and answer, and the charge in pico-dollars.
    pub(crate) tokens_and_charge: Option<(u64, u64, u64)>,
    pub(crate) sealed_by: &'static str,
    pub(crate) started: UnixMillis,
    pub(crate) ended: UnixMillis,
}

/// An API key as it can be listed: by what is known of it after it was shown once.
#[derive(Clone, Debug)]
pub(crate) struct KeyRow {
    pub(crate) account: String,
    pub(crate) hash: String,
    pub(crate) revoked: bool,
    pub(crate) requests: i64,
    pub(crate) charge: i64,
}

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Store(SqlitePool);

impl Store {
    /// Opens the file, creating and migrating it where needed.
    pub(crate) async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        // FULL: a key that was printed, or a booked request, is still there after a power cut.
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        sqlx::migrate!().run(&pool).await?;
        Ok(Self(pool))
    }

    /// Waits for open statements and closes the file.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }

    /// Makes an API key for the account, which is created where needed; returns the key, which is stored nowhere.
    pub(crate) async fn create_api_key(
        &self,
        name: &str,
        by: ByHand<'_>,
        now: UnixMillis,
    ) -> Result<String, sqlx::Error> {
        let key = new_secret("gb-");
        let now = now.get() as i64;
        let mut tx = self.0.begin().await?;
        sqlx::query("INSERT INTO accounts (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO api_keys (hash, account, created) SELECT ?, id, ? FROM accounts WHERE name = ?",
        )
        .bind(secret_hash(&key))
        .bind(now)
        .bind(name)
        .execute(&mut *tx)
        .await?;
        let change = format!("api-key create\naccount {name}\nkey {}\n", Hash::of(key.as_bytes()));
        by.note(&mut tx, "api-key create", "one account", &change).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Every API key with what its account has used.
    pub(crate) async fn api_keys(&self) -> Result<Vec<KeyRow>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT a.name, k.hash, k.revoked IS NOT NULL AS revoked, \
             (SELECT count(*) FROM requests r WHERE r.account = a.id) AS requests, \
             (SELECT coalesce(sum(charge), 0) FROM requests r WHERE r.account = a.id) AS charge \
             FROM api_keys k JOIN accounts a ON a.id = k.account ORDER BY k.created, k.hash",
        )
        .fetch_all(&self.0)
        .await?;
        let row = |row: sqlx::sqlite::SqliteRow| {
            let hash: Vec<u8> = row.try_get("hash")?;
            Ok(KeyRow {
                account: row.try_get("name")?,
                hash: Hash::try_from(hash.as_slice()).map_or_else(|_| String::new(), |hash| hash.to_string()),
                revoked: row.try_get("revoked")?,
                requests: row.try_get("requests")?,
                charge: row.try_get("charge")?,
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// Revokes the keys whose hash begins so, or all keys of the account with this name; returns how many.
    pub(crate) async fn revoke_api_keys(
        &self,
        key: &str,
        by: ByHand<'_>,
        now: UnixMillis,
    ) -> Result<u64, sqlx::Error> {
        let mut tx = self.0.begin().await?;
        let revoked: Vec<Vec<u8>> = sqlx::query_scalar(
            "UPDATE api_keys SET revoked = ? WHERE revoked IS NULL AND \
             ((length(?) >= 8 AND substr(lower(hex(hash)), 1, length(?)) = lower(?)) \
              OR account IN (SELECT id FROM accounts WHERE name = ?)) RETURNING hash",
        )
        .bind(now.get() as i64)
        .bind(key)
        .bind(key)
        .bind(key)
        .bind(key)
        .fetch_all(&mut *tx)
        .await?;
        if !revoked.is_empty() {
            let mut keys: Vec<Hash> =
                revoked.iter().filter_map(|hash| Hash::try_from(hash.as_slice()).ok()).collect();
            keys.sort_unstable();
            let keys: String = keys.iter().map(|key| format!("key {key}\n")).collect();
            let scope = format!("{} keys", revoked.len());
            by.note(&mut tx, "api-key revoke", &scope, &format!("api-key revoke\n{keys}")).await?;
        }
        tx.commit().await?;
        Ok(revoked.len() as u64)
    }

    /// Makes a token for a provider; an older one of the same name stops working. Returns the token.
    pub(crate) async fn create_provider_token(
        &self,
        name: &str,
        by: ByHand<'_>,
        now: UnixMillis,
    ) -> Result<String, sqlx::Error> {
        let token = new_secret("gbp-");
        let mut tx = self.0.begin().await?;
        sqlx::query(
            "INSERT INTO provider_tokens (hash, name, created) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, created = excluded.created, revoked = NULL",
        )
        .bind(secret_hash(&token))
        .bind(name)
        .bind(now.get() as i64)
        .execute(&mut *tx)
        .await?;
        let change =
            format!("provider-token create\nprovider {name}\ntoken {}\n", Hash::of(token.as_bytes()));
        by.note(&mut tx, "provider-token create", "one provider", &change).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// The account of an API key that works.
    pub(crate) async fn account(&self, key: &str) -> Result<Option<Account>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT a.id, a.name FROM api_keys k JOIN accounts a ON a.id = k.account \
             WHERE k.hash = ? AND k.revoked IS NULL",
        )
        .bind(secret_hash(key))
        .fetch_optional(&self.0)
        .await?;
        row.map(|row| Ok(Account { id: row.try_get("id")?, name: row.try_get("name")? })).transpose()
    }

    /// The provider of a token that works.
    pub(crate) async fn provider(&self, token: &str) -> Result<Option<ProviderToken>, sqlx::Error> {
        let row = sqlx::query("SELECT name FROM provider_tokens WHERE hash = ? AND revoked IS NULL")
            .bind(secret_hash(token))
            .fetch_optional(&self.0)
            .await?;
        row.map(|row| Ok(ProviderToken { name: row.try_get("name")? })).transpose()
    }

    /// Books an answered request.
    pub(crate) async fn book(&self, usage: &Usage<'_>) -> Result<(), sqlx::Error> {
        let number = |value: u64| i64::try_from(value).ok();
        let tokens = usage.tokens_and_charge;
        sqlx::query(
            "INSERT INTO requests (receipt_index, request_id, account, model, attestation, prompt_tokens, \
             completion_tokens, charge, sealed_by, started, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (receipt_index) DO NOTHING",
        )
        .bind(usage.receipt_index as i64)
        .bind(usage.request_id)
        .bind(usage.account)
        .bind(usage.model)
        .bind(usage.attestation.as_bytes().as_slice())
        .bind(tokens.and_then(|(prompt, _, _)| number(prompt)))
        .bind(tokens.and_then(|(_, completion, _)| number(completion)))
        .bind(tokens.and_then(|(_, _, charge)| number(charge)))
        .bind(usage.sealed_by)
        .bind(usage.started.get() as i64)
        .bind(usage.ended.get() as i64)
        .execute(&self.0)
        .await?;
        Ok(())
    }
}

fn new_secret(prefix: &str) -> String {
    format!("{prefix}{}", Hash::from_bytes(glassbloom_service::random()))
}

fn secret_hash(secret: &str) -> Vec<u8> {
    Hash::of(secret.as_bytes()).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use glassbloom_spec::{
        curve::SigningKey,
        leaf::{OperatorAction, Payload},
        statement::Statement,
    };

    use super::*;

    static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[1; 32]));

    fn by() -> ByHand<'static> {
        ByHand { signer: &KEY, reason: "asked" }
    }

    async fn store(folder: &Path) -> Store {
        Store::open(&folder.join("coordinator.db")).await.unwrap()
    }

    #[tokio::test]
    async fn keys_are_found_by_text_and_stored_as_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let now = UnixMillis::new(5);
        let (one, two) = (
            store.create_api_key("a", by(), now).await.unwrap(),
            store.create_api_key("a", by(), now).await.unwrap(),
        );
        assert!(one.starts_with("gb-") && one != two);
        let account = store.account(&one).await.unwrap().unwrap();
        assert_eq!(account.name, "a");
        assert_eq!(store.account(&two).await.unwrap().unwrap(), account);
        assert_eq!(store.account("gb-").await.unwrap(), None);
        assert_eq!(store.provider(&one).await.unwrap(), None, "a key is no provider token");
        store.close().await;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(one.len()).any(|part| part == one.as_bytes()));
        }
    }

    #[tokio::test]
    async fn revoked_keys_do_not_work() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let now = UnixMillis::new(5);
        let one = store.create_api_key("a", by(), now).await.unwrap();
        let two = store.create_api_key("b", by(), now).await.unwrap();
        let listed = store.api_keys().await.unwrap();
        let hash = &listed.iter().find(|row| row.account == "a").unwrap().hash;
        assert_eq!(store.revoke_api_keys(&hash[..4], by(), now).await.unwrap(), 0, "too short to name a key");
        assert_eq!(store.revoke_api_keys(&hash[..12], by(), now).await.unwrap(), 1);
        assert_eq!(store.account(&one).await.unwrap(), None);
        assert!(store.account(&two).await.unwrap().is_some());
        assert_eq!(store.revoke_api_keys("b", by(), now).await.unwrap(), 1);
        assert_eq!(store.account(&two).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_new_provider_token_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let old = store.create_provider_token("p", by(), UnixMillis::new(1)).await.unwrap();
        let new = store.create_provider_token("p", by(), UnixMillis::new(2)).await.unwrap();
        assert_eq!(store.provider(&old).await.unwrap(), None);
        assert_eq!(store.provider(&new).await.unwrap(), Some(ProviderToken { name: "p".to_owned() }));
        assert_eq!(store.account(&new).await.unwrap(), None);
    }

    #[tokio::test]
    async fn books_survive_a_restart_and_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path()).await;
        let key = first.create_api_key("a", by(), UnixMillis::new(1)).await.unwrap();
        let account = first.account(&key).await.unwrap().unwrap().id;
        let usage = Usage {
            receipt_index: 7,
            request_id: "r",
            account,
            model: "m",
            attestation: Hash::of(b"a"),
            tokens_and_charge: Some((1, 2, 30)),
            sealed_by: "user",
            started: UnixMillis::new(1),
            ended: UnixMillis::new(2),
        };
        first.book(&usage).await.unwrap();
        first.book(&usage).await.unwrap();
        first.close().await;
        let again = store(folder.path()).await;
        let rows = again.api_keys().await.unwrap();
        assert_eq!((rows[0].requests, rows[0].charge), (1, 30));
    }

    #[tokio::test]
    async fn a_change_by_hand_is_written_down_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let now = UnixMillis::new(5);
        store.create_api_key("alice", by(), now).await.unwrap();
        store.create_provider_token("mac", by(), now).await.unwrap();
        assert_eq!(store.revoke_api_keys("nobody", by(), now).await.unwrap(), 0);
        store.revoke_api_keys("alice", by(), now).await.unwrap();
        let actions = store.unlogged_actions().await.unwrap();
        let said = |(_, statement): &(i64, Statement)| {
            statement.verify(&KEY.public_key()).unwrap();
            OperatorAction::of(statement).unwrap()
        };
        let whats: Vec<String> = actions.iter().map(|action| said(action).what).collect();
        assert_eq!(whats, ["api-key create", "provider-token create", "api-key revoke"]);
        for (_, statement) in &actions {
            let text = String::from_utf8_lossy(statement.bytes()).into_owned();
            assert!(!text.contains("alice") && !text.contains("mac"), "names are nobody's business");
        }
        store.action_logged(actions[0].0).await.unwrap();
        assert_eq!(store.unlogged_actions().await.unwrap().len(), 2);
        let control = ByHand { reason: "two\nlines", ..by() };
        assert!(store.create_api_key("bob", control, now).await.is_err());
        assert_eq!(store.api_keys().await.unwrap().len(), 1, "and nothing is changed that cannot be said");
    }
}
