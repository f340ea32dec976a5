//! What was done to others, and what would have to be done to us. Each test is named after the attack.

use glassbloom_spec::{
    cbor::Value,
    curve::{EcdhSecret, PublicKey, SigningKey},
    evidence::{
        Known, Voucher, tpm,
        tpm::{Certified, credential::Seeds},
    },
    hash::Hash,
    leaf::Tier,
};

use crate::maker::{
    AK_ATTRIBUTES, AT, ECDH, ECDSA, Machine, NONE, Names, SEALING_ATTRIBUTES, SIGNING_ATTRIBUTES, attest,
    public, sign,
};

#[test]
fn honest_evidence_proves_what_it_says() {
    let machine = Machine::new();
    let proven = machine.verify(&machine.evidence()).unwrap();
    assert_eq!(proven.tier, Tier::TpmHw);
    assert!(proven.holds_sealing_key && proven.code.is_none() && proven.counter.is_none());
    assert_eq!(proven.expires.unwrap().get(), 2_208_988_800);
    let claim = |name: &str| proven.claims.iter().find(|claim| claim.name == name).unwrap();
    assert_eq!(claim("tpm-manufacturer").value, Known::Present("GLAS (id:474C4153)".to_owned()));
    assert_eq!(claim("tpm-clock").value, Known::Present("7 s powered, 2 resets, 3 restarts".to_owned()));
    assert_eq!(claim("activation").by, Voucher::Endorser);
    assert!(proven.claims.iter().all(|claim| matches!(claim.by, Voucher::Tpm | Voucher::Endorser)));
    assert!(claim("pcrs").value.to_string().starts_with("0=6e340b9cffb37a98 1=4bf5122f344554c5 "));
    // Without a scheme a key is free to use the one that its use needs.
    let mut evidence = machine.evidence();
    for (certified, key, attributes) in [
        (&mut evidence.signing, machine.signing.public_key(), SIGNING_ATTRIBUTES),
        (&mut evidence.sealing, machine.sealing_key(), SEALING_ATTRIBUTES),
    ] {
        certified.public = public(&key, attributes, NONE);
        certified.by = machine.certify(&certified.public);
    }
    assert_eq!(machine.verify(&evidence).unwrap().device, proven.device);
}

// cocore ADR-0002: an attested machine and one without evidence under one name, and requests for the first went to the second.
#[test]
fn a1_key_of_an_unattested_box_is_refused() {
    let machine = Machine::new();
    let bytes = machine.evidence().encode();
    let (signing, sealing) = (machine.signing.public_key(), machine.sealing_key());
    let other = SigningKey::from_seed(b"the other box").public_key();
    for (signing, sealing) in [(other, sealing), (signing, other), (sealing, signing)] {
        let refused = machine.verify_for(&bytes, &signing, &sealing, machine.nonce).unwrap_err();
        assert_eq!(refused.reason, "tpm-key-mismatch");
    }
}

// cocore ADR-0005: a key in software, with evidence of a genuine machine that somebody copied.
#[test]
fn a2_software_key_beside_a_borrowed_tpm_is_refused() {
    let genuine = Machine::new();
    let mut thief = Machine { signing: SigningKey::from_seed(b"software"), ..Machine::new() };
    thief.chain.clone_from(&genuine.chain);
    thief.anchor = genuine.anchor.clone();
    // The genuine certificates of another key say nothing about this one.
    let mut evidence = genuine.evidence();
    evidence.signing.public = public(&thief.signing.public_key(), SIGNING_ATTRIBUTES, ECDSA);
    assert_eq!(thief.reason(&evidence), "tpm-name");
    // The software key signs that it is in a TPM.
    evidence.signing.by = sign(&thief.signing, thief.certify(&evidence.signing.public).attest);
    assert_eq!(thief.reason(&evidence), "tpm-signature");
    // The attestation key is one in software, so it signs anything: but no TPM opened a challenge for it.
    thief.attestation = SigningKey::from_seed(b"software attestation key");
    let mut evidence = thief.evidence();
    evidence.lasting.activation = genuine.evidence().lasting.activation;
    assert_eq!(thief.reason(&evidence), "tpm-activation-mismatch");
    // A challenge made by the thief is one that no endorser saw answered.
    let mut evidence = thief.evidence();
    evidence.lasting.endorsements = genuine.evidence().lasting.endorsements;
    assert_eq!(thief.reason(&evidence), "endorsement-mismatch");
    evidence.lasting =
        Machine { endorser: thief.signing.clone(), ..Machine::new() }.endorsed(evidence.lasting);
    assert_eq!(thief.reason(&evidence), "endorser-unknown");
    evidence.lasting.endorsements.clear();
    assert_eq!(thief.reason(&evidence), "tpm-not-endorsed");
}

