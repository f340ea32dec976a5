//! Evidence of a TPM, all of it made from seeds: hardware of a maker that does not exist, and a program.

use glassbloom_spec::{
    cbor::Value,
    curve::SigningKey,
    evidence::tpm::{Evidence, Lasting},
    hash::Hash,
    leaf::Tier,
};

use super::{Folder, enrolled, flipped, with};
use crate::{
    der::{Certificate, authority, extension, purpose, usage},
    tpm::{
        ATTESTATION, ECDH, ECDSA, Maker, NO_SCHEME, Names, QUOTE, SEALING, SIGNING, Tpm, attest, endorse,
        endorser, place, public,
    },
    world::World,
};

const EVIDENCE: &str = "evidence-tpm.md#the-evidence";
const ENDORSEMENT_KEY: &str = "evidence-tpm.md#the-endorsement-key";
const ACTIVATION: &str = "evidence-tpm.md#activation";
const KEYS: &str = "evidence-tpm.md#keys";
const SIGNED: &str = "evidence-tpm.md#quote-and-certify";
const CERTIFICATES: &str = "certificates";
const HARDWARE: &str = "tpm-hw";

/// The world's provider with a TPM.
struct Made<'a> {
    world: &'a World,
    tpm: Tpm,
}

impl Made<'_> {
    fn nonce(&self) -> Hash {
        self.world.attestation.nonce
    }

    fn over(&self, tpm: &Tpm, lasting: Lasting) -> Evidence {
        let attestation = &self.world.attestation;
        let sealing = attestation.key_config.public_key();
        tpm.evidence(lasting, &attestation.signing_key, sealing, attestation.nonce)
    }

    /// In good order.
    fn good(&self) -> Evidence {
        self.over(&self.tpm, self.tpm.lasting(self.nonce()))
    }

    /// In good order, then changed.
    fn edit(&self, edit: impl FnOnce(&mut Evidence)) -> Vec<u8> {
        let mut evidence = self.good();
        edit(&mut evidence);
        evidence.encode()
    }

    /// Of a TPM whose certificate was changed before its maker signed it.
    fn certified(&self, maker: &Maker, edit: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        let tpm = Tpm::of(maker, edit);
        self.over(&tpm, tpm.lasting(self.nonce())).encode()
    }

    /// With another attestation key's public part, and a challenge for it.
    fn attested(&self, attributes: u32, scheme: &[u8]) -> Vec<u8> {
        let key = public(&self.tpm.attestation.public_key(), attributes, scheme);
        self.over(&self.tpm, self.tpm.lasting_for(key, self.nonce())).encode()
    }
}

pub(super) fn add(world: &World, folder: &mut Folder) {
    let made = Made { world, tpm: Tpm::new() };
    passing(&made, folder);
    for (section, cases) in [
        (EVIDENCE, malformed(&made)),
        (CERTIFICATES, certificates(&made)),
        (ENDORSEMENT_KEY, endorsement_keys(&made)),
        (ACTIVATION, activations(&made)),
        (KEYS, keys(&made)),
        (SIGNED, signed(&made)),
    ] {
        for (rule, bytes) in cases {
            folder.fail(rule, section, HARDWARE, bytes);
        }
    }
    let soft = Tpm::software();
    folder.fail(
        "tpm_tier_not_reached",
        ENDORSEMENT_KEY,
        HARDWARE,
        made.over(&soft, soft.lasting(made.nonce())).encode(),
    );
    let fresh = made.good().encode();
    folder.fail("tpm_endorsement_mismatch_when_enrolled", EVIDENCE, "tpm-hw enrolled", fresh);
}

