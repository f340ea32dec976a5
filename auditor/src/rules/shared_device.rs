//! One machine, two providers.

use glassbloom_spec::identity::{Attested, Conflict};

use super::{Rule, Severity};

/// One machine, two providers.
pub const RULE: Rule = Rule {
    id: "GB-ATT-003",
    title: "two providers' live attestations name one device",
    severity: Severity::Violation,
    text: "
Evidence of hardware names the device that made it, by a hash that tells nobody which device it is. At most one live
provider may name a device: until one attestation has expired or its key is revoked, another key in the same device must
be counter-signed by the first. Whoever relays evidence from a machine that is not theirs, a coordinator that binds a
key of its own to a customer's machine, and an operator who runs two providers on one machine or lost a key look like this.
",
    action: "Seal to neither until its operator says which key is theirs and revokes the other; an owner runs `glassbloom-auditor watch --device`.",
};

pub(super) fn check(attested: &Attested) -> Result<(), String> {
    let found = attested.conflicts.iter().find_map(|conflict| match conflict {
        Conflict::DeviceOfTwo { device, other } => Some((device, other)),
        Conflict::KeyOfTwoProviders { .. } | Conflict::KeyOnTwoDevices { .. } => None,
    });
    match found {
        None => Ok(()),
        Some((device, other)) => Err(format!(
            "key {} of provider {} names device {device}, as does attestation {other}, which is live",
            attested.key, attested.provider
        )),
    }
}
