//! The pages: functions from data to what is shown.

mod entry;
mod overview;
mod policy;
mod provider;
mod verify;

pub use entry::EntryPage;
pub use overview::{ForkAlarm, OverviewPage};
pub use policy::PolicyPage;
pub use provider::ProviderPage;
pub use verify::{CheckedView, VerifyPage};
