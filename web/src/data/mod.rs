//! What pages show: fetched, checked here, and ready to draw.

pub mod entry;
pub mod identity;
pub mod overview;
pub mod pin;
pub mod provider;
pub mod site;
pub mod verify;

pub use site::Site;

use crate::reader::{FetchError, ReadError};

/// Why a page cannot be shown, and what the visitor can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong, as a heading.
    pub title: String,
    /// The cause.
    pub cause: String,
    /// What to do next.
    pub next: String,
}

impl Trouble {
    /// The log, or this site, did not answer.
    pub fn unreachable(error: &FetchError) -> Self {
        Self {
            title: "The log cannot be read".to_owned(),
            cause: crate::check::sentence(&error.to_string()),
            next: "Check that the log runs and that this page may read it, then reload. `?log=URL` in the address of \
                   this page chooses another log."
                .to_owned(),
        }
    }

    /// A part of the log is missing or is not what it should be.
    pub fn read(error: &ReadError) -> Self {
        match error {
            ReadError::Fetch(error) => Self::unreachable(error),
            error => Self {
                title: "The log serves something else".to_owned(),
                cause: crate::check::sentence(&error.to_string()),
                next: "A log's tiles never change, so keep this and tell others: `glassbloom-auditor audit` \
                       finds every such place."
                    .to_owned(),
            },
        }
    }
}
