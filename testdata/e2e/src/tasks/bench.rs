//! `cargo bench-log`: builds what is measured with optimisation, and measures it.

use std::{ffi::OsString, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::build;

/// Builds the release programs and the load generator, and runs it with these arguments.
///
/// # Errors
/// When they cannot be built, or a measurement fails.
pub fn log(root: &Path, arguments: &[OsString], progress: &dyn Fn(&str)) -> Result<()> {
    progress("building with optimisation (the first time takes some minutes)");
    let mut command = build::cargo(root);
    command.args(["build", "--release", "--features", "glassbloom-e2e/bench"]);
    for (package, program) in [
        ("glassbloom-auditor", "glassbloom-auditor"),
        ("glassbloom-e2e", "glassbloom-bench"),
        ("glassbloom-log", "glassbloom-log"),
    ] {
        command.args(["--package", package, "--bin", program]);
    }
    ensure!(command.status().context("starting cargo")?.success(), "the build failed; see above");
    let folder = build::programs()?;
    let release = folder.parent().context("the build folder lies in a folder")?.join("release");
    let status = Command::new(release.join("glassbloom-bench"))
        .current_dir(root)
        .arg("log")
        .args(arguments)
        .status()
        .context("starting glassbloom-bench")?;
    ensure!(status.success(), "the measurement failed; see above");
    Ok(())
}
