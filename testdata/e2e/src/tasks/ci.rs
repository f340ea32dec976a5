//! `cargo ci`: all of the set-up, then every test.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{build, mlx, node, python};

/// What needs MLX is built and run, because it was set up; the load generator is left out of everyday builds.
const FEATURES: [&str; 2] = ["--features", "glassbloom-provider/mlx,glassbloom-e2e/mlx,glassbloom-e2e/bench"];

/// Sets everything up and runs every test.
///
/// # Errors
/// When something cannot be set up, or a test fails.
pub fn run(root: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    mlx::set_up(root, progress).context("setting up MLX")?;
    python::venv(root, progress).context("setting up the Python clients")?;
    node::clients(root, progress).context("setting up the Node clients")?;
    progress("building programs and tests (the first time takes many minutes)");
    // Programs and tests in one go, so that everything is compiled with one set of features, once.
    let status =
        build::cargo(root).args(["build", "--workspace", "--bins", "--tests"]).args(FEATURES).status();
    ensure!(status.context("starting cargo")?.success(), "the tests could not be built; see above");
    build::explorer(root, progress)?;
    progress("running every test");
    let status = build::cargo(root).args(["test", "--workspace", "--no-fail-fast"]).args(FEATURES).status();
    ensure!(status.context("starting cargo")?.success(), "tests failed; see above");
    Ok(())
}
