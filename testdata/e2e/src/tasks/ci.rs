//! `cargo ci`: all of the set-up, then every test.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{build, mlx, node, python};

/// Sets everything up and runs every test.
///
/// # Errors
/// When something cannot be set up, or a test fails.
pub fn run(root: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    mlx::set_up(root, progress).context("setting up MLX")?;
    python::venv(root, progress).context("setting up the Python clients")?;
    node::clients(root, progress).context("setting up the Node clients")?;
    build::binaries(root, true, progress)?;
    build::explorer(root, progress)?;
    progress("running every test");
    let status = build::cargo(root)
        .args(["test", "--workspace", "--features", "glassbloom-provider/mlx,glassbloom-e2e/mlx"])
        .env("GLASSBLOOM_MLX", "1")
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "tests failed; see above");
    Ok(())
}
