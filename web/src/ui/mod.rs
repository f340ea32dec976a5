//! Components that pages share.

mod bytes;
mod fields;
mod frame;
mod path;
mod text;
mod verdict;

pub use bytes::HexDump;
pub use fields::{DatumView, FieldList};
pub use frame::{Footer, Header, Loading, TroubleView};
pub use path::InclusionPath;
pub use text::{Ago, Copy, HashText, When};
pub use verdict::{Mark, StateIcon, Verdict};
