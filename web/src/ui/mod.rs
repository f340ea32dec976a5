//! Components that pages share.

#![expect(clippy::needless_pass_by_value, reason = "a component owns what it is given")]

pub mod bytes;
pub mod fields;
pub mod frame;
pub mod path;
pub mod text;
pub mod verdict;