fn passing(made: &Made, folder: &mut Folder) {
    let hardware = Maker::hardware();
    folder.pass("tpm_hw", EVIDENCE, HARDWARE, made.good().encode());
    let soft = Tpm::software();
    let soft = made.over(&soft, soft.lasting(made.nonce())).encode();
    folder.pass("tpm_soft", EVIDENCE, "tpm-soft", soft);
    let renamed = made.certified(&Maker::software(), |_| {});
    folder.pass("tpm_soft_whatever_its_name", ENDORSEMENT_KEY, "tpm-soft", renamed);
    let earlier = |tpm: &Tpm| made.over(tpm, tpm.lasting(enrolled())).encode();
    folder.pass("tpm_hw_enrolled", EVIDENCE, "tpm-hw enrolled", earlier(&made.tpm));
    // The key that answers may be another by now: the attestation key is the same.
    folder.pass("tpm_hw_enrolled_by_another_key", EVIDENCE, "tpm-hw enrolled-by-another", earlier(&made.tpm));
    // Ended between the enrolment and now.
    let ended = Tpm::of(&hardware, |it| it.valid[1] = "261120170000Z");
    folder.pass("tpm_hw_ended_since_it_enrolled", EVIDENCE, "tpm-hw enrolled", earlier(&ended));
    let last = made.certified(&hardware, |it| it.valid[1] = "261120172300Z");
    folder.pass("tpm_certificate_in_its_last_second", CERTIFICATES, HARDWARE, last);
    let first = made.certified(&hardware, |it| it.valid[0] = "261120172300Z");
    folder.pass("tpm_certificate_in_its_first_second", CERTIFICATES, HARDWARE, first);
    let bare = made.certified(&hardware, |it| {
        it.extensions.drain(place::AUTHORITY..=place::USAGE);
    });
    folder.pass("tpm_certificate_without_usage", CERTIFICATES, HARDWARE, bare);
    let open = made.edit(|it| {
        let attestation = &made.world.attestation;
        let sealing = attestation.key_config.public_key();
        it.signing = made.tpm.certified(public(&attestation.signing_key, SIGNING, NO_SCHEME), made.nonce());
        it.sealing = made.tpm.certified(public(sealing, SEALING, NO_SCHEME), made.nonce());
    });
    folder.pass("tpm_keys_without_scheme", KEYS, HARDWARE, open);
    let more = made.edit(|it| {
        it.registers.push((10, Hash::of(b"what the kernel measured")));
        it.quote = made.tpm.quote(&it.registers, made.nonce());
    });
    folder.pass("tpm_with_a_ninth_register", SIGNED, HARDWARE, more);
    let stranger = made.edit(|it| {
        let says = made.tpm.endorsement(&it.lasting, made.nonce());
        it.lasting.endorsements.insert(0, endorse(&says, &made.world.keys.stranger));
    });
    folder.pass("tpm_endorsed_by_a_stranger_too", ACTIVATION, HARDWARE, stranger);
}

