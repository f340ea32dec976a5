//! `evidence/`: what vouches for a provider's keys. `with` is `endorsement`, or the tier that the evidence is to reach.
//!
//! Evidence is for the attestation of the world's provider: its nonce, its keys, and [`NOW`]. After the tier, `enrolled`
//! says that the lasting part was logged an hour before with the nonce `enrolled` has, by the same signing key, and
//! `enrolled-by-another` that it was logged so by another one.

mod app_attest;
mod mda;
mod tpm;

use std::sync::LazyLock;

use glassbloom_spec::{
    cbor::Value,
    curve::PublicKey,
    evidence::{self, Anchor, Bound, Enrolled, Proven, Refused, Trust, endorsement::Endorsement, x509::Root},
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
    statement::{Kind, Statement},
};

use super::{Folder, leaf::with};
use crate::{
    mac,
    tpm::{Maker, endorse, endorser},
    world::{NOW, World},
};

pub(super) fn folder(world: &World) -> Folder {
    let mut folder = Folder::new("evidence", "evidence.md", "cbor");
    endorsements(world, &mut folder);
    app_attest::add(world, &mut folder);
    mda::add(world, &mut folder);
    tpm::add(world, &mut folder);
    folder
}

/// What the endorsements of this folder are about.
fn seen() -> Hash {
    Hash::of(b"what was seen")
}

/// The nonce of the attestation that enrolled the lasting part, where one did.
fn enrolled() -> Hash {
    Hash::of(b"the nonce of an earlier attestation")
}

/// A maker of hardware, one of programs, and an auditor for Macs and one for TPMs.
static TRUST: LazyLock<([Anchor; 2], [PublicKey; 2])> = LazyLock::new(|| {
    (
        [Maker::hardware().anchor(), Maker::software().anchor()],
        [mac::endorser().public_key(), endorser().public_key()],
    )
});

/// What stands in for Apple.
static ROOT: LazyLock<Root<'static>> = LazyLock::new(crate::app_attest::root);

/// The same as lines of a policy.
pub(super) fn trust_lines() -> String {
    let (_, endorsers) = &*TRUST;
    let endorsers = endorsers.iter().map(|key| format!("endorser {key}\n"));
    let makers = [Maker::hardware(), Maker::software()].map(|maker| maker.policy_line());
    let app = format!("app {}\n", crate::app_attest::APP);
    makers.into_iter().chain(endorsers).chain([app]).collect()
}

/// What evidence proves to those who trust this network's makers and auditors.
///
/// # Errors
/// When it proves nothing.
pub fn prove(world: &World, with: &str, bytes: &[u8]) -> Result<Proven, Refused> {
    let (tier, how) = with.split_once(' ').unwrap_or((with, ""));
    let tier: Tier = tier.parse().map_err(|_| Refused::malformed("`with` names no tier"))?;
    let format = match tier {
        Tier::TpmHw | Tier::TpmSoft => evidence::tpm::FORMAT,
        other => other.name(),
    };
    let attestation = &world.attestation;
    let enrolled =
        |signing_key| Some(Enrolled { nonce: enrolled(), at: UnixSeconds::new(NOW - 3600), signing_key });
    let bound = Bound {
        nonce: attestation.nonce,
        signing_key: &attestation.signing_key,
        sealing_key: attestation.key_config.public_key(),
        at: UnixSeconds::new(NOW),
        enrolled: match how {
            "enrolled" => enrolled(attestation.signing_key),
            "enrolled-by-another" => enrolled(world.keys.stranger.public_key()),
            _ => None,
        },
    };
    let (anchors, endorsers) = &*TRUST;
    let apps = [crate::app_attest::APP.to_owned()];
    let trust = Trust { anchors, endorsers, apps: &apps };
    let proven = match tier {
        Tier::AppAttest => evidence::app_attest::verify_under(&ROOT, bytes, &bound, &trust)?,
        _ => evidence::verify(format, bytes, &bound, &trust)?,
    };
    if proven.tier == tier {
        Ok(proven)
    } else {
        Err(Refused::new("tier-not-reached", format!("it is of tier {}, not of {tier}", proven.tier)))
    }
}

/// Opens an endorsement as evidence for the world's attestation would.
///
/// # Errors
/// With the reason.
pub fn open(world: &World, bytes: &[u8]) -> Result<Endorsement, Refused> {
    let nonce = world.attestation.nonce;
    Endorsement::open(bytes, &TRUST.1, evidence::tpm::FORMAT, seen(), nonce).map(|(_, says)| says)
}

fn endorsements(world: &World, folder: &mut Folder) {
    const SECTION: &str = "leaf.md#endorsement";
    let good = Endorsement {
        format: evidence::tpm::FORMAT.to_owned(),
        subject: seen(),
        nonce: world.attestation.nonce,
        device: None,
    };
    let signed = endorse(&good, &endorser());
    let edit = |edit: &dyn Fn(&mut Endorsement)| {
        let mut says = good.clone();
        edit(&mut says);
        endorse(&says, &endorser())
    };
    let of_kind = |kind, payload: &_| {
        Statement::sign(kind, payload, &endorser()).expect("software keys sign").bytes().to_vec()
    };
    let payload = glassbloom_spec::leaf::Payload::to_value(&good);
    folder.pass("endorsement", SECTION, "endorsement", signed.clone());
    folder.pass(
        "endorsement_of_a_named_device",
        SECTION,
        "endorsement",
        edit(&|says| says.device = Some(Hash::of(b"the device"))),
    );
    for (rule, bytes) in [
        ("endorser_unknown", endorse(&good, &world.keys.stranger)),
        ("endorser_unknown_signature_flipped", flipped(&signed)),
        ("endorsement_mismatch_format", edit(&|says| says.format = "mda".to_owned())),
        ("endorsement_mismatch_subject", edit(&|says| says.subject = Hash::of(b"what was not seen"))),
        ("endorsement_mismatch_nonce", edit(&|says| says.nonce = enrolled())),
        ("endorsement_malformed_empty", Vec::new()),
        ("endorsement_malformed_cut", signed[..signed.len() - 1].to_vec()),
        ("endorsement_malformed_kind", of_kind(Kind::Verdict, &payload)),
        ("endorsement_malformed_critical_field", of_kind(Kind::Endorsement, &with(&payload, 5, 1.into()))),
        ("endorsement_malformed_device", of_kind(Kind::Endorsement, &with(&payload, 4, Value::Bool(false)))),
    ] {
        folder.fail(rule, SECTION, "endorsement", bytes);
    }
}

/// With the last bit turned over: of a signature where bytes end in one.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}
