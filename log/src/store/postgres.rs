//! Heads in PostgreSQL: one row per log, swapped in one statement.

use std::{fmt, io, str::FromStr, time::Duration};

use async_trait::async_trait;
use glassbloom_spec::{hash::Hash, id::TreeSize};
use reqwest::Url;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{HeadStore, StoreError, StoredHead};

/// The address of a database: `postgres://USER@HOST/DATABASE?sslmode=verify-full`.
#[derive(Clone)]
pub struct PostgresUrl {
    options: PgConnectOptions,
    /// What may be shown: everything but the password.
    shown: String,
    has_password: bool,
}

/// An address that names no database.
#[derive(Debug, thiserror::Error)]
#[error("not the address of a PostgreSQL database: {0}")]
pub struct PostgresUrlError(String);

impl FromStr for PostgresUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, PostgresUrlError> {
        let mut url = Url::parse(text).map_err(|e| PostgresUrlError(e.to_string()))?;
        if !["postgres", "postgresql"].contains(&url.scheme()) {
            return Err(PostgresUrlError("it begins with postgres://".to_owned()));
        }
        let options = PgConnectOptions::from_str(text).map_err(|e| PostgresUrlError(e.to_string()))?;
        let has_password = url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password");
        url.set_query(None);
        let _ = url.set_password(None);
        Ok(Self { options: options.disable_statement_logging(), shown: url.to_string(), has_password })
    }
}

