//! Heads in a bucket, swapped by conditional put.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use glassbloom_spec::hash::Hash;
use object_store::{Error, PutMode, UpdateVersion};
use tokio::sync::Mutex;

use super::{
    HeadStore, StoreError, StoredHead,
    bucket::{Bucket, Kind, failed},
};

/// One object per log, `PREFIX/heads/ORIGIN`:
///
/// ```text
/// "glassbloom head v1\n" || "applied " decimal "\n" || "writer " hex "\n\n" || checkpoint with the log's own signature
/// ```
///
/// Swapped with If-Match. Each swap is sent once: a swap whose answer is lost is an error that stops the log, and
/// opening it again reads what the bucket holds.
///
/// A store that was opened to serve takes the log over when it loads the head: it writes the head again with a random
/// `writer` of its own. From then on no other process swaps it, and neither does a request of an earlier process that
/// is still on its way: `Log::open` drops the staged batches that such a swap would need.
pub struct ObjectHeads {
    bucket: Bucket,
    /// The heads last read or written, and their versions.
    known: Mutex<HashMap<String, (StoredHead, UpdateVersion)>>,
    takes_over: bool,
    writer: Hash,
}

const MAGIC: &[u8] = b"glassbloom head v1\napplied ";
/// No head is larger, in bytes: it has the log's own signatures only.
const MAX_HEAD: usize = 64 * 1024;
/// How often a head is read again that changed while it was taken over.
const ATTEMPTS: usize = 3;

impl ObjectHeads {
    /// Opens the heads in a bucket whose requests are never sent twice, for `init`, which leaves a running log alone.
    ///
    /// # Errors
    /// When the bucket ignores If-None-Match or If-Match: two processes could both believe that they swapped the
    /// head, which is how a log forks.
    pub async fn create(bucket: Bucket) -> Result<Self, StoreError> {
        Self::try_out(bucket, false).await
    }

    /// The same, to serve.
    ///
    /// # Errors
    /// As for [`ObjectHeads::create`].
    pub async fn open(bucket: Bucket) -> Result<Self, StoreError> {
        Self::try_out(bucket, true).await
    }

    async fn try_out(bucket: Bucket, takes_over: bool) -> Result<Self, StoreError> {
        let writer = Hash::from_bytes(glassbloom_service::random());
        let store = Self { bucket, known: Mutex::default(), takes_over, writer };
        // A name of its own, so that two processes that start at once do not meet here.
        let name = format!("heads/probe-{writer}");
        let kept = store.keeps_conditions(&name).await;
        store.bucket.delete(vec![name.clone()]).await?;
        if kept? {
            return Ok(store);
        }
        let why = "this bucket ignores If-None-Match or If-Match, so it cannot keep the head of a log; keep the head in \
                   SQLite or PostgreSQL, see `head` in the manual of log.toml";
        Err(StoreError::io(format!("try {}", store.bucket.path(&name)), std::io::Error::other(why)))
    }

    async fn keeps_conditions(&self, name: &str) -> Result<bool, StoreError> {
        let write = |bytes: &'static [u8], mode| {
            self.bucket.write(name, Bytes::from_static(bytes), Kind::Private, mode)
        };
        let failed = |e| failed("write", &self.bucket.path(name), &e);
        let first = match write(b"1", PutMode::Create).await {
            Err(Error::NotImplemented { .. }) => return Ok(false),
            first => first.map_err(failed)?,
        };
        match write(b"2", PutMode::Create).await {
            Err(Error::AlreadyExists { .. }) => {}
            second => return second.map(|_| false).map_err(failed),
        }
        write(b"3", PutMode::Update(first.clone())).await.map_err(failed)?;
        match write(b"4", PutMode::Update(first)).await {
            Err(Error::Precondition { .. }) => Ok(true),
            stale => stale.map(|_| false).map_err(failed),
        }
    }

    async fn read(&self, origin: &str) -> Result<Option<(Stored, UpdateVersion)>, StoreError> {
        let name = name(origin);
        let Some(read) = self.bucket.read(&name, MAX_HEAD).await? else { return Ok(None) };
        let stored = Stored::decode(&read.bytes).ok_or_else(|| {
            let why = "not a head that this program wrote; it must not be repaired by hand";
            StoreError::io(format!("read {}", self.bucket.path(&name)), std::io::Error::other(why))
        })?;
        Ok(Some((stored, read.version)))
    }

    async fn write(&self, origin: &str, head: &StoredHead, mode: PutMode) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        // Only what was answered is known.
        known.remove(origin);
        let name = name(origin);
        let stored = Stored { head: head.clone(), writer: self.writer };
        match self.bucket.write(&name, stored.encode(), Kind::Private, mode).await {
            Ok(version) => {
                known.insert(origin.to_owned(), (stored.head, version));
                Ok(())
            }
            // 412, or 409 when two conditional puts meet.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(StoreError::HeadMoved { origin: origin.to_owned() })
            }
            Err(error) => Err(failed("swap the head at", &self.bucket.path(&name), &error)),
        }
    }
}