// Darkbloom A4, A5: keys that somebody made outside, or that can be taken out again.
#[test]
fn a5_key_that_can_leave_the_tpm_is_refused() {
    let machine = Machine::new();
    for (bit, changed) in [(1, "fixedTPM"), (4, "fixedParent"), (5, "sensitiveDataOrigin")] {
        let mut evidence = machine.evidence();
        evidence.signing.public = public(&machine.signing.public_key(), SIGNING_ATTRIBUTES ^ 1 << bit, ECDSA);
        evidence.signing.by = machine.certify(&evidence.signing.public);
        assert_eq!(machine.reason(&evidence), "tpm-key-attributes", "{changed}");
        let mut evidence = machine.evidence();
        evidence.sealing.public = public(&machine.sealing_key(), SEALING_ATTRIBUTES ^ 1 << bit, ECDH);
        evidence.sealing.by = machine.certify(&evidence.sealing.public);
        assert_eq!(machine.reason(&evidence), "tpm-key-attributes", "{changed}");
        let mut evidence = machine.evidence();
        let ak = public(&machine.attestation.public_key(), AK_ATTRIBUTES ^ 1 << bit, ECDSA);
        evidence.lasting.activation = machine.activation(&ak);
        evidence.lasting.attestation_key = ak;
        evidence.lasting = machine.endorsed(evidence.lasting);
        assert_eq!(machine.reason(&evidence), "tpm-ak-attributes", "{changed}");
    }
}

#[test]
fn keys_for_another_use_are_refused() {
    let machine = Machine::new();
    let evidence_with = |certified: Certified, sealing: bool| {
        let mut evidence = machine.evidence();
        *(if sealing { &mut evidence.sealing } else { &mut evidence.signing }) = certified;
        evidence
    };
    let certified = |key: &PublicKey, attributes, scheme| {
        let public = public(key, attributes, scheme);
        Certified { by: machine.certify(&public), public }
    };
    let (signing, sealing) = (machine.signing.public_key(), machine.sealing_key());
    for (attributes, scheme) in [
        (SIGNING_ATTRIBUTES | 1 << 16, ECDSA),
        (SIGNING_ATTRIBUTES | 1 << 17, NONE),
        (SIGNING_ATTRIBUTES ^ 1 << 18, NONE),
        (SIGNING_ATTRIBUTES, ECDH),
    ] {
        let evidence = evidence_with(certified(&signing, attributes, scheme), false);
        assert_eq!(machine.reason(&evidence), "tpm-key-attributes", "{attributes:x}");
    }
    for (attributes, scheme) in [
        (SEALING_ATTRIBUTES | 1 << 16, NONE),
        (SEALING_ATTRIBUTES | 1 << 18, NONE),
        (SEALING_ATTRIBUTES, ECDSA),
    ] {
        let evidence = evidence_with(certified(&sealing, attributes, scheme), true);
        assert_eq!(machine.reason(&evidence), "tpm-key-attributes", "{attributes:x}");
    }
    // An attestation key that is not restricted signs whatever it is given, attestations included.
    for (attributes, scheme, reason) in [
        (AK_ATTRIBUTES ^ 1 << 16, ECDSA, "tpm-ak-attributes"),
        (AK_ATTRIBUTES | 1 << 17, ECDSA, "tpm-ak-attributes"),
        (AK_ATTRIBUTES, NONE, "tpm-ak-kind"),
        (AK_ATTRIBUTES, ECDH, "tpm-ak-kind"),
    ] {
        let mut evidence = machine.evidence();
        evidence.lasting.attestation_key = public(&machine.attestation.public_key(), attributes, scheme);
        assert_eq!(machine.reason(&evidence), reason, "{attributes:x}");
    }
}

#[test]
fn a_software_tpm_is_never_hardware() {
    for names in [
        Names { manufacturer: "id:00001014", model: "swtpm", ..Names::default() },
        Names { manufacturer: "id:00001014", ..Names::default() },
        Names { model: "swtpm", ..Names::default() },
        Names { manufacturer: "id:4d534654", ..Names::default() },
    ] {
        let machine = Machine::of(&names, Tier::TpmHw);
        assert_eq!(machine.reason(&machine.evidence()), "tpm-is-software");
        let machine = Machine::of(&names, Tier::TpmSoft);
        assert_eq!(machine.verify(&machine.evidence()).unwrap().tier, Tier::TpmSoft);
    }
    // Neither is hardware under a root that rules call software.
    let machine = Machine::of(&Names::default(), Tier::TpmSoft);
    assert_eq!(machine.verify(&machine.evidence()).unwrap().tier, Tier::TpmSoft);
}

