//! Vectors of every format: files below `testdata/`, each with what must become of it and which rule says so.
//!
//! `cargo vectors` writes them; the same code checks them, so a vector cannot be written that does not behave as its
//! index says. A folder has one `index.json`.

mod bundle;
mod check;
pub mod evidence;
mod leaf;
mod promise;
mod receipt;
mod record;
mod seal;
mod statement;
mod succession;
mod tlog;
mod witness;

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::world::World;

pub use check::check;

/// What must become of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It passes every check.
    Accept,
    /// It is refused.
    Reject,
}

/// One line of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// File name in the folder; those that begin with `fail_` are refused.
    pub file: String,
    /// What must become of it.
    pub expect: Expect,
    /// What it shows.
    pub rule: String,
    /// The page and section of `spec/` that says so.
    pub clause: String,
    /// How the file is to be read, where the folder has more than one way: a kind, an entry, a policy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub with: String,
    /// This implementation's words for the refusal; other implementations have their own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A vector.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Its line in the index.
    pub entry: Entry,
    /// Its file.
    pub bytes: Vec<u8>,
}

/// A folder of vectors.
pub struct Folder {
    /// Name below `testdata/`.
    pub name: &'static str,
    /// The page that its rules are on, without `spec/`.
    page: &'static str,
    extension: &'static str,
    vectors: Vec<Vector>,
}

impl Folder {
    const fn new(name: &'static str, page: &'static str, extension: &'static str) -> Self {
        Self { name, page, extension, vectors: Vec::new() }
    }

    /// `section` is a heading of the folder's page, or `page#heading` of another one.
    fn pass(&mut self, name: &str, section: &str, with: &str, bytes: Vec<u8>) {
        self.push(name, Expect::Accept, section, with, bytes);
    }

    fn fail(&mut self, rule: &str, section: &str, with: &str, bytes: Vec<u8>) {
        self.push(&format!("fail_{rule}"), Expect::Reject, section, with, bytes);
    }

    fn push(&mut self, name: &str, expect: Expect, section: &str, with: &str, bytes: Vec<u8>) {
        let entry = Entry {
            file: format!("{name}.{}", self.extension),
            expect,
            rule: name.trim_start_matches("fail_").replace('_', " "),
            clause: match section.split_once('#') {
                Some(_) => format!("spec/{section}"),
                None => format!("spec/{}#{section}", self.page),
            },
            with: with.to_owned(),
            error: String::new(),
        };
        assert!(self.vectors.iter().all(|other| other.entry.file != entry.file), "{name} is there twice");
        self.vectors.push(Vector { entry, bytes });
    }

    /// The vectors, each checked to behave as its index says.
    ///
    /// # Panics
    /// When one does not: then a rule or a vector is wrong.
    pub fn checked(mut self, world: &World) -> Vec<Vector> {
        for vector in &mut self.vectors {
            match (check(world, self.name, &vector.entry.with, &vector.bytes), vector.entry.expect) {
                (Ok(()), Expect::Accept) => {}
                (Err(error), Expect::Reject) => vector.entry.error = error,
                (outcome, expect) => {
                    panic!("{}/{}: expected {expect:?}, got {outcome:?}", self.name, vector.entry.file)
                }
            }
        }
        self.vectors
    }
}

/// Every folder, generated.
pub fn folders(world: &World) -> Vec<Folder> {
    vec![
        statement::folder(world),
        leaf::folder(world),
        receipt::folder(world),
        record::folder(world),
        bundle::folder(world),
        seal::key_configs(world),
        seal::requests(world),
        seal::answers(world),
        tlog::policies(world),
        tlog::checkpoints(world),
        tlog::proofs(world),
        succession::folder(world),
        promise::folder(world),
        witness::requests(world),
        evidence::folder(world),
    ]
}

/// Writes every folder below `root`, replacing what was there.
///
/// # Errors
/// When a file cannot be written.
pub fn write(world: &World, root: &Path) -> io::Result<usize> {
    let mut written = 0;
    for folder in folders(world) {
        let path = root.join(folder.name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&path)?,
        }
        let vectors = folder.checked(world);
        for vector in &vectors {
            fs::write(path.join(&vector.entry.file), &vector.bytes)?;
        }
        let index: Vec<&Entry> = vectors.iter().map(|vector| &vector.entry).collect();
        let mut json = serde_json::to_string_pretty(&index).map_err(io::Error::other)?;
        json.push('\n');
        fs::write(path.join("index.json"), json)?;
        written += vectors.len();
    }
    Ok(written)
}

/// The index of a folder as it is in the repository.
///
/// # Errors
/// When it is missing or malformed.
pub fn index(folder: &str) -> io::Result<Vec<Entry>> {
    let bytes = fs::read(crate::vector(folder).join("index.json"))?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}
