//! Reads a tlog-tiles log over HTTP. What it returns is unverified until a checkpoint vouches for it.