#[test]
fn a_tpm_of_an_unknown_maker_is_refused() {
    let machine = Machine { anchor: Machine::new().anchor, ..Machine::new() };
    assert_eq!(machine.reason(&machine.evidence()), "certificate-root");
    let machine =
        Machine::of(&Names { purpose: &[1, 3, 6, 1, 5, 5, 7, 3, 1], ..Names::default() }, Tier::TpmHw);
    assert_eq!(machine.reason(&machine.evidence()), "certificate-purpose");
    for names in [
        Names { manufacturer: "Glass", ..Names::default() },
        Names { manufacturer: "id:474C415", ..Names::default() },
        Names { model: "a\u{1b}[2Jb", ..Names::default() },
    ] {
        let machine = Machine::of(&names, Tier::TpmHw);
        assert_eq!(machine.reason(&machine.evidence()), "tpm-unnamed");
    }
    let machine = Machine::new();
    let mut evidence = machine.evidence();
    evidence.lasting.chain.remove(1);
    assert_eq!(machine.reason(&evidence), "certificate-chain");
    evidence.lasting.chain.truncate(1);
    assert_eq!(machine.reason(&evidence), "certificate-chain");
}

// Darkbloom B3: evidence that was made for another attestation, of the same machine or of another one.
#[test]
fn b3_replayed_evidence_is_refused() {
    let machine = Machine::new();
    let later = Machine { nonce: Hash::of(b"later"), ..Machine::new() };
    let old = machine.evidence();
    let (signing, sealing) = (machine.signing.public_key(), machine.sealing_key());
    let reason = |evidence: &tpm::Evidence| {
        machine.verify_for(&evidence.encode(), &signing, &sealing, later.nonce).unwrap_err().reason
    };
    assert_eq!(reason(&old), "endorsement-mismatch");
    let mut evidence = old;
    evidence.lasting = later.endorsed(evidence.lasting);
    assert_eq!(reason(&evidence), "tpm-nonce");
    evidence.quote = later.quote(&evidence.registers);
    assert_eq!(reason(&evidence), "tpm-nonce");
    evidence.signing.by = later.certify(&evidence.signing.public);
    assert_eq!(reason(&evidence), "tpm-nonce");
    evidence.sealing.by = later.certify(&evidence.sealing.public);
    assert!(machine.verify_for(&evidence.encode(), &signing, &sealing, later.nonce).is_ok());
    // The nonce is all of what the TPM was asked to cover, and neither cut nor extended.
    for extra in [&b""[..], b"\0", &later.nonce.as_ref()[..31]] {
        let Some(head) = evidence.quote.attest.get(..4 + 2 + 36) else { panic!("no head") };
        let tail = &evidence.quote.attest[head.len() + 34..];
        let length = (extra.len() as u16).to_be_bytes();
        let attest = [head, &length, extra, tail].concat();
        let mut evidence = evidence.clone();
        evidence.quote = sign(&machine.attestation, attest);
        assert_eq!(reason(&evidence), "tpm-nonce");
    }
}

// Darkbloom B5: what is left out must not pass.
#[test]
fn b5_leaving_anything_out_is_refused() {
    let machine = Machine::new();
    let Value::Map(fields) = Value::decode(&machine.evidence().encode()).unwrap() else {
        panic!("not a map")
    };
    assert_eq!(fields.len(), 13);
    for left_out in 0..fields.len() {
        let mut fewer = fields.clone();
        fewer.remove(left_out);
        let refused = machine.verify_bytes(&Value::Map(fewer).encode()).unwrap_err();
        assert_eq!(refused.reason, "evidence-malformed");
        let mut emptied = fields.clone();
        emptied[left_out].1 = match &emptied[left_out].1 {
            Value::Array(_) => Value::Array(Vec::new()),
            Value::Map(_) => Value::Map(Vec::new()),
            _ => Value::Bytes(Vec::new()),
        };
        assert!(machine.verify_bytes(&Value::Map(emptied).encode()).is_err(), "field {left_out}");
    }
    let mut more = fields;
    for unknown in [14, 128] {
        more.push((Value::Unsigned(unknown), Value::Null));
        let refused = machine.verify_bytes(&Value::Map(more.clone()).encode()).unwrap_err();
        assert_eq!(refused.reason, "evidence-malformed");
        more.pop();
    }
    // Registers.
    let mut evidence = machine.evidence();
    evidence.registers.remove(3);
    assert_eq!(machine.reason(&evidence), "tpm-registers");
    evidence.quote = machine.quote(&evidence.registers);
    assert_eq!(machine.reason(&evidence), "tpm-registers-missing");
    let mut evidence = machine.evidence();
    evidence.registers[0].1 = Hash::of(b"a clean boot");
    assert_eq!(machine.reason(&evidence), "tpm-registers");
    let mut evidence = machine.evidence();
    evidence.registers.swap(0, 1);
    assert_eq!(machine.reason(&evidence), "tpm-registers");
}

