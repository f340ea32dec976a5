//! Builds the programs that the other tasks run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The packages with programs.
const PACKAGES: [&str; 6] = [
    "glassbloom-auditor",
    "glassbloom-bundle",
    "glassbloom-coordinator",
    "glassbloom-log",
    "glassbloom-provider",
    "glassbloom-proxy",
];

/// Cargo, as this process was started by it.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The folder that this program was built into, where its siblings are.
pub fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let folder = own.parent().context("this program lies in a folder")?;
    // Test programs lie one level below.
    Ok(if folder.ends_with("deps") {
        folder.parent().context("deps lies in a folder")?.to_owned()
    } else {
        folder.to_owned()
    })
}

/// Builds every program; with MLX unless `mlx` is false.
pub fn binaries(root: &Path, mlx: bool, progress: &dyn Fn(&str)) -> Result<()> {
    progress("building the programs (the first time takes some minutes)");
    let mut build = cargo(root);
    build.args(["build", "--bins"]);
    PACKAGES.iter().for_each(|package| {
        build.args(["--package", package]);
    });
    if mlx {
        build.args(["--features", "glassbloom-provider/mlx"]);
    }
    let status = build.status().context("starting cargo")?;
    ensure!(status.success(), "the programs could not be built; see above");
    Ok(())
}

/// Builds the explorer's static files into `web/dist`.
pub fn explorer(root: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    progress("building the explorer (WebAssembly)");
    let status = Command::new(programs()?.join("glassbloom-web"))
        .current_dir(root)
        .args(["build", "--out", "web/dist"])
        .status()
        .context("starting glassbloom-web")?;
    ensure!(status.success(), "the explorer could not be built; see above");
    Ok(())
}
