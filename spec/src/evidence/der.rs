//! Placeholder until its contents land.
