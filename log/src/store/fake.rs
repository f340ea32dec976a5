//! A bucket that is not as good as it should be.

use std::sync::{Mutex, PoisonError};

use futures_util::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};

/// Objects in memory behind an interface with a fault.
#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    inner: InMemory,
    fault: Mutex<Fault>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Puts whatever it is asked to put, as stores do that do not know If-None-Match or If-Match.
    IgnoresConditions,
    /// Refuses conditional puts.
    LacksConditions,
    /// The next put arrives, and its answer does not.
    LosesAnAnswer,
}

impl FakeStore {
    pub(crate) fn fault(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn meets(&self) -> Fault {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *fault;
        if now == Fault::LosesAnAnswer {
            *fault = Fault::None;
        }
        now
    }
}

impl std::fmt::Display for FakeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeStore")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FakeStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.meets();
        match fault {
            Fault::LacksConditions if options.mode != PutMode::Overwrite => {
                return Err(Error::NotImplemented { operation: "put".into(), implementer: self.to_string() });
            }
            Fault::IgnoresConditions => options.mode = PutMode::Overwrite,
            _ => {}
        }
        let put = self.inner.put_opts(path, payload, options).await;
        match fault {
            Fault::LosesAnAnswer => Err(Error::Generic { store: "fake", source: "timed out".into() }),
            _ => put,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
