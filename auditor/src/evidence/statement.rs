//! Our own statements: attestations with all that can be known without the registry, and every other kind by name.

use glassbloom_spec::{
    checkpoint::TreeHead,
    evidence::{Bound, Enrolled, Refused, Voucher, endorsement::Endorsement},
    hash::Hash,
    leaf::{Attestation, Payload, Tier, possession_message, rotation_message},
    note::SignedNote,
    policy::Policy,
    statement::{Kind, Statement, key_id},
};

use super::{Explanation, Found, Options, certificate::plain, map, time};

const SIGNED_ONLY: &str = "that what it says is true: a signature shows who said it";

pub(super) fn explain(statement: &Statement, with: &[Found], options: &Options) -> Explanation {
    match statement.kind() {
        Kind::Attestation => match Attestation::of(statement) {
            Ok(attestation) => attested(statement, &attestation, with, options),
            Err(error) => {
                let mut explanation = start(statement, options);
                explanation.failed("payload", error.to_string());
                explanation
            }
        },
        Kind::Endorsement => endorsed(statement, options),
        _ => other(statement, options),
    }
}

fn start(statement: &Statement, options: &Options) -> Explanation {
    let mut explanation = Explanation::new(format!("{} statement", statement.kind()), options, SIGNED_ONLY);
    explanation.field("leaf hash", None, statement.leaf_hash().to_string());
    explanation.field("signed by key", None, statement.key_id().to_string());
    explanation
}

/// Any other kind: who signed it, if the policy knows the key.
fn other(statement: &Statement, options: &Options) -> Explanation {
    let mut explanation = start(statement, options);
    signer(&mut explanation, statement, options);
    explanation
}

fn signer(explanation: &mut Explanation, statement: &Statement, options: &Options) {
    let Some(policy) = &options.policy else {
        explanation.open("signature", "whose key that is, a policy file says: give it with --policy");
        return;
    };
    let roles: [(&str, &[_]); 3] = [
        ("a coordinator", policy.coordinators()),
        ("a release key", policy.releases()),
        ("an endorser", policy.trust().endorsers),
    ];
    let known = roles.iter().find_map(|(role, keys)| {
        keys.iter().find(|key| key_id(key) == statement.key_id()).map(|key| (role, key))
    });
    match known {
        None => explanation.failed("signature", "no line of the policy has this key"),
        Some((role, key)) => match statement.verify(key) {
            Ok(()) => explanation.verified("signature", format!("{role} of the policy: {key}")),
            Err(error) => explanation.failed("signature", error.to_string()),
        },
    }
}

fn endorsed(statement: &Statement, options: &Options) -> Explanation {
    let mut explanation = start(statement, options);
    match Endorsement::of(statement) {
        Ok(says) => {
            let by = Some(Voucher::Endorser);
            explanation.field("format", by, plain(&says.format));
            explanation.field("subject", by, says.subject.to_string());
            explanation.field("nonce", by, says.nonce.to_string());
            let device = says.device.map_or_else(|| "not named".to_owned(), |device| device.to_string());
            explanation.field("device", by, device);
            signer(&mut explanation, statement, options);
        }
        Err(error) => explanation.failed("payload", error.to_string()),
    }
    explanation
}

fn attested(
    statement: &Statement,
    attestation: &Attestation,
    with: &[Found],
    options: &Options,
) -> Explanation {
    let mut explanation = start(statement, options);
    explanation.does_not_prove = Tier::SelfSigned.does_not_prove();
    manifest(&mut explanation, attestation);

    match statement.verify(&attestation.signing_key) {
        Ok(()) => explanation.verified("signature", "by the signing key in it"),
        Err(error) => explanation.failed("signature", error.to_string()),
    }
    let expected = attestation.expected_nonce();
    if attestation.nonce == expected {
        explanation.verified("nonce", "recomputed from the beacon and both keys, it is the same");
    } else {
        explanation.failed("nonce", format!("nonce-mismatch: the beacon and both keys give {expected}"));
    }
    if options.nonce.as_ref().is_some_and(|nonce| nonce != attestation.nonce.as_ref()) {
        explanation.failed("nonce", "it is another than the one given");
    }
    beacon(&mut explanation, attestation, options);
    let Ok(enrolled) = enrolment(&mut explanation, attestation, with, options) else {
        possession(&mut explanation, attestation, false);
        return explanation;
    };
    let bound = Bound {
        nonce: attestation.nonce,
        signing_key: &attestation.signing_key,
        sealing_key: attestation.key_config.public_key(),
        at: explanation.at,
        enrolled,
    };
    let evidence = &attestation.evidence;
    map::verify(&mut explanation, &evidence.format, &evidence.bytes, &bound, options);
    let proven =
        glassbloom_spec::evidence::verify(&evidence.format, &evidence.bytes, &bound, &options.trust());
    possession(&mut explanation, attestation, proven.is_ok_and(|proven| proven.holds_sealing_key));
    rotation(&mut explanation, attestation, with);
    if attestation.not_after > explanation.at {
        explanation
            .verified("lifetime", format!("its keys are good until {}", time::text(attestation.not_after)));
    } else {
        explanation.failed(
            "lifetime",
            format!("expired: its keys were good until {}", time::text(attestation.not_after)),
        );
    }
    explanation.ends_by(Some(attestation.not_after));
    explanation.open(
        "registry",
        "whether it is logged, its build released and its key not revoked is not in this file: `glassbloom-auditor audit`",
    );
    explanation
}

