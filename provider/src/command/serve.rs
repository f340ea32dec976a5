//! `serve`: the daemon.

use std::path::PathBuf;
#[cfg(feature = "mlx")]
use std::sync::Arc;

use glassbloom_service::ExitCode;

/// What to serve.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The data folder that `init` made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Another configuration file than provider.toml in the data folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    #[cfg(not(feature = "mlx"))]
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // No fallback: an answer that no model gave must not carry a receipt.
        let Self { data, config } = self;
        let file = config.unwrap_or_else(|| data.join(crate::config::FILE_NAME));
        anyhow::bail!(
            "this build has no engine, so {} cannot be served; run `cargo up`, or build with --features mlx",
            file.display()
        )
    }

    #[cfg(feature = "mlx")]
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        use glassbloom_hardware::harden;
        use glassbloom_service::SystemClock;

        use crate::config::Config;

        // Before there are keys, prompts or threads.
        for step in harden::process().refused() {
            tracing::warn!("{step}");
        }
        let config = match &self.config {
            Some(file) => Config::load_from(file, &self.data)?,
            None => Config::load(&self.data)?,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let shutdown = glassbloom_service::on_signals();
            let engine = load(&config)?;
            crate::serve(config, engine, Arc::new(SystemClock), shutdown).await?;
            Ok(ExitCode::Ok)
        })
    }
}

#[cfg(feature = "mlx")]
fn load(config: &crate::config::Config) -> anyhow::Result<Arc<dyn crate::engine::Engine>> {
    use crate::engine::{MlxEngine, Options};

    let models = config.models.iter().map(|model| (model.alias.clone(), model.folder.clone()));
    Ok(Arc::new(MlxEngine::load(models, Options::default())?))
}
