//! Where the bytes of a service are, as `tiles` and `head` in `log.toml` say it.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};

use crate::{
    config::{ConfigFile, Layout},
    store::{
        Bucket, BucketUrl, FolderLock, HeadStore, LocalTiles, ObjectHeads, ObjectTiles, PostgresHeads,
        PostgresUrl, Retries, SqliteHeads, StoreError, TileStore,
    },
};

/// The variable with the address of the head, for addresses that are secret.
pub const HEAD_VARIABLE: &str = "GLASSBLOOM_LOG_HEAD";
/// What `head` in `log.toml` is when the address is in that variable: without it a process that lacks the variable
/// would look for the head in SQLite.
pub const HEAD_FROM_VARIABLE: &str = "$GLASSBLOOM_LOG_HEAD";

/// The stores of a service.
#[derive(Clone, Debug)]
pub struct Places {
    tiles: Tiles,
    head: Head,
}

#[derive(Clone, Debug)]
enum Tiles {
    Local,
    Bucket(BucketUrl),
}

#[derive(Clone, Debug)]
enum Head {
    Sqlite,
    Bucket(BucketUrl),
    Postgres(Box<PostgresUrl>),
}

/// What a head store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To make it if it is missing, and to leave a running log alone.
    Init,
    /// To be the one process that writes to the log.
    Serve,
}

impl Places {
    /// What the file says; nothing is opened yet.
    ///
    /// # Errors
    /// When an address is none, holds a password, or is said to be in a variable that is not set.
    pub fn of(file: &ConfigFile) -> anyhow::Result<Self> {
        Self::with(file, |name| std::env::var(name).ok())
    }

    fn with(file: &ConfigFile, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let tiles = match &file.tiles {
            None => Tiles::Local,
            Some(url) => Tiles::Bucket(url.parse().context("tiles in log.toml")?),
        };
        let head = match file.head.as_deref() {
            None => Head::Sqlite,
            Some(HEAD_FROM_VARIABLE) => {
                let Some(address) = variable(HEAD_VARIABLE) else {
                    bail!(
                        "log.toml says that the address of the head is in {HEAD_VARIABLE}, which is not set"
                    );
                };
                head(&address).context(HEAD_VARIABLE)?
            }
            Some(address) => {
                let head = head(address).context("head in log.toml")?;
                if matches!(&head, Head::Postgres(url) if url.has_password()) {
                    bail!(
                        "head in log.toml holds a password, and log.toml is no secret: put the address into {HEAD_VARIABLE} \
                         and write head = \"{HEAD_FROM_VARIABLE}\", or put the password into PGPASSWORD or ~/.pgpass"
                    );
                }
                head
            }
        };
        Ok(Self { tiles, head })
    }

    /// Opens the tiles of a log. Blocks on the disk.
    pub fn tiles(&self, layout: &Layout, log: &str) -> Result<Arc<dyn TileStore>, StoreError> {
        Ok(match &self.tiles {
            Tiles::Local => Arc::new(LocalTiles::open(&layout.tiles(log), &layout.staging(log))?),
            Tiles::Bucket(url) => {
                // The leaf index is on this machine in any case, and so may the head be.
                let lock = FolderLock::take(&layout.staging(log))?;
                Arc::new(ObjectTiles::new(&Bucket::open(url, Retries::Transient)?, log).holding(lock))
            }
        })
    }

    /// The folder with the tiles of a log; `None` when they are in a bucket.
    pub fn tile_folder(&self, layout: &Layout, log: &str) -> Option<PathBuf> {
        matches!(self.tiles, Tiles::Local).then(|| layout.tiles(log).join("tile"))
    }

    /// Opens the head of a log.
    pub async fn heads(
        &self,
        layout: &Layout,
        log: &str,
        purpose: Purpose,
    ) -> Result<Arc<dyn HeadStore>, StoreError> {
        Ok(match (&self.head, purpose) {
            (Head::Sqlite, Purpose::Init) => Arc::new(SqliteHeads::create(&layout.database(log)).await?),
            (Head::Sqlite, Purpose::Serve) => Arc::new(SqliteHeads::open(&layout.database(log)).await?),
            (Head::Postgres(url), Purpose::Init) => Arc::new(PostgresHeads::create(url).await?),
            (Head::Postgres(url), Purpose::Serve) => Arc::new(PostgresHeads::open(url).await?),
            (Head::Bucket(url), purpose) => {
                let bucket = Bucket::open(url, Retries::Never)?;
                Arc::new(match purpose {
                    Purpose::Init => ObjectHeads::create(bucket).await?,
                    Purpose::Serve => ObjectHeads::open(bucket).await?,
                })
            }
        })
    }
}

fn head(address: &str) -> anyhow::Result<Head> {
    if address.starts_with("postgres") {
        return Ok(Head::Postgres(Box::new(address.parse()?)));
    }
    match address.parse() {
        Ok(url) => Ok(Head::Bucket(url)),
        // What it is not may be a secret all the same.
        Err(_) if !address.contains("://") => bail!("neither postgres:// nor s3://, gs:// or az://"),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(tiles: Option<&str>, head: Option<&str>) -> anyhow::Result<Places> {
        let file = ConfigFile {
            tiles: tiles.map(str::to_owned),
            head: head.map(str::to_owned),
            ..ConfigFile::new("a.example")
        };
        let variable = |name: &str| {
            assert_eq!(name, HEAD_VARIABLE);
            Some("postgres://log:secret@db/logs".to_owned())
        };
        Places::with(&file, variable)
    }

    #[test]
    fn log_toml_says_where_and_holds_no_secret() {
        let local = places(None, None).unwrap();
        assert!(
            matches!((&local.tiles, &local.head), (Tiles::Local, Head::Sqlite)),
            "the variable alone changes nothing"
        );
        let remote = places(Some("s3://bucket/p"), Some(HEAD_FROM_VARIABLE)).unwrap();
        assert!(matches!((&remote.tiles, &remote.head), (Tiles::Bucket(_), Head::Postgres(_))));
        assert!(!format!("{remote:?}").contains("secret"));
        let bucket = places(Some("gs://bucket"), Some("s3://bucket/p")).unwrap();
        assert!(matches!(bucket.head, Head::Bucket(_)));

        for (tiles, head, why) in [
            (Some("https://bucket/p"), None, "begins with s3://"),
            (None, Some("data/log.db"), "neither postgres:// nor s3://"),
            (None, Some("sqlite://x"), "begins with s3://"),
            (None, Some("postgres://log:secret@db/logs"), "PGPASSWORD"),
        ] {
            let error = format!("{:#}", places(tiles, head).unwrap_err());
            assert!(error.contains(why) && !error.contains("secret@"), "{error}");
        }
        let file = ConfigFile { head: Some(HEAD_FROM_VARIABLE.to_owned()), ..ConfigFile::new("a.example") };
        let error = Places::with(&file, |_| None).unwrap_err().to_string();
        assert!(error.contains(HEAD_VARIABLE) && error.contains("not set"), "{error}");
    }
}