/// The fields that the provider wrote.
fn manifest(explanation: &mut Explanation, attestation: &Attestation) {
    let own = Some(Voucher::Own);
    explanation.field("signing key", own, attestation.signing_key.to_string());
    explanation.field("sealing key", own, attestation.key_config.public_key().to_string());
    explanation.field("build", own, attestation.build.to_string());
    explanation.field("endpoint", own, plain(&attestation.endpoint));
    explanation.field("not after", own, time::text(attestation.not_after));
    for model in &attestation.models {
        explanation.field("model", own, model.to_string());
    }
    let head = SignedNote::parse(&attestation.beacon.checkpoint)
        .ok()
        .and_then(|note| TreeHead::parse(&note.text).ok())
        .map_or_else(|| "not a checkpoint".to_owned(), |head| format!("{} size {}", head.origin, head.size));
    explanation.field("beacon", None, head);
    explanation.field("nonce", None, attestation.nonce.to_string());
    let evidence = &attestation.evidence;
    explanation.field(
        "evidence",
        None,
        format!("{}, {} bytes", plain(&evidence.format), evidence.bytes.len()),
    );
    for (name, leaf) in [("previous", attestation.previous), ("enrolment", attestation.enrolment)] {
        if let Some(leaf) = leaf {
            explanation.field(name, own, leaf.to_string());
        }
    }
}

/// The time that everything is judged by.
fn beacon(explanation: &mut Explanation, attestation: &Attestation, options: &Options) {
    match &options.policy {
        None => {
            explanation.open("beacon", "which witnesses count, a policy file says: give it with --policy")
        }
        Some(policy) => match policy.open(None, &attestation.beacon.checkpoint) {
            Ok(beacon) => {
                let made = beacon.cosigned_at();
                explanation.verified("beacon", format!("witnessed {}", time::text(made)));
                if options.at.is_none() {
                    (explanation.at, explanation.at_from) = (made, "the beacon's time");
                }
            }
            Err(error) => explanation.failed("beacon", format!("beacon-not-cosigned: {error}")),
        },
    }
}

/// Where the lasting part of the evidence was logged first.
fn enrolment(
    explanation: &mut Explanation,
    attestation: &Attestation,
    with: &[Found],
    options: &Options,
) -> Result<Option<Enrolled>, Refused> {
    let Some(leaf) = attestation.enrolment else { return Ok(None) };
    let Some((_, first)) = find(with, &leaf) else {
        explanation.open(
            "evidence",
            "its lasting part was logged with another attestation: give that file with --with",
        );
        return Err(Refused::new("enrolment-unknown", "not at hand"));
    };
    let lasting =
        |of: &Attestation| glassbloom_spec::evidence::lasting(&of.evidence.format, &of.evidence.bytes);
    if first.enrolment.is_some() || lasting(&first).is_none() || lasting(&first) != lasting(attestation) {
        let refused =
            Refused::new("enrolment-unknown", "the attestation that it names carries other evidence");
        explanation.refused("enrolment", &refused);
        return Err(refused);
    }
    let at = match options.policy.as_ref().map(|policy: &Policy| policy.open(None, &first.beacon.checkpoint))
    {
        Some(Ok(beacon)) => beacon.cosigned_at(),
        Some(Err(error)) => {
            let refused = Refused::new("enrolment-unknown", error.to_string());
            explanation.refused("enrolment", &refused);
            return Err(refused);
        }
        None => explanation.at,
    };
    if at > explanation.at {
        let refused =
            Refused::new("enrolment-too-old", "the attestation that it names is younger than this one");
        explanation.refused("enrolment", &refused);
        return Err(refused);
    }
    explanation.verified("enrolment", format!("the lasting part was logged {}", time::text(at)));
    Ok(Some(Enrolled { nonce: first.expected_nonce(), at, signing_key: first.signing_key }))
}

fn find(with: &[Found], leaf: &Hash) -> Option<(Hash, Attestation)> {
    with.iter().find_map(|found| match found {
        Found::Statement(statement) if statement.leaf_hash() == *leaf => {
            let attestation = Attestation::of(statement).ok()?;
            statement.verify(&attestation.signing_key).ok()?;
            Some((*leaf, attestation))
        }
        _ => None,
    })
}

/// Both keys are at hand.
fn possession(explanation: &mut Explanation, attestation: &Attestation, shown: bool) {
    match &attestation.possession {
        Some(signature) => {
            let message = possession_message(attestation.nonce);
            match attestation.key_config.public_key().verify(&message, signature) {
                Ok(()) => explanation.verified("sealing key", "it signed that it is at hand"),
                Err(error) => explanation.failed("sealing key", format!("possession-not-shown: {error}")),
            }
        }
        None if shown => explanation.verified("sealing key", "the evidence shows where it is"),
        None => explanation.failed(
            "sealing key",
            "possession-not-shown: neither it nor the evidence shows that it is at hand",
        ),
    }
}

/// Whether the key before vouches for this one.
fn rotation(explanation: &mut Explanation, attestation: &Attestation, with: &[Found]) {
    let Some(previous) = attestation.previous else { return };
    match find(with, &previous) {
        None => explanation.open(
            "rotation",
            "whether the key before vouches for this one: give the previous attestation with --with",
        ),
        Some((_, before)) if before.signing_key == attestation.signing_key => {
            explanation.verified("rotation", "the signing key is the same as before");
        }
        Some((leaf, before)) => {
            let message = rotation_message(leaf, &attestation.signing_key, attestation.nonce);
            let signed = attestation.countersignature.as_ref();
            match signed.map(|signature| before.signing_key.verify(&message, signature)) {
                Some(Ok(())) => explanation.verified("rotation", "the key before signed for this one"),
                _ => {
                    explanation.failed("rotation", "discontinuity: the key before did not sign for this one")
                }
            }
        }
    }
}