#[async_trait]
impl HeadStore for ObjectHeads {
    async fn create(&self, origin: &str, head: &StoredHead) -> Result<(), StoreError> {
        self.write(origin, head, PutMode::Create).await
    }

    async fn load(&self, origin: &str) -> Result<Option<StoredHead>, StoreError> {
        let mut moved = None;
        for _ in 0..ATTEMPTS {
            let Some((Stored { head, .. }, version)) = self.read(origin).await? else { return Ok(None) };
            if !self.takes_over {
                return Ok(Some(head));
            }
            match self.write(origin, &head, PutMode::Update(version)).await {
                Ok(()) => return Ok(Some(head)),
                Err(error @ StoreError::HeadMoved { .. }) => moved = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(moved.unwrap_or_else(|| StoreError::HeadMoved { origin: origin.to_owned() }))
    }

    async fn swap(&self, origin: &str, old: &StoredHead, new: &StoredHead) -> Result<(), StoreError> {
        let mut known = self.known.lock().await.get(origin).cloned();
        if known.is_none() {
            let read = self.read(origin).await?.filter(|(stored, _)| stored.writer == self.writer);
            known = read.map(|(stored, version)| (stored.head, version));
        }
        match known {
            Some((head, version)) if head == *old => self.write(origin, new, PutMode::Update(version)).await,
            _ => Err(StoreError::HeadMoved { origin: origin.to_owned() }),
        }
    }
}

fn name(origin: &str) -> String {
    format!("heads/{origin}")
}

#[derive(Debug, PartialEq, Eq)]
struct Stored {
    head: StoredHead,
    writer: Hash,
}

impl Stored {
    fn encode(&self) -> Bytes {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(format!("{}\nwriter {}\n\n", self.head.applied, self.writer).as_bytes());
        bytes.extend_from_slice(&self.head.note);
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let end = rest.windows(2).position(|two| two == b"\n\n")?;
        let (lines, note) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 2..]);
        let (applied, writer) = lines.split_once("\nwriter ")?;
        let head = StoredHead { note: note.to_vec(), applied: applied.parse().ok()? };
        let stored = Self { head, writer: writer.parse().ok()? };
        (!note.is_empty() && stored.encode() == bytes).then_some(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_head_has_one_form() {
        let head = StoredHead { note: b"note\n\nsignature\n".to_vec(), applied: 7.into() };
        let stored = Stored { head, writer: Hash::from_bytes([0xab; 32]) };
        let (text, id) = (stored.encode(), "ab".repeat(32));
        assert_eq!(text, format!("glassbloom head v1\napplied 7\nwriter {id}\n\nnote\n\nsignature\n"));
        assert_eq!(Stored::decode(&text), Some(stored));
        for wrong in [
            String::new(),
            format!("glassbloom head v2\napplied 7\nwriter {id}\n\nnote"),
            format!("glassbloom head v1\napplied 07\nwriter {id}\n\nnote"),
            format!("glassbloom head v1\napplied -7\nwriter {id}\n\nnote"),
            format!("glassbloom head v1\napplied \nwriter {id}\n\nnote"),
            format!("glassbloom head v1\napplied 7\nwriter {id}0\n\nnote"),
            format!("glassbloom head v1\napplied 7\nwriter {}\n\nnote", id.to_uppercase()),
            "glassbloom head v1\napplied 7\n\nnote".to_owned(),
            format!("glassbloom head v1\napplied 7\nwriter {id}\nnote"),
            format!("glassbloom head v1\napplied 7\nwriter {id}\n\n"),
        ] {
            assert_eq!(Stored::decode(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
