//! A bucket that is not as good as it should be.

use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, BoxStream};
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
    /// After so many more requests all fail; the first that does is carried out all the same, or not.
    GoesDown { after: usize, carried_out: bool },
    /// All requests fail.
    Down,
}

impl FakeStore {
    pub(crate) fn fault(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn meets(&self) -> Fault {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *fault;
        *fault = match now {
            Fault::LosesAnAnswer => Fault::None,
            Fault::GoesDown { after: 0, .. } => Fault::Down,
            Fault::GoesDown { after, carried_out } => Fault::GoesDown { after: after - 1, carried_out },
            other => other,
        };
        now
    }

    /// Whether requests fail now.
    pub(crate) fn is_down(&self) -> bool {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) == Fault::Down
    }

    fn answers(&self) -> Result<()> {
        match self.meets() {
            Fault::Down | Fault::GoesDown { after: 0, .. } => Err(timed_out()),
            _ => Ok(()),
        }
    }
}

fn timed_out() -> Error {
    Error::Generic { store: "fake", source: "timed out".into() }
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
            Fault::Down | Fault::GoesDown { after: 0, carried_out: false } => return Err(timed_out()),
            Fault::IgnoresConditions => options.mode = PutMode::Overwrite,
            _ => {}
        }
        let put = self.inner.put_opts(path, payload, options).await;
        match fault {
            Fault::LosesAnAnswer | Fault::GoesDown { after: 0, .. } => Err(timed_out()),
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
        self.answers()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.answers() {
            Ok(()) => self.inner.delete_stream(paths),
            Err(error) => Box::pin(stream::once(async { Err(error) })),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.answers() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => Box::pin(stream::once(async { Err(error) })),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
