//! The exit codes that every Glassbloom tool shares, so that scripts can act on them.

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything asked for was done and holds.
    Ok = 0,
    /// The command line or a configuration is wrong.
    Usage = 1,
    /// Something was checked and does not hold.
    Rejected = 10,
    /// A checkpoint is too old, or too few witnesses cosigned it.
    Stale = 20,
    /// Input that cannot be parsed.
    Malformed = 30,
    /// A server that cannot be reached.
    Unreachable = 40,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