impl PostgresUrl {
    /// Whether a password stands in the address itself.
    pub const fn has_password(&self) -> bool {
        self.has_password
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

/// One connection: there is one writer per log. It is made anew when it was lost while nothing was asked of it; what
/// fails while a swap is under way stops the log.
///
/// A store that was opened to serve takes the log over when it loads the head. From then on no other process swaps it,
/// and neither does a statement of an earlier process that is still on its way: `Log::open` drops the staged batches
/// that such a swap would need.
pub struct PostgresHeads {
    url: PostgresUrl,
    session: Mutex<Option<Session>>,
    takes_over: bool,
    writer: String,
}

struct Session {
    connection: PgConnection,
    used: Instant,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS glassbloom_head (
    origin  text   PRIMARY KEY,
    note    bytea  NOT NULL,    -- checkpoint with the log's own signature
    applied bigint NOT NULL,    -- tiles are complete up to this size
    writer  text   NOT NULL     -- drawn at random by the process that loaded the head last
)";

// The server gives up on a statement before this process does, so that one it gave up on is not carried out later.
// A server that acknowledges before its disk does would let the head go back after a crash.
const SETTINGS: &str = "
SET statement_timeout = '10s';
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local');
";

/// How long anything asked of the database may take.
const LIMIT: Duration = Duration::from_secs(15);
/// A connection that was idle for so long is looked at before a swap goes out on it: firewalls forget.
const IDLE: Duration = Duration::from_secs(10);

impl PostgresHeads {
    /// Connects, and creates the table if it is missing: for `init`, which leaves a running log alone.
    pub async fn create(url: &PostgresUrl) -> Result<Self, StoreError> {
        let store = Self::connect(url, false).await?;
        store.run("create the head table", |c| Box::pin(sqlx::raw_sql(SCHEMA).execute(c))).await?;
        Ok(store)
    }

    /// Connects, to serve, to a database whose table must exist: a log that has lost its head must not quietly begin
    /// again.
    pub async fn open(url: &PostgresUrl) -> Result<Self, StoreError> {
        let store = Self::connect(url, true).await?;
        let query = sqlx::query("SELECT to_regclass('glassbloom_head') IS NOT NULL");
        let row = store.run("look for the head table", |c| Box::pin(query.fetch_one(c))).await?;
        if !row.get::<bool, _>(0) {
            return Err(store.refused(
                "there is no table glassbloom_head: this is another database, or run `glassbloom-log init` once for a \
                 new log",
            ));
        }
        Ok(store)
    }

    async fn connect(url: &PostgresUrl, takes_over: bool) -> Result<Self, StoreError> {
        let writer = Hash::from_bytes(glassbloom_service::random()).to_string();
        let store = Self { url: url.clone(), session: Mutex::new(None), takes_over, writer };
        *store.session.lock().await = Some(store.session().await?);
        Ok(store)
    }

    fn failed(&self, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::io(format!("{what} in {}", self.url), io::Error::other(error.into().to_string()))
    }

    fn refused(&self, why: &str) -> StoreError {
        self.failed("keep the head", why)
    }

    /// A connection to a server that may keep a head.
    async fn session(&self) -> Result<Session, StoreError> {
        glassbloom_service::install_tls();
        let connect = async {
            let mut connection = self.url.options.connect().await?;
            sqlx::raw_sql(SETTINGS).execute(&mut connection).await?;
            let query = "SELECT pg_is_in_recovery(), current_setting('fsync')";
            let row = sqlx::query(query).fetch_one(&mut connection).await?;
            Ok::<_, sqlx::Error>((connection, row.get::<bool, _>(0), row.get::<String, _>(1)))
        };
        let connected =
            timeout(LIMIT, connect).await.map_err(|late| self.failed("connect to the head", late))?;
        let (connection, standby, fsync) = connected.map_err(|e| self.failed("connect to the head", e))?;
        if standby {
            return Err(self.refused("this server is a standby; name the primary"));
        }
        if fsync != "on" {
            return Err(
                self.refused("this server runs with fsync = off: a crash could bring back an older head")
            );
        }
        Ok(Session { connection, used: Instant::now() })
    }

    /// Runs a statement. After any failure the connection is gone, and with it whatever was under way.
    async fn run<T>(
        &self,
        what: &str,
        statement: impl for<'c> FnOnce(&'c mut PgConnection) -> Running<'c, T> + Send,
    ) -> Result<T, StoreError> {
        let mut held = self.session.lock().await;
        let mut session = match held.take() {
            Some(session) if session.used.elapsed() < IDLE => session,
            Some(mut session) => match timeout(LIMIT, session.connection.ping()).await {
                Ok(Ok(())) => session,
                _ => self.session().await?,
            },
            None => self.session().await?,
        };
        let done = timeout(LIMIT, statement(&mut session.connection)).await;
        let done = done.map_err(|late| self.failed(what, late))?.map_err(|e| self.failed(what, e))?;
        session.used = Instant::now();
        *held = Some(session);
        Ok(done)
    }
}

type Running<'c, T> = std::pin::Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'c>>;

fn signed(number: TreeSize) -> i64 {
    i64::try_from(number.get()).expect("a tree has fewer than 2^63 entries")
}

#[async_trait]
impl HeadStore for PostgresHeads {
    async fn create(&self, origin: &str, head: &StoredHead) -> Result<(), StoreError> {
        let insert = "INSERT INTO glassbloom_head (origin, note, applied, writer) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT DO NOTHING";
        let query =
            sqlx::query(insert).bind(origin).bind(&head.note).bind(signed(head.applied)).bind(&self.writer);
        let done = self.run("store the first head", |c| Box::pin(query.execute(c))).await?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError::HeadMoved { origin: origin.to_owned() }),
        }
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        let take_over = "UPDATE glassbloom_head SET writer = $2 WHERE origin = $1 RETURNING note, applied";
        let query = if self.takes_over {
            sqlx::query(take_over).bind(origin).bind(&self.writer)
        } else {
            sqlx::query("SELECT note, applied FROM glassbloom_head WHERE origin = $1").bind(origin)
        };
        let row = self.run("load the head", |c| Box::pin(query.fetch_optional(c))).await?;
        Ok(row.map(|row| StoredHead {
            note: row.get(0),
            applied: TreeSize::new(row.get::<i64, _>(1).unsigned_abs()),
        }))
    }

    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError> {
        // One statement is one transaction: of two that race, the second waits for the row and then finds it changed.
        let update = "UPDATE glassbloom_head SET note = $1, applied = $2 \
                      WHERE origin = $3 AND note = $4 AND applied = $5 AND writer = $6";
        let query = sqlx::query(update)
            .bind(&new.note)
            .bind(signed(new.applied))
            .bind(origin)
            .bind(&old.note)
            .bind(signed(old.applied))
            .bind(&self.writer);
        let done = self.run("swap the head", |c| Box::pin(query.execute(c))).await?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError::HeadMoved { origin: origin.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::servers::Postgres;

    #[tokio::test]
    async fn a_connection_that_broke_while_idle_is_made_anew() {
        let Some(server) = Postgres::start(&[]) else { return };
        let head = |note: &str| StoredHead { note: note.into(), applied: 0.into() };
        let store = PostgresHeads::create(&server.url()).await.unwrap();
        store.create("a", &head("0")).await.unwrap();
        let mut connection = server.url().options.connect().await.unwrap();
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        sqlx::raw_sql(others).execute(&mut connection).await.unwrap();
        let mut session = store.session.lock().await;
        session.as_mut().unwrap().used = Instant::now().checked_sub(IDLE).unwrap();
        drop(session);
        store.swap("a", &head("0"), &head("1")).await.unwrap();
        assert_eq!(store.load("a").await.unwrap().unwrap(), head("1"));
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in ["postgres://log:secret@db/x?sslmode=require", "postgresql://log@db/x?password=secret"] {
            let url: PostgresUrl = text.parse().unwrap();
            assert!(url.has_password());
            assert!(!format!("{url} {url:?}").contains("secret"), "{url}");
            assert!(url.to_string().contains("log@db/x"), "{url}");
        }
        assert!(!"postgres://log@db/x".parse::<PostgresUrl>().unwrap().has_password());
        for wrong in ["", "db", "mysql://log:secret@db/x", "postgres://log:secret@db/x?sslmode=maybe"] {
            let error = wrong.parse::<PostgresUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
