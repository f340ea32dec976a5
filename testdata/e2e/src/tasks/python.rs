//! The Python environment with the software that Glassbloom is compared with: `mlx-lm`, and the clients
//! `openai` and `llm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::wheel::{sha256, succeed};

/// The environment's interpreter below a repository, whether it is made yet or not.
pub fn interpreter(root: &Path) -> PathBuf {
    root.join("target/venv/bin/python")
}

/// Makes `target/venv` below the repository `root` with exactly the packages of
/// `testdata/e2e/requirements.txt`, or finds that it is made already, and gives its interpreter.
///
/// # Errors
/// Without python3 3.11 or later with venv, or without a network the first time.
pub fn venv(root: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
    let requirements = root.join("testdata/e2e/requirements.txt");
    let folder = root.join("target/venv");
    let python = interpreter(&root);
    // With the path in it, because an environment does not survive a move.
    let stamp = format!("{} {}", sha256(&requirements)?, folder.display());
    let stamped = folder.join(".requirements");
    if fs::read_to_string(&stamped).is_ok_and(|text| text == stamp) {
        return Ok(python);
    }

    progress("making the Python environment for comparisons");
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("making a Python environment needs python3 3.11 or later with venv (Debian: apt install python3-venv)")?;
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .arg("--only-binary=:all:")
            .arg("--requirement")
            .arg(&requirements),
    )
    .with_context(|| format!("installing {} needs the Python package index", requirements.display()))?;
    // Last, so that an installation that broke off is done again.
    fs::write(&stamped, stamp).with_context(|| format!("writing {}", stamped.display()))?;
    Ok(python)
}
