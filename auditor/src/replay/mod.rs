//! Reading a log and recomputing what it claims.
//!
//! Nothing a log serves is believed: entries are hashed, the hashes are folded, and the result must be the root of a
//! checkpoint that the policy accepts.

mod consistency;
mod index;
mod providers;
mod registry;
mod stream;
mod tree;

pub use consistency::{History, history};
pub use providers::{Before, Providers};
pub use registry::{Entry, Fault, Leaf, Registry, SyncError};
pub use stream::{Batch, Damage, Fold, Mismatch, ReplayError, batches, first_wrong_bundle};
pub use tree::Tree;