#[test]
fn a_statement_of_one_kind_is_not_taken_for_another() {
    let machine = Machine::new();
    let honest = machine.evidence();
    let mut evidence = honest.clone();
    evidence.quote = honest.signing.by.clone();
    assert_eq!(machine.reason(&evidence), "tpm-kind");
    let mut evidence = honest.clone();
    evidence.signing.by = honest.quote.clone();
    assert_eq!(machine.reason(&evidence), "tpm-kind");
    let mut evidence = honest.clone();
    evidence.signing.by = honest.sealing.by.clone();
    assert_eq!(machine.reason(&evidence), "tpm-name");
    // What a restricted key would have signed for anyone does not begin like this.
    let mut evidence = honest;
    let mut outside = evidence.quote.attest.clone();
    outside[0] = 0;
    evidence.quote = sign(&machine.attestation, outside);
    assert_eq!(machine.reason(&evidence), "evidence-malformed");
    let other = attest(0x801a, machine.nonce, &[0, 0, 0, 0]);
    evidence.quote = sign(&machine.attestation, other);
    assert_eq!(machine.reason(&evidence), "evidence-malformed");
}

#[test]
fn the_lasting_part_is_named_by_all_of_it() {
    let machine = Machine::new();
    let evidence = machine.evidence();
    let name = tpm::lasting(&evidence.encode()).unwrap();
    let mut other = evidence.clone();
    other.quote = machine.attest(0x8018, Hash::of(b"x"), &[]);
    assert_eq!(tpm::lasting(&other.encode()), Some(name));
    let changes: [fn(&mut tpm::Lasting); 4] = [
        |lasting| lasting.chain.truncate(2),
        |lasting| lasting.attestation_key.push(0),
        |lasting| lasting.activation.seeds.secret[0] ^= 1,
        |lasting| lasting.endorsements.clear(),
    ];
    for change in changes {
        let mut other = evidence.clone();
        change(&mut other.lasting);
        assert_ne!(tpm::lasting(&other.encode()), Some(name));
    }
    assert_eq!(tpm::lasting(b"\xa0"), None);
}

/// How far apart the bits are that a test flips: `usual`, or every one where `GLASSBLOOM_EVERY_BIT` asks for it, as CI does
/// in a step of its own.
fn stride(usual: usize) -> usize {
    if std::env::var_os("GLASSBLOOM_EVERY_BIT").is_some() { 1 } else { usual }
}

#[test]
fn no_flipped_bit_is_accepted() {
    let machine = Machine::new();
    let evidence = machine.evidence();
    let bytes = evidence.encode();
    // Certificates come first, and their own tests flip every bit of others: here it is one in some.
    let certificates = Value::Array(evidence.lasting.chain.iter().map(|c| c.as_slice().into()).collect());
    let certificates = certificates.encode().len();
    let dense = (8 * certificates..8 * bytes.len()).step_by(stride(5));
    for bit in (0..8 * certificates).step_by(stride(23)).chain(dense) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(machine.verify_bytes(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_challenge_suits_its_kind_of_key() {
    let machine = Machine::new();
    let mut evidence = machine.evidence();
    evidence.lasting.activation.seeds.padding = Some([0; 32]);
    assert_eq!(machine.reason(&evidence), "tpm-activation-mismatch");
    let mut evidence = machine.evidence();
    evidence.lasting.activation.seeds.seed = [0; 32];
    assert!(EcdhSecret::from_bytes(&[0; 32]).is_err());
    assert_eq!(machine.reason(&evidence), "tpm-activation-mismatch");
}

// An endorser asks only what would count: else its word would be for nothing.
#[test]
fn an_endorser_asks_only_what_can_be_verified() {
    let machine = Machine::new();
    let evidence = machine.evidence();
    let ask = |chain: &[Vec<u8>], ak: &[u8]| {
        let seeds = Seeds { secret: [1; 32], seed: [2; 32], padding: Some([3; 32]) };
        tpm::ask(chain, ak, std::slice::from_ref(&machine.anchor), AT, &seeds)
    };
    let asked = ask(&evidence.lasting.chain, &evidence.lasting.attestation_key).unwrap();
    assert_eq!(asked.transcript, evidence.lasting.activation);
    let unrestricted = public(&machine.attestation.public_key(), AK_ATTRIBUTES ^ 1 << 16, ECDSA);
    assert_eq!(ask(&evidence.lasting.chain, &unrestricted).unwrap_err().reason, "tpm-ak-attributes");
    let other = Machine::new().chain;
    assert_eq!(ask(&other, &evidence.lasting.attestation_key).unwrap_err().reason, "certificate-root");
}
