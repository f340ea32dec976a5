//! Pinned files of the Python package index, fetched with its ordinary client and checked by SHA-256.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// One wheel: what it is called, for which platform, and the only bytes that are accepted for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// The platform tag. Always given, so that a newer system does not pick another file.
    pub(crate) platform: &'static str,
    pub(crate) sha256: &'static str,
}

impl Wheel {
    /// The wheel's file below `store`, downloaded unless it is there already.
    ///
    /// A file put there by hand serves as well: on a machine without a network, copy it from one that has it.
    pub(crate) fn fetch(&self, store: &Path) -> Result<PathBuf> {
        if let Some(file) = self.stored(store)? {
            return Ok(file);
        }
        std::fs::create_dir_all(store).with_context(|| format!("creating {}", store.display()))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary=:all:", "--platform", self.platform, "--dest"])
            .arg(store)
            .arg(format!("{}=={}", self.package, self.version));
        succeed(&mut pip).with_context(|| {
            format!(
                "downloading {} {} needs python3 with pip (Debian: apt install python3-pip) and the package index",
                self.package, self.version
            )
        })?;
        self.stored(store)?.with_context(|| {
            format!(
                "no file of {} {} in {} has SHA-256 {}: delete that folder and run this again",
                self.package,
                self.version,
                store.display(),
                self.sha256
            )
        })
    }

    /// Unpacks the wheel as `folder`, which is replaced; a folder this wheel already filled is left alone.
    pub(crate) fn unpack(&self, store: &Path, folder: &Path) -> Result<()> {
        let stamp = folder.join(".wheel");
        if std::fs::read_to_string(&stamp).is_ok_and(|text| text == self.sha256) {
            return Ok(());
        }
        let file = self.fetch(store)?;
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        succeed(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&file).arg(folder))
            .with_context(|| format!("unpacking {}", file.display()))?;
        // Last, so that an unpacking that broke off is done again.
        std::fs::write(&stamp, self.sha256).with_context(|| format!("writing {}", stamp.display()))
    }

    fn stored(&self, store: &Path) -> Result<Option<PathBuf>> {
        let Ok(entries) = std::fs::read_dir(store) else { return Ok(None) };
        let prefix = format!("{}-{}-", self.package.replace('-', "_"), self.version);
        for entry in entries {
            let file = entry.with_context(|| format!("reading {}", store.display()))?.path();
            let named =
                file.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with(&prefix));
            if named && sha256(&file)? == self.sha256 {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

/// Lowercase hexadecimal SHA-256 of a file.
pub(crate) fn sha256(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs a command to its end and gives what it wrote to standard output.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}:\n{}", output.status, said.trim_end());
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("{program} did not write text"))?;
    ensure!(!text.contains('\0'), "{program} did not write text");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of `wheel`, the bytes below.
    const SHA256: &str = "ba59926159d2aa256eb8739b8da7e2b574b960e1202c6d624cbe981cef996c91";

    #[test]
    fn only_the_pinned_bytes_count() {
        let store = tempfile::tempdir().unwrap();
        let wheel = Wheel { package: "my-package", version: "1.0", platform: "any", sha256: SHA256 };
        assert_eq!(wheel.stored(&store.path().join("none")).unwrap(), None);
        std::fs::write(store.path().join("my_package-1.0-py3-none-any.whl"), "something else").unwrap();
        std::fs::write(store.path().join("other-1.0-py3-none-any.whl"), "wheel").unwrap();
        assert_eq!(wheel.stored(store.path()).unwrap(), None);
        let file = store.path().join("my_package-1.0-py3-none-other.whl");
        std::fs::write(&file, "wheel").unwrap();
        assert_eq!(wheel.stored(store.path()).unwrap(), Some(file.clone()));
        assert_eq!(wheel.fetch(store.path()).unwrap(), file);
    }

    #[test]
    fn a_failed_command_says_what_it_said() {
        let error = succeed(Command::new("sh").args(["-c", "echo no such wheel >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no such wheel") && text.contains('3'), "{text}");
    }
}
