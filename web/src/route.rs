//! Addresses of pages: everything after `#`, so that any static host will do.

use core::{fmt, str::FromStr};

use glassbloom_spec::{hash::Hash, id::LeafIndex};

/// One of the two logs of a network, by the last part of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogName {
    /// One entry per answered request.
    Receipts,
    /// Who is who, and by what rule.
    Registry,
}

impl LogName {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Registry, Self::Receipts];

    /// The last part of the origin, and of the address the log is served under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receipts => "receipts",
            Self::Registry => "registry",
        }
    }

    /// What the log holds, for people.
    pub const fn holds(self) -> &'static str {
        match self {
            Self::Receipts => "one signed receipt per answer",
            Self::Registry => "keys, builds, models, rules and verdicts",
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// One entry of a log.
    Entry(LogName, LeafIndex),
    /// No such page.
    NotFound,
    /// Both logs at a glance.
    Overview,
    /// What this page trusts.
    Policy,
    /// A provider, by the leaf hash of its attestation.
    Provider(Hash),
    /// Checks a file of the visitor's.
    Verify,
}

impl Route {
    /// The page's name in the window's title.
    pub fn title(self) -> String {
        match self {
            Self::Entry(log, index) => format!("{log} #{index} · Glassbloom"),
            Self::NotFound => "Not found · Glassbloom".to_owned(),
            Self::Overview => "Glassbloom".to_owned(),
            Self::Policy => "What this page trusts · Glassbloom".to_owned(),
            Self::Provider(_) => "Provider · Glassbloom".to_owned(),
            Self::Verify => "Verify a file · Glassbloom".to_owned(),
        }
    }

    fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_start_matches('/').trim_end_matches('/').split('/');
        let route = match (parts.next()?, parts.next(), parts.next()) {
            ("", None, _) => Self::Overview,
            ("entry", Some(log), Some(index)) => {
                let log = LogName::ALL.into_iter().find(|name| name.name() == log)?;
                Self::Entry(log, index.parse().ok()?)
            }
            ("policy", None, _) => Self::Policy,
            ("provider", Some(leaf), None) => Self::Provider(leaf.parse().ok()?),
            ("verify", None, _) => Self::Verify,
            _ => return None,
        };
        parts.next().is_none().then_some(route)
    }
}

impl FromStr for Route {
    type Err = core::convert::Infallible;

    /// Parses the part of an address from `#` on; whatever is no page is [`Route::NotFound`].
    fn from_str(fragment: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(fragment.trim_start_matches('#')).unwrap_or(Self::NotFound))
    }
}

impl fmt::Display for Route {
    /// Writes the address, from `#` on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(log, index) => write!(f, "#/entry/{log}/{index}"),
            Self::NotFound | Self::Overview => f.write_str("#/"),
            Self::Policy => f.write_str("#/policy"),
            Self::Provider(leaf) => write!(f, "#/provider/{leaf}"),
            Self::Verify => f.write_str("#/verify"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(fragment: &str) -> Route {
        fragment.parse().unwrap()
    }

    #[test]
    fn addresses_survive_a_round_trip() {
        let leaf = Hash::of(b"leaf");
        for page in [
            Route::Entry(LogName::Receipts, 7.into()),
            Route::Entry(LogName::Registry, 0.into()),
            Route::Overview,
            Route::Policy,
            Route::Provider(leaf),
            Route::Verify,
        ] {
            assert_eq!(route(&page.to_string()), page);
        }
        for fragment in ["", "#", "#/"] {
            assert_eq!(route(fragment), Route::Overview);
        }
    }

    #[test]
    fn what_is_no_page_is_not_found() {
        for fragment in [
            "#/entry",
            "#/entry/registry",
            "#/entry/other/1",
            "#/entry/registry/01",
            "#/entry/registry/1/2",
            "#/provider/x",
            "#/x",
        ] {
            assert_eq!(route(fragment), Route::NotFound, "{fragment}");
        }
    }
}
