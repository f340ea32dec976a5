//! One key, two machines.

use glassbloom_spec::identity::{Attested, Conflict};

use super::{Rule, Severity};

/// One key, two machines.
pub const RULE: Rule = Rule {
    id: "GB-ATT-004",
    title: "one key is under two devices or two providers",
    severity: Severity::Violation,
    text: "
A signing or sealing key that hardware holds does not leave it, so a key that was attested for two devices, or by two
providers, is not held as one of the attestations says: it was copied, or one of the two relays to the other. Only keys
count that their holder showed to have, so nobody can cause this by copying another's public key. Devices are compared
within one format of evidence; two endorsers name a device differently, so an operator who changes endorsers changes keys.
",
    action: "Do not seal to either provider, and treat receipts by this key as coming from an unknown machine.",
};

pub(super) fn check(attested: &Attested) -> Result<(), String> {
    let shared: Vec<String> = attested
        .conflicts
        .iter()
        .filter_map(|conflict| match conflict {
            Conflict::DeviceOfTwo { .. } => None,
            Conflict::KeyOnTwoDevices { role, other } => {
                Some(format!("its {role} key was attested for another device in attestation {other}"))
            }
            Conflict::KeyOfTwoProviders { role, other } => {
                Some(format!("its {role} key is that of another provider, see attestation {other}"))
            }
        })
        .collect();
    if shared.is_empty() { Ok(()) } else { Err(format!("key {}: {}", attested.key, shared.join("; "))) }
}
