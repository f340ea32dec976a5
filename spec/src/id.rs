//! Small numbers and identifiers that must not be mixed up.

use core::{fmt, str::FromStr};

use crate::hash::Hash;

/// A decimal number in a form that is not the one canonical form: sign, leading zero, blank or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number without sign or leading zeros")]
pub struct NotDecimal;

/// Parses a decimal `u64` in its only canonical form. `[c2sp.org/tlog-checkpoint]`
pub fn parse_decimal(text: &str) -> Result<u64, NotDecimal> {
    let canonical = text == "0"
        || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    if !canonical {
        return Err(NotDecimal);
    }
    text.parse().map_err(|_| NotDecimal)
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotDecimal;

            fn from_str(text: &str) -> Result<Self, NotDecimal> {
                parse_decimal(text).map(Self)
            }
        }
    };
}

number! {
    /// The place of an entry in a log, from 0.
    LeafIndex
}
number! {
    /// The number of entries in a tree.
    TreeSize
}
number! {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    UnixMillis
}
number! {
    /// Seconds since 1970-01-01T00:00:00Z, the unit of cosignature timestamps.
    UnixSeconds
}
number! {
    /// Minutes since 1970-01-01T00:00:00Z: as fine as a public receipt tells time.
    UnixMinutes
}

impl UnixMillis {
    /// Rounded down to the second.
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// Rounded down to the minute.
    pub const fn minutes(self) -> UnixMinutes {
        UnixMinutes(self.0 / 60_000)
    }
}

/// Names a statement key: SHA-256 over a domain tag and the SEC1-compressed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Hash);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
