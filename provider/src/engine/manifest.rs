//! The files a model consists of, as its entry in the log lists them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use glassbloom_spec::hash::{Hash, Hasher};

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its name in the model's folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: Hash,
}

/// The files in `folder` that decide what a model answers, sorted by name: its configuration, tokenizer, chat
/// template and weights. Others, such as a README, do not count.
///
/// # Errors
/// When the folder or a file in it cannot be read.
pub fn manifest(folder: &Path) -> io::Result<Vec<ManifestFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Follows links: Hugging Face's cache is made of them.
        if !counts(&name) || !std::fs::metadata(entry.path())?.is_file() {
            continue;
        }
        let (size, sha256) = digest(&entry.path())?;
        files.push(ManifestFile { name, size, sha256 });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn counts(name: &str) -> bool {
    name.ends_with(".safetensors")
        || name == "model.safetensors.index.json"
        || name.starts_with("chat_template.")
        || matches!(
            name,
            "added_tokens.json"
                | "config.json"
                | "generation_config.json"
                | "merges.txt"
                | "special_tokens_map.json"
                | "tokenizer.json"
                | "tokenizer_config.json"
                | "vocab.json"
        )
}

fn digest(path: &Path) -> io::Result<(u64, Hash)> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hasher.finish()));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_counts_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tokenizer.json", "README.md", "model.safetensors", "config.json", "train.py"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = manifest(folder.path()).unwrap();
        assert_eq!(
            files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
            ["config.json", "model.safetensors", "tokenizer.json"]
        );
        assert_eq!(files[0].size, 11);
        assert_eq!(files[0].sha256, Hash::of(b"config.json"));
    }
}
