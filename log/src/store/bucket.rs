//! Buckets by URL: S3 and what speaks like it, Google Cloud Storage, Azure.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{
    Attribute, Attributes, BackoffConfig, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig, UpdateVersion, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, path::Path,
};
use reqwest::Url;

use super::StoreError;

/// The address of a bucket and a prefix in it: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`.
///
/// Credentials, and whatever the URL does not say, come from the environment as the provider's own tools read it.
/// `?endpoint=URL` and a few more options say where a bucket is; none of them is a secret, because such an address
/// stands in files and in error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl(Url);

/// A URL that names no bucket.
#[derive(Debug, thiserror::Error)]
#[error("{url:?} is not the address of a bucket: {why}")]
pub struct BucketUrlError {
    url: String,
    why: String,
}

/// What a bucket URL may say after `?`, and for which scheme.
const OPTIONS: [(&str, &str); 8] = [
    ("s3", "allow_http"),
    ("s3", "endpoint"),
    ("s3", "region"),
    ("s3", "skip_signature"),
    ("s3", "virtual_hosted_style_request"),
    ("gs", "skip_signature"),
    ("az", "account_name"),
    ("az", "skip_signature"),
];

impl FromStr for BucketUrl {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        let wrong = |why: String| BucketUrlError { url: text.to_owned(), why };
        let url = Url::parse(text).map_err(|e| wrong(e.to_string()))?;
        if !["s3", "gs", "az"].contains(&url.scheme()) {
            return Err(wrong("it begins with s3://, gs:// or az://".to_owned()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("it names no bucket".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(BucketUrlError {
                // What stands before @ may be a secret.
                url: format!("{}://…", url.scheme()),
                why: "credentials come from the environment, never from the address".to_owned(),
            });
        }
        Path::from_url_path(url.path()).map_err(|e| wrong(e.to_string()))?;
        for (key, _) in url.query_pairs() {
            if !OPTIONS.contains(&(url.scheme(), &key)) {
                let known: Vec<&str> = OPTIONS
                    .iter()
                    .filter(|(scheme, _)| *scheme == url.scheme())
                    .map(|(_, key)| *key)
                    .collect();
                return Err(wrong(format!("it has no option {key:?}; {} are", known.join(", "))));
            }
        }
        Ok(Self(url))
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a request is sent before its failure is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// Refused connections, 5xx and 429 are tried again for half a minute.
    Transient,
    /// Each request is sent once, so that its result is the result of exactly that request.
    Never,
}

/// An object store and a prefix in it.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// An object as it was read.
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    pub(crate) version: UpdateVersion,
}

/// The media type and the caching of an object, as the world gets them from the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tiles and bundles [c2sp.org/tlog-tiles].
    Immutable,
    /// The checkpoint, which is replaced.
    Checkpoint,
    /// What the log alone reads.
    Private,
}

impl Kind {
    fn attributes(self) -> Attributes {
        let (media_type, caching) = match self {
            Self::Immutable => ("application/octet-stream", "public, max-age=604800, immutable"),
            Self::Checkpoint => ("text/plain; charset=utf-8", "no-store"),
            Self::Private => ("application/octet-stream", "no-store"),
        };
        [(Attribute::ContentType, media_type), (Attribute::CacheControl, caching)].into_iter().collect()
    }
}

impl Bucket {
    /// The bucket at this address. Connects to nothing yet.
    ///
    /// # Errors
    /// When the environment or the address do not say all that is needed, such as the Azure account.
    pub fn open(url: &BucketUrl, retries: Retries) -> Result<Self, StoreError> {
        glassbloom_service::install_tls();
        let what = || format!("open {url}");
        let failed = |e: Error| StoreError::io(what(), described(&e));
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(4), ..BackoffConfig::default() },
            max_retries: if retries == Retries::Never { 0 } else { 6 },
            retry_timeout: Duration::from_secs(30),
        };
        let bare = {
            let mut bare = url.0.clone();
            bare.set_query(None);
            bare
        };
        macro_rules! build {
            ($builder:ty) => {{
                let mut builder = <$builder>::from_env().with_retry(retry).with_url(bare.as_str());
                for (key, value) in url.0.query_pairs() {
                    builder = builder.with_config(key.parse().map_err(failed)?, value);
                }
                Arc::new(builder.build().map_err(failed)?)
            }};
        }
        let store: Arc<dyn ObjectStore> = match url.0.scheme() {
            "gs" => build!(GoogleCloudStorageBuilder),
            "az" => build!(MicrosoftAzureBuilder),
            _ => build!(AmazonS3Builder),
        };
        let prefix = Path::from_url_path(url.0.path())
            .map_err(|e| StoreError::io(what(), std::io::Error::other(e)))?;
        Ok(Self { store, prefix })
    }

    /// A prefix in a store that is there already.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, prefix: Path::from(prefix) }
    }

    /// The same store, further below.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self { store: Arc::clone(&self.store), prefix: self.path(path) }
    }

    /// The whole name of an object.
    pub(crate) fn path(&self, path: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(path).parts()))
    }

    /// Reads an object of at most `limit` bytes; `None` when there is none.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read(path, limit).await?.map(|read| read.bytes))
    }

    pub(crate) async fn read(&self, path: &str, limit: usize) -> Result<Option<Read>, StoreError> {
        let full = self.path(path);
        let failed = |e| failed("read", &full, &e);
        let found = match self.store.get(&full).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if found.meta.size > limit as u64 {
            let why = format!("{} bytes; at most {limit} make sense here", found.meta.size);
            return Err(StoreError::io(format!("read {full}"), std::io::Error::other(why)));
        }
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok(Some(Read { bytes: found.bytes().await.map_err(failed)?, version }))
    }

    /// Writes an object in one request; the store's own error, because what it means depends on the mode.
    pub(crate) async fn write(
        &self,
        path: &str,
        bytes: Bytes,
        kind: Kind,
        mode: PutMode,
    ) -> Result<UpdateVersion, Error> {
        let options = PutOptions { mode, attributes: kind.attributes(), ..PutOptions::default() };
        Ok(self.store.put_opts(&self.path(path), bytes.into(), options).await?.into())
    }

    /// The names of all objects below `path`, relative to it.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let folder = self.path(path);
        let found: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|e| failed("list", &folder, &e))?;
        let name = |location: &Path| {
            let parts: Vec<_> =
                location.prefix_match(&folder)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        Ok(found.iter().filter_map(|object| name(&object.location)).collect())
    }

    /// Deletes objects; one that is not there is as good as deleted.
    pub(crate) async fn delete(&self, paths: Vec<String>) -> Result<(), StoreError> {
        let full: Vec<_> = paths.iter().map(|path| Ok(self.path(path))).collect();
        let mut deleted = self.store.delete_stream(Box::pin(futures_util::stream::iter(full)));
        loop {
            match deleted.try_next().await {
                Ok(Some(_)) | Err(Error::NotFound { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(failed("delete below", &self.prefix, &error)),
            }
        }
    }
}

/// The failure of a request, with what it was for.
pub(crate) fn failed(what: &str, path: &Path, error: &Error) -> StoreError {
    StoreError::io(format!("{what} {path}"), described(error))
}

/// An error and what is at the bottom of it, which HTTP clients keep to themselves.
fn described(error: &Error) -> std::io::Error {
    let mut text = error.to_string();
    let bottom = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
    if let Some(bottom) = bottom.map(ToString::to_string).filter(|bottom| !text.contains(bottom)) {
        text.push_str(": ");
        text.push_str(&bottom);
    }
    std::io::Error::other(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_kind_is_built_and_what_fails_is_named() {
        for (url, host) in [
            ("s3://logs/p?endpoint=https://127.0.0.1:1&region=x&skip_signature=true", "127.0.0.1"),
            (
                "s3://logs/p?endpoint=http://127.0.0.1:1&allow_http=true&region=x&skip_signature=true",
                "127.0.0.1",
            ),
            (
                "s3://logs/p?endpoint=http://127.0.0.1:1&region=x&skip_signature=true",
                "URL scheme is not allowed",
            ),
        ] {
            let bucket = Bucket::open(&url.parse().unwrap(), Retries::Never).unwrap();
            let error = bucket.get("a/b", 10).await.unwrap_err().to_string();
            assert!(error.contains("read p/a/b") && error.contains(host), "{url}: {error}");
        }
        for url in ["gs://logs/p?skip_signature=true", "az://logs/p?account_name=me&skip_signature=true"] {
            Bucket::open(&url.parse().unwrap(), Retries::Transient).unwrap();
        }
    }

    #[test]
    fn an_address_is_a_bucket_without_secrets() {
        for good in [
            "s3://bucket",
            "s3://bucket/a/b",
            "s3://bucket/a?endpoint=http://127.0.0.1:9000&allow_http=true&region=x",
            "gs://bucket/a",
            "az://container/a?account_name=me",
        ] {
            assert_eq!(good.parse::<BucketUrl>().unwrap().to_string(), good);
        }
        for (wrong, why) in [
            ("bucket/a", "relative URL"),
            ("https://bucket/a", "begins with s3://"),
            ("s3:///a", "names no bucket"),
            ("s3://key:secret@bucket/a", "from the environment"),
            ("s3://bucket/a?secret_access_key=x", "no option \"secret_access_key\"; allow_http, endpoint"),
            ("gs://bucket/a?endpoint=x", "no option \"endpoint\""),
            ("s3://bucket/a//b", "empty"),
        ] {
            let error = wrong.parse::<BucketUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
    }
}
