//! The Node clients that tests drive: installed from the npm registry at exact versions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::wheel::succeed;

const PACKAGES: [&str; 1] = ["openai@7.55.0"];

/// The folder whose `node_modules` has the clients, whether it is made yet or not.
pub fn folder(root: &Path) -> PathBuf {
    root.join("target/node")
}

/// Installs the clients, or finds that they are there.
///
/// # Errors
/// Without Node and npm, or without a network the first time.
pub fn clients(root: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let folder = folder(root);
    let stamp = folder.join(".packages");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == PACKAGES.join(" ")) {
        return Ok(folder);
    }
    progress("installing the Node clients");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(folder.join("package.json"), "{\"private\":true,\"type\":\"module\"}\n")
        .context("writing package.json")?;
    succeed(
        Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"])
            .args(PACKAGES)
            .current_dir(&folder),
    )
    .context("installing the Node clients needs Node 20 or later with npm")?;
    fs::write(&stamp, PACKAGES.join(" ")).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(folder)
}
