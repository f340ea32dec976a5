//! Staged batches on a local disk: appended to files that are written over again and again, one sync per batch.
//!
//! ```text
//! record = SHA-256 of the rest || u64 generation || u64 size before || u64 size after || root after || u64 length || batch
//! ```
//! All numbers are big-endian. A file holds records of one generation from its beginning; the first thing that is not a
//! whole record of that generation ends it: the tail that a power cut tore, or what was there before the file was used
//! again. No record is written over while its batch is needed. Files are written full of zeros when they are made, so that
//! a sync has to bring no metadata to the disk.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use glassbloom_spec::hash::Hash;

use super::BatchName;

/// Bytes of a file; a batch that is larger gets a file of its own.
const FILE_SIZE: u64 = 4 << 20;
/// Files kept for reuse.
const SPARE_FILES: usize = 3;
const SUFFIX: &str = ".journal";
const HEADER: usize = Hash::LEN + 8 + 8 + 8 + Hash::LEN + 8;

pub(super) struct Journal {
    folder: PathBuf,
    /// The newest in use.
    generation: u64,
    files: BTreeMap<u64, Segment>,
    /// The file that is appended to, and where.
    open: Option<(u64, u64)>,
    batches: BTreeMap<BatchName, Place>,
}

struct Segment {
    file: File,
    path: PathBuf,
    size: u64,
    /// Batches in it that are needed.
    needed: usize,
}

#[derive(Clone, Copy)]
struct Place {
    file: u64,
    offset: u64,
    length: usize,
}

