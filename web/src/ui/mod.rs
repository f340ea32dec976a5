//! Components that pages share.

pub mod bytes;
pub mod fields;
pub mod frame;
pub mod path;
pub mod text;
pub mod verdict;
