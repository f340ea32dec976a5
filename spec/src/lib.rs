//! The Glassbloom protocol: wire formats and every check.
//!
//! # In scope
//! Parsing and building every byte that crosses a wire or enters a log, and every yes/no about someone else's
//! claim. The argument is carried by types with one constructor each:
//!
//! ```text
//! signed bytes -> Policy::open -> Checkpoint -> .includes(leaf, proof) -> Logged<T>
//!              -> Policy::verify -> VerifiedProvider -> seal(&VerifiedProvider, ..)
//! stream + signature -> VerifiedReceipt
//! ```
//!
//! # Out of scope
//! I/O, clocks and randomness: bytes, times and random seeds are arguments. Compiles to WebAssembly.

#![forbid(unsafe_code)]

pub mod hash;
pub mod id;

pub mod api;
pub mod bundle;
pub mod cbor;
pub mod checkpoint;
pub mod curve;
pub mod envelope;
pub mod evidence;
pub mod identity;
pub mod judge;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod openai;
pub mod pedersen;
pub mod policy;
pub mod promise;
pub mod proof;
pub mod receipt;
pub mod record;
pub mod seal;
pub mod statement;
pub mod subtree;
pub mod succession;
pub mod tile;
pub mod verify;
pub mod witness;