impl Journal {
    /// Reads what the last process left in this folder.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut journal = Self {
            folder: folder.to_owned(),
            generation: 0,
            files: BTreeMap::new(),
            open: None,
            batches: BTreeMap::new(),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(SUFFIX)?.parse().ok());
            let Some(number) = name else { continue };
            let file = File::options().read(true).write(true).open(&path)?;
            let bytes = fs::read(&path)?;
            let segment = Segment { file, path, size: bytes.len() as u64, needed: 0 };
            journal.files.insert(number, segment);
            found.extend(records(&bytes).into_iter().map(|(generation, name, offset, length)| {
                (generation, offset, name, Place { file: number, offset, length })
            }));
        }
        // Of two batches of one name the later one counts.
        found.sort_unstable_by_key(|(generation, offset, ..)| (*generation, *offset));
        for (generation, _, name, place) in found {
            journal.generation = journal.generation.max(generation);
            journal.keep(name, place);
        }
        Ok(journal)
    }

    /// Appends a batch; it survives a power cut when this returns. After an error drop the journal and open it anew.
    pub(super) fn append(&mut self, name: BatchName, batch: &[u8]) -> io::Result<()> {
        let length = (HEADER + batch.len()) as u64;
        let (number, offset) = match self.open {
            Some((number, offset)) if offset + length <= self.files[&number].size => (number, offset),
            _ => {
                let free =
                    self.files.iter().find(|(_, file)| file.needed == 0 && file.size >= length).map(|f| *f.0);
                let number = match free {
                    Some(number) => number,
                    None => self.make(length.next_multiple_of(4096).max(FILE_SIZE))?,
                };
                self.generation += 1;
                (number, 0)
            }
        };
        let rest = header(self.generation, name, batch);
        let checksum = Hash::of_parts(&[&rest, batch]);
        let file = &self.files[&number].file;
        file.write_all_at(&[checksum.as_bytes(), &rest[..]].concat(), offset)?;
        file.write_all_at(batch, offset + HEADER as u64)?;
        file.sync_data()?;
        self.open = Some((number, offset + length));
        self.keep(name, Place { file: number, offset, length: batch.len() });
        Ok(())
    }

    pub(super) fn names(&self) -> Vec<BatchName> {
        self.batches.keys().copied().collect()
    }

    /// Reads a batch back from the disk; `None` when there is none, or it is no longer what was written.
    pub(super) fn read(&self, name: BatchName) -> io::Result<Option<Bytes>> {
        let Some(place) = self.batches.get(&name) else { return Ok(None) };
        let mut bytes = vec![0; HEADER + place.length];
        self.files[&place.file].file.read_exact_at(&mut bytes, place.offset)?;
        let whole = record(&bytes).is_some_and(|(_, found, _)| found == name);
        Ok(whole.then(|| Bytes::from(bytes).slice(HEADER..)))
    }

    /// Forgets batches. On disk they stay until their file is used again, and come back when the journal is opened.
    pub(super) fn remove(&mut self, names: &[BatchName]) -> io::Result<()> {
        for name in names {
            if let Some(place) = self.batches.remove(name) {
                self.release(place);
            }
        }
        let unusual = |file: &Segment| file.size != FILE_SIZE;
        if self
            .open
            .is_some_and(|(number, _)| self.files[&number].needed == 0 && unusual(&self.files[&number]))
        {
            self.open = None;
        }
        let open = self.open.map(|(number, _)| number);
        let spare = self.files.iter().filter(|(number, file)| file.needed == 0 && Some(**number) != open);
        let (spare, mut surplus): (Vec<_>, Vec<_>) =
            spare.map(|(number, file)| (*number, unusual(file))).partition(|(_, unusual)| !unusual);
        surplus.extend(spare.into_iter().skip(SPARE_FILES));
        for (number, _) in surplus {
            if let Some(file) = self.files.remove(&number) {
                fs::remove_file(file.path)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, name: BatchName, place: Place) {
        if let Some(file) = self.files.get_mut(&place.file) {
            file.needed += 1;
        }
        if let Some(replaced) = self.batches.insert(name, place) {
            self.release(replaced);
        }
    }

    fn release(&mut self, place: Place) {
        if let Some(file) = self.files.get_mut(&place.file) {
            file.needed -= 1;
        }
    }

    fn make(&mut self, size: u64) -> io::Result<u64> {
        let number = self.files.keys().next_back().map_or(0, |last| last + 1);
        let path = self.folder.join(format!("{number:010}{SUFFIX}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let zeros = vec![0; 1 << 16];
        let mut at = 0;
        while at < size {
            let chunk = usize::try_from((size - at).min(1 << 16)).expect("at most 64 KiB");
            file.write_all_at(&zeros[..chunk], at)?;
            at += chunk as u64;
        }
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        self.files.insert(number, Segment { file, path, size, needed: 0 });
        Ok(number)
    }
}

impl Drop for Journal {
    /// A log that does not run needs no files to write to.
    fn drop(&mut self) {
        for file in self.files.values().filter(|file| file.needed == 0) {
            // The next process finds it and uses it.
            let _ = fs::remove_file(&file.path);
        }
    }
}

/// Everything of the header but the checksum.
fn header(generation: u64, name: BatchName, batch: &[u8]) -> [u8; HEADER - Hash::LEN] {
    let mut bytes = [0; HEADER - Hash::LEN];
    bytes[..8].copy_from_slice(&generation.to_be_bytes());
    bytes[8..16].copy_from_slice(&name.old.get().to_be_bytes());
    bytes[16..24].copy_from_slice(&name.new.get().to_be_bytes());
    bytes[24..56].copy_from_slice(name.root.as_bytes());
    bytes[56..].copy_from_slice(&(batch.len() as u64).to_be_bytes());
    bytes
}

/// The record at the beginning of these bytes: its generation, its name, and the length of its batch.
fn record(bytes: &[u8]) -> Option<(u64, BatchName, usize)> {
    let (checksum, rest) = bytes.split_first_chunk()?;
    let number = |at: usize| Some(u64::from_be_bytes(*rest.get(at..)?.first_chunk()?));
    let (generation, old, new) = (number(0)?, number(8)?, number(16)?);
    let root = Hash::from_bytes(*rest.get(24..)?.first_chunk()?);
    let length = usize::try_from(number(56)?).ok()?;
    let end = length.checked_add(HEADER - Hash::LEN)?;
    let name = BatchName { old: old.into(), new: new.into(), root };
    (Hash::of(rest.get(..end)?) == Hash::from_bytes(*checksum)).then_some((generation, name, length))
}

/// The records of the file's generation: generation, name, offset, length of the batch.
fn records(bytes: &[u8]) -> Vec<(u64, BatchName, u64, usize)> {
    let mut found: Vec<(u64, BatchName, u64, usize)> = Vec::new();
    let mut offset = 0;
    while let Some((generation, name, length)) = bytes.get(offset..).and_then(record) {
        if found.first().is_some_and(|first| first.0 != generation) {
            break;
        }
        found.push((generation, name, offset as u64, length));
        offset += HEADER + length;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u64) -> BatchName {
        BatchName { old: n.into(), new: (n + 1).into(), root: Hash::of(&n.to_be_bytes()) }
    }

    fn batch(n: u64, length: usize) -> Vec<u8> {
        vec![n as u8; length]
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_was_appended_is_there_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for n in 0..10 {
            journal.append(name(n), &batch(n, 1000)).unwrap();
        }
        journal.append(name(3), &batch(33, 10)).unwrap();
        for _ in 0..2 {
            assert_eq!(journal.names(), (0..10).map(name).collect::<Vec<_>>());
            assert_eq!(journal.read(name(9)).unwrap().unwrap(), batch(9, 1000));
            assert_eq!(journal.read(name(3)).unwrap().unwrap(), batch(33, 10), "the later one counts");
            assert_eq!(journal.read(name(10)).unwrap(), None);
            drop(journal);
            journal = Journal::open(folder.path()).unwrap();
        }
        // A journal that was opened anew does not write over what it found.
        journal.append(name(11), &batch(11, 1000)).unwrap();
        drop(journal);
        let mut journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.names().len(), 11);
        assert_eq!(journal.read(name(0)).unwrap().unwrap(), batch(0, 1000));
        journal.remove(&journal.names()).unwrap();
        drop(journal);
        assert_eq!(files(folder.path()), 0, "what nobody needs is gone when the log is closed");
    }

    #[test]
    fn files_are_used_again_and_old_records_do_not_come_back_among_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for n in 0..40 {
            // Lengths differ, so that new records end in the middle of old ones.
            journal.append(name(n), &batch(n, (1 << 20) + n as usize)).unwrap();
            journal.remove(&[name(n)]).unwrap();
            assert!(files(folder.path()) <= 2 + SPARE_FILES);
        }
        journal.append(name(40), &batch(40, 7)).unwrap();
        // As after a kill: nothing is tidied up.
        std::mem::forget(journal);
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.read(name(40)).unwrap().unwrap(), batch(40, 7));
        for old in journal.names() {
            assert_eq!(journal.read(old).unwrap().unwrap()[0], old.old.get() as u8);
        }
    }

    #[test]
    fn needed_batches_are_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for n in 0..30 {
            journal.append(name(n), &batch(n, 1 << 20)).unwrap();
        }
        let all: Vec<_> = (0..30).map(name).collect();
        assert_eq!(journal.names(), all);
        journal.remove(&all[1..]).unwrap();
        for n in 30..60 {
            journal.append(name(n), &batch(n, 1 << 20)).unwrap();
        }
        for n in (30..60).chain([0]) {
            assert_eq!(journal.read(name(n)).unwrap().unwrap(), batch(n, 1 << 20));
        }
        // A batch larger than a file gets one of its own, which is not kept.
        journal.append(name(60), &batch(60, 9 << 20)).unwrap();
        assert_eq!(journal.read(name(60)).unwrap().unwrap().len(), 9 << 20);
        journal.remove(&journal.names()).unwrap();
        journal.append(name(61), &batch(61, 1)).unwrap();
        journal.remove(&[name(61)]).unwrap();
        assert!(files(folder.path()) <= 1 + SPARE_FILES);
        let large = |file: io::Result<fs::DirEntry>| file.unwrap().metadata().unwrap().len() > FILE_SIZE;
        assert!(!fs::read_dir(folder.path()).unwrap().any(large));
    }

    #[test]
    fn a_torn_tail_is_no_batch() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.append(name(1), &batch(1, 300)).unwrap();
        journal.append(name(2), &batch(2, 300)).unwrap();
        drop(journal);
        let path = folder.path().join(format!("{:010}{SUFFIX}", 0));
        let (first, end) = (HEADER + 300, 2 * (HEADER + 300));
        // Without most of the zeros: this is written a thousand times.
        let whole = fs::read(&path).unwrap()[..end + 100].to_vec();
        for at in 0..end {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            fs::write(&path, &torn).unwrap();
            let names = Journal::open(folder.path()).unwrap().names();
            assert_eq!(names, if at < first { vec![] } else { vec![name(1)] }, "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            let names = Journal::open(folder.path()).unwrap().names();
            assert_eq!(names, if at < first { vec![] } else { vec![name(1)] }, "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.names(), [name(1), name(2)]);
        // What changes on the disk afterwards is not passed off as the batch.
        let mut torn = whole;
        torn[HEADER + 5] ^= 1;
        fs::write(&path, &torn).unwrap();
        assert_eq!(journal.read(name(1)).unwrap(), None);
    }
}