type Cases = Vec<(&'static str, Vec<u8>)>;

fn malformed(made: &Made) -> Cases {
    let good = made.good().encode();
    let value = Value::decode(&good).expect("evidence of ours");
    let set = |key, to: Value| with(&value, key, to).encode();
    let without = |key: u64| match &value {
        Value::Map(fields) => {
            let kept = fields.iter().filter(|(of, _)| *of != Value::from(key));
            Value::Map(kept.cloned().collect()).encode()
        }
        _ => Vec::new(),
    };
    let outside = |edit: fn(&mut Vec<u8>)| {
        made.edit(|it| {
            let mut bytes = it.quote.attest.clone();
            edit(&mut bytes);
            it.quote = made.tpm.sign(bytes);
        })
    };
    vec![
        ("tpm_evidence_malformed_empty", Vec::new()),
        ("tpm_evidence_malformed_trailing_byte", [good.as_slice(), &[0]].concat()),
        ("tpm_evidence_malformed_critical_field", set(14, Value::Null)),
        ("tpm_evidence_malformed_optional_field", set(128, Value::Null)),
        ("tpm_evidence_malformed_without_certificates", without(1)),
        ("tpm_evidence_malformed_without_activation", without(3)),
        ("tpm_evidence_malformed_without_quote", without(5)),
        ("tpm_evidence_malformed_without_the_sealing_key", without(13)),
        ("tpm_evidence_malformed_register_256", {
            let register = vec![256.into(), Hash::of(b"").into()];
            set(7, Value::Array(vec![Value::Array(register)]))
        }),
        ("tpm_evidence_malformed_nine_endorsements", {
            made.edit(|it| it.lasting.endorsements = vec![it.lasting.endorsements[0].clone(); 9])
        }),
        // What anyone can have a key sign that is not restricted.
        ("tpm_evidence_malformed_not_made_by_the_tpm", outside(|bytes| bytes[0] = 0)),
        ("tpm_evidence_malformed_attest_trailing_byte", outside(|bytes| bytes.push(0))),
        ("tpm_evidence_malformed_bank_of_sha1", {
            outside(|bytes| {
                let at = bytes.len() - 34 - 3 - 2;
                bytes[at] = 4;
            })
        }),
        ("tpm_evidence_malformed_time_attestation", {
            made.edit(|it| it.quote = made.tpm.sign(attest(0x8019, made.nonce().as_ref(), &[0; 8])))
        }),
        ("tpm_evidence_malformed_key_off_the_curve", {
            made.edit(|it| *it.lasting.attestation_key.last_mut().expect("not empty") ^= 1)
        }),
        ("tpm_evidence_malformed_name_by_sha384", made.edit(|it| it.lasting.attestation_key[3] = 0x0c)),
        ("tpm_evidence_malformed_reserved_attribute", made.edit(|it| it.lasting.attestation_key[7] |= 1)),
        ("tpm_evidence_malformed_signature_of_another_scheme", made.edit(|it| it.quote.signature[1] = 0x14)),
    ]
}

fn certificates(made: &Made) -> Cases {
    let hardware = Maker::hardware();
    let leaf = |edit: fn(&mut Certificate)| made.certified(&hardware, edit);
    let chain = |edit: fn(&mut Vec<Vec<u8>>)| made.edit(|it| edit(&mut it.lasting.chain));
    vec![
        ("tpm_certificate_root", made.certified(&Maker::of("Unknown TPM Root", Tier::TpmHw), |_| {})),
        ("tpm_certificate_root_missing", chain(|it| _ = it.pop())),
        ("tpm_certificate_expired", leaf(|it| it.valid[1] = "261120172259Z")),
        ("tpm_certificate_not_yet_valid", leaf(|it| it.valid[0] = "261120172301Z")),
        (
            "tpm_certificate_critical",
            leaf(|it| it.extensions.push(extension(b"\x55\x1d\x36", true, &[2, 1, 0]))),
        ),
        ("tpm_certificate_chain_issuer_missing", chain(|it| _ = it.remove(1))),
        ("tpm_certificate_chain_alone", chain(|it| it.truncate(1))),
        (
            "tpm_certificate_chain_of_an_authority",
            leaf(|it| it.extensions[place::AUTHORITY] = authority(true)),
        ),
        ("tpm_certificate_chain_usage", leaf(|it| it.extensions[place::USAGE] = usage(0))),
        ("tpm_certificate_chain_issuer_name", leaf(|it| it.issuer.push('x'))),
        ("tpm_certificate_purpose", {
            leaf(|it| it.extensions[place::PURPOSE] = purpose(b"\x2b\x06\x01\x05\x05\x07\x03\x01"))
        }),
        ("tpm_certificate_purpose_missing", leaf(|it| _ = it.extensions.remove(place::PURPOSE))),
        ("tpm_certificate_signature", chain(|it| it[0] = flipped(&it[0]))),
        ("tpm_certificate_algorithm_sha512", leaf(|it| it.algorithm = b"\x2a\x86\x48\xce\x3d\x04\x03\x04")),
        ("tpm_certificate_malformed_trailing_byte", chain(|it| it[0].push(0))),
        (
            "tpm_certificate_malformed_extension_twice",
            leaf(|it| it.extensions.push(it.extensions[place::NAMES].clone())),
        ),
        ("tpm_certificate_malformed_day", leaf(|it| it.valid[0] = "260230000000Z")),
    ]
}

fn endorsement_keys(made: &Made) -> Cases {
    let hardware = Maker::hardware();
    let named =
        |names: Names| made.certified(&hardware, |it| it.extensions[place::NAMES] = names.extension());
    vec![
        ("tpm_unnamed", made.certified(&hardware, |it| _ = it.extensions.remove(place::NAMES))),
        ("tpm_unnamed_manufacturer_in_letters", named(Names { manufacturer: "Glass", ..Names::HARDWARE })),
        ("tpm_unnamed_model_with_escape_sequence", named(Names { model: "\u{1b}[2J", ..Names::HARDWARE })),
        ("tpm_is_software", named(Names::SOFTWARE)),
        ("tpm_is_software_by_its_maker", named(Names { model: "Glass 1", ..Names::SOFTWARE })),
        ("tpm_is_software_by_its_model", named(Names { model: "vTPM", ..Names::HARDWARE })),
    ]
}

fn activations(made: &Made) -> Cases {
    let nonce = made.nonce();
    let other = Tpm { attestation: SigningKey::from_seed(b"another attestation key"), ..Tpm::new() };
    let lasting = |edit: &dyn Fn(&mut Lasting)| made.edit(|it| edit(&mut it.lasting));
    let word = |bytes: Vec<u8>| lasting(&|it| it.endorsements = vec![bytes.clone()]);
    let says = made.tpm.endorsement(&made.good().lasting, nonce);
    vec![
        ("tpm_activation_mismatch_secret", lasting(&|it| it.activation.seeds.secret[0] ^= 1)),
        ("tpm_activation_mismatch_seed", lasting(&|it| it.activation.seeds.seed[0] ^= 1)),
        ("tpm_activation_mismatch_padding", lasting(&|it| it.activation.seeds.padding = Some([0; 32]))),
        ("tpm_activation_mismatch_credential", lasting(&|it| it.activation.challenge.credential[40] ^= 1)),
        ("tpm_activation_mismatch_point", lasting(&|it| it.activation.challenge.encrypted_secret[40] ^= 1)),
        // A challenge that was made for another attestation key, and answered.
        ("tpm_activation_mismatch_of_another_key", {
            lasting(&|it| it.activation = other.lasting(nonce).activation)
        }),
        ("tpm_not_endorsed", lasting(&|it| it.endorsements.clear())),
        ("tpm_endorser_unknown", word(endorse(&says, &made.world.keys.stranger))),
        ("tpm_endorser_unknown_signature_flipped", word(flipped(&endorse(&says, &endorser())))),
        (
            "tpm_endorsement_mismatch_nonce",
            word(endorse(&made.tpm.endorsement(&made.good().lasting, enrolled()), &endorser())),
        ),
        ("tpm_endorsement_mismatch_of_another_key", {
            word(endorse(&made.tpm.endorsement(&other.lasting(nonce), nonce), &endorser()))
        }),
        ("tpm_endorsement_malformed", word(b"seen".to_vec())),
    ]
}

fn keys(made: &Made) -> Cases {
    let attestation = &made.world.attestation;
    let (nonce, signing, sealing) =
        (made.nonce(), attestation.signing_key, attestation.key_config.public_key());
    let stranger = made.world.keys.stranger.public_key();
    let signs = |public: Vec<u8>| made.edit(|it| it.signing = made.tpm.certified(public, nonce));
    let seals = |public: Vec<u8>| made.edit(|it| it.sealing = made.tpm.certified(public, nonce));
    vec![
        ("tpm_ak_attributes_unrestricted", made.attested(ATTESTATION ^ 1 << 16, ECDSA)),
        ("tpm_ak_attributes_can_leave", made.attested(ATTESTATION ^ 1 << 1, ECDSA)),
        ("tpm_ak_attributes_can_change_parent", made.attested(ATTESTATION ^ 1 << 4, ECDSA)),
        ("tpm_ak_attributes_imported", made.attested(ATTESTATION ^ 1 << 5, ECDSA)),
        ("tpm_ak_attributes_decrypts", made.attested(ATTESTATION | 1 << 17, ECDSA)),
        ("tpm_ak_kind", made.attested(ATTESTATION, NO_SCHEME)),
        ("tpm_key_mismatch_signing", signs(public(&stranger, SIGNING, ECDSA))),
        ("tpm_key_mismatch_sealing", seals(public(&stranger, SEALING, ECDH))),
        ("tpm_key_attributes_signing_can_leave", signs(public(&signing, SIGNING ^ 1 << 1, ECDSA))),
        ("tpm_key_attributes_signing_imported", signs(public(&signing, SIGNING ^ 1 << 5, ECDSA))),
        ("tpm_key_attributes_signing_restricted", signs(public(&signing, SIGNING | 1 << 16, ECDSA))),
        ("tpm_key_attributes_signing_decrypts", signs(public(&signing, SIGNING | 1 << 17, NO_SCHEME))),
        ("tpm_key_attributes_signing_scheme", signs(public(&signing, SIGNING, ECDH))),
        ("tpm_key_attributes_sealing_can_leave", seals(public(sealing, SEALING ^ 1 << 1, ECDH))),
        ("tpm_key_attributes_sealing_imported", seals(public(sealing, SEALING ^ 1 << 5, ECDH))),
        ("tpm_key_attributes_sealing_signs", seals(public(sealing, SEALING | 1 << 18, NO_SCHEME))),
        ("tpm_key_attributes_sealing_scheme", seals(public(sealing, SEALING, ECDSA))),
    ]
}

fn signed(made: &Made) -> Cases {
    let (tpm, nonce, before) = (&made.tpm, made.nonce(), enrolled());
    let other = Tpm { attestation: SigningKey::from_seed(b"another attestation key"), ..Tpm::new() };
    let good = made.good();
    // The quote of the same registers over any extra data.
    let over = |extra: &[u8]| {
        let head = 4 + 2 + 36 + 2 + 32;
        made.edit(|it| it.quote = tpm.sign(attest(QUOTE, extra, &it.quote.attest[head + 25..])))
    };
    vec![
        ("tpm_signature", made.edit(|it| it.quote.signature = flipped(&it.quote.signature))),
        ("tpm_signature_of_another_key", made.edit(|it| it.quote = other.quote(&it.registers, nonce))),
        (
            "tpm_signature_of_another_statement",
            made.edit(|it| it.quote.signature = good.signing.by.signature.clone()),
        ),
        ("tpm_nonce_of_the_quote", made.edit(|it| it.quote = tpm.quote(&it.registers, before))),
        (
            "tpm_nonce_of_the_signing_key",
            made.edit(|it| it.signing.by = tpm.certify(&it.signing.public, before)),
        ),
        (
            "tpm_nonce_of_the_sealing_key",
            made.edit(|it| it.sealing.by = tpm.certify(&it.sealing.public, before)),
        ),
        ("tpm_nonce_empty", over(b"")),
        ("tpm_nonce_cut", over(&nonce.as_bytes()[..31])),
        ("tpm_nonce_extended", over(&[nonce.as_bytes(), &[0][..]].concat())),
        ("tpm_kind_certification_as_quote", made.edit(|it| it.quote = good.signing.by.clone())),
        ("tpm_kind_quote_as_certification", made.edit(|it| it.sealing.by = good.quote.clone())),
        ("tpm_name", made.edit(|it| it.signing.by = good.sealing.by.clone())),
        ("tpm_registers_value", made.edit(|it| it.registers[0].1 = Hash::of(b"a clean start"))),
        ("tpm_registers_left_out", made.edit(|it| _ = it.registers.remove(3))),
        ("tpm_registers_out_of_order", made.edit(|it| it.registers.swap(0, 1))),
        ("tpm_registers_missing", {
            made.edit(|it| {
                it.registers.remove(7);
                it.quote = tpm.quote(&it.registers, nonce);
            })
        }),
    ]
}
