//! Identities that begin anew.

use glassbloom_spec::identity::{Attested, Link};

use super::{Rule, Severity};

/// Identities that begin anew.
pub const RULE: Rule = Rule {
    id: "GB-ATT-002",
    title: "an attestation claims a past that it does not have",
    severity: Severity::Notice,
    text: "
A provider's next signing key is counter-signed by the one before. This attestation names an earlier one by another key
without that, or by a key that had been replaced or revoked, or its own key was replaced and came back. It counts as a
new provider with a past of its own. An operator who lost a key causes this; so does someone who wants to be taken for
that operator. Nothing in the log tells them apart, so this is shown and not held against anybody.
",
    action: "Do not carry over any reputation from the provider that it names; ask that provider's operator, who has a key to answer with.",
};

pub(super) fn check(attested: &Attested) -> Result<(), String> {
    match attested.link {
        Link::Discontinuity(why) => Err(format!("key {}: {why}", attested.key)),
        Link::Continued | Link::First | Link::Rotated => Ok(()),
    }
}
