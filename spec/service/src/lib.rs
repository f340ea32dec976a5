//! What Glassbloom's binaries share and the spec refuses: clock, randomness, shutdown, tracing, files that
//! survive a power cut, problem+json and reading a log over HTTP.
//!
//! # In scope
//! Things that at least two binaries need in order to run.
//!
//! # Out of scope
//! Anything that decides whether a claim is true: that is `glassbloom-spec`.

pub mod clock;
pub mod durable;
pub mod exit;
pub mod http;
pub mod log_client;
pub mod problem;
pub mod shutdown;

pub use clock::{Clock, MockClock, SystemClock};
pub use exit::ExitCode;
pub use http::{http_client, install_tls, read_bounded};
pub use log_client::{Append, FetchError, LogClient};
pub use problem::Problem;
pub use shutdown::{Shutdown, on_signals};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Sends tracing events to standard error: `GLASSBLOOM_LOG` (as in `env_filter`) chooses, default `info`.
pub fn tracing_init() {
    let filter = EnvFilter::try_from_env("GLASSBLOOM_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,hyper=warn"));
    // A second call in one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(filter)
        // What cannot be written, because the disk below is full, is no reason to stop; nor to say so to the same disk.
        .with(fmt::layer().with_writer(std::io::stderr).log_internal_errors(false))
        .try_init();
}

/// Fresh random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness to give; nothing here can go on without.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}
