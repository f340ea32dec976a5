//! The pages: functions from data to what is shown.

pub mod entry;
pub mod overview;
pub mod policy;
pub mod provider;
pub mod verify;
