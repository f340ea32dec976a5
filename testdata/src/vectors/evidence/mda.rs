//! Records of Managed Device Attestation, as logs have them: no certificate is in them, so none is needed.

use glassbloom_spec::{
    cbor::Value,
    evidence::{
        endorsement::Endorsement,
        mda::{FIELDS, FORMAT, Form, Opening, Record},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Payload,
    statement::{Kind, Statement},
};

use super::{Folder, enrolled, flipped, with};
use crate::{
    mac,
    tpm::endorse,
    world::{NOW, World},
};

const SECTION: &str = "the-record";
const TIER: &str = "mda";

// Places in `FIELDS`.
const SIP: usize = 0;
const SECURE_BOOT: usize = 1;
const KEXTS: usize = 2;
const OS_VERSION: usize = 3;
const SERIAL: usize = 7;
const UDID: usize = 8;

pub(super) fn add(world: &World, folder: &mut Folder) {
    let nonce = world.attestation.nonce;
    let good = record(nonce);
    let unsigned = |edit: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        edit(&mut record);
        record
    };
    // What the certificate says, changed, and endorsed as it then is.
    let edit = |edit: &dyn Fn(&mut Record)| endorsed(unsigned(edit), nonce).encode();
    // The word of the endorser, changed.
    let says = |edit: &dyn Fn(&mut Endorsement)| {
        let mut says = endorsement(&good, nonce);
        edit(&mut says);
        Record { endorsements: vec![endorse(&says, &mac::endorser())], ..good.clone() }.encode()
    };
    // The endorsements, changed.
    let words =
        |edit: &dyn Fn(&mut Vec<Vec<u8>>)| unsigned(&|record| edit(&mut record.endorsements)).encode();
    let by_stranger = endorse(&endorsement(&good, nonce), &world.keys.stranger);

    folder.pass("mda", SECTION, TIER, good.encode());
    folder.pass(
        "mda_acme",
        SECTION,
        TIER,
        edit(&|record| {
            record.form = Form::Acme;
            record.freshness = Form::Acme.freshness(nonce);
        }),
    );
    folder.pass("mda_with_more_opened", SECTION, TIER, edit(&|it| put(it, OS_VERSION, b"27.1")));
    folder.pass("mda_of_unknown_version", SECTION, TIER, edit(&|it| it.commitments[OS_VERSION] = None));
    folder.pass("mda_in_its_last_second", SECTION, TIER, edit(&|it| it.ends = UnixSeconds::new(NOW)));
    folder.pass(
        "mda_in_its_first_second",
        SECTION,
        TIER,
        edit(&|it| it.minted = UnixSeconds::new(NOW + DAY)),
    );
    folder.pass(
        "mda_endorsed_by_a_stranger_too",
        SECTION,
        TIER,
        words(&|it| it.insert(0, by_stranger.clone())),
    );
    let earlier = endorsed(record(enrolled()), enrolled()).encode();
    folder.pass("mda_enrolled", SECTION, "mda enrolled", earlier.clone());

    folder.fail("mda_other_key", SECTION, "mda enrolled-by-another", earlier.clone());
    folder.fail("mda_freshness_of_another_nonce", SECTION, TIER, earlier);
    folder.fail("mda_freshness_of_this_attestation_when_enrolled", SECTION, "mda enrolled", good.encode());
    for (rule, bytes) in [
        ("mda_freshness_of_the_other_form", edit(&|it| it.form = Form::Acme)),
        ("mda_expired", edit(&|it| it.ends = UnixSeconds::new(NOW - 1))),
        ("mda_not_yet_valid", edit(&|it| it.minted = UnixSeconds::new(NOW + DAY + 1))),
        ("mda_endorsement_malformed", words(&|it| it[0].truncate(100))),
        ("mda_endorsement_malformed_twice", words(&|it| it.push(it[0].clone()))),
        ("mda_endorsement_malformed_with_more_fields", {
            let more = with(&endorsement(&good, nonce).to_value(), 128, "and the serial number".into());
            let more =
                Statement::sign(Kind::Endorsement, &more, &mac::endorser()).expect("software keys sign");
            words(&|it| it[0] = more.bytes().to_vec())
        }),
        ("mda_endorsement_mismatch_nonce", says(&|it| it.nonce = enrolled())),
        ("mda_endorsement_malformed_format", says(&|it| it.format = "tpm".to_owned())),
        ("mda_endorsement_mismatch_other_record", unsigned(&|it| it.commitments[UDID] = None).encode()),
        ("mda_endorser_unknown", words(&|it| *it = vec![by_stranger.clone()])),
        ("mda_endorser_unknown_signature_flipped", words(&|it| it[0] = flipped(&it[0]))),
        ("mda_not_endorsed", words(&|it| it.clear())),
        ("mda_device_unnamed", says(&|it| it.device = None)),
        ("mda_identifies_device_serial", edit(&|it| put(it, SERIAL, b"C02XXXXXXXXX"))),
        ("mda_identifies_device_udid", edit(&|it| put(it, UDID, b"00008112-000A"))),
        (
            "mda_opening_of_another_value",
            unsigned(&|it| it.openings[SIP].value = b"\x02\x01\x01".to_vec()).encode(),
        ),
        ("mda_opening_with_another_salt", unsigned(&|it| it.openings[SIP].salt[0] ^= 1).encode()),
        ("mda_opening_of_nothing", edit(&|it| it.commitments[SIP] = None)),
        ("mda_property_as_text", edit(&|it| put(it, SIP, b"enabled"))),
        ("mda_property_without_a_meaning", edit(&|it| put(it, SIP, b"\x02\x01\x02"))),
        ("mda_property_with_escape_sequence", edit(&|it| put(it, SECURE_BOOT, b"\x1b[2J"))),
        ("mda_posture_unknown_redacted", unsigned(&|it| _ = it.openings.remove(SIP)).encode()),
        (
            "mda_posture_unknown_absent",
            edit(&|it| {
                it.openings.remove(SECURE_BOOT);
                it.commitments[SECURE_BOOT] = None;
            }),
        ),
        ("mda_sip_disabled", edit(&|it| put(it, SIP, b"\x02\x01\x01"))),
        ("mda_secure_boot_reduced", edit(&|it| put(it, SECURE_BOOT, b"Reduced Security"))),
        ("mda_secure_boot_permissive", edit(&|it| put(it, SECURE_BOOT, b"Permissive Security"))),
        ("mda_kexts_allowed", edit(&|it| put(it, KEXTS, b"\x02\x01\x01"))),
        ("mda_evidence_malformed_openings_out_of_order", edit(&|it| it.openings.swap(0, 1))),
        ("mda_evidence_malformed_opening_twice", edit(&|it| it.openings.insert(0, it.openings[0].clone()))),
        ("mda_evidence_malformed_nine_endorsements", words(&|it| *it = vec![it[0].clone(); 9])),
    ] {
        folder.fail(rule, SECTION, TIER, bytes);
    }
    let value = Value::decode(&good.encode()).expect("a record of ours");
    for (rule, bytes) in [
        ("empty", Vec::new()),
        ("trailing_byte", [good.encode().as_slice(), &[0]].concat()),
        ("optional_field", with(&value, 128, "the chain itself".into()).encode()),
        ("form", with(&value, 1, "by hand".into()).encode()),
        ("freshness_of_31_bytes", with(&value, 2, Value::Bytes(vec![1; 31])).encode()),
        ("one_time", with(&value, 3, Value::Array(vec![NOW.into()])).encode()),
        ("no_names", with(&value, 4, Value::Array(Vec::new())).encode()),
    ] {
        folder.fail(&format!("mda_evidence_malformed_{rule}"), SECTION, TIER, bytes);
    }
}

/// The record of a Mac in good order, endorsed for a nonce.
fn record(nonce: Hash) -> Record {
    Record::decode(&mac::evidence("a Mac", nonce, NOW).bytes).expect("a record of ours")
}

fn endorsement(record: &Record, nonce: Hash) -> Endorsement {
    let device = Some(mac::device("a Mac"));
    Endorsement { format: FORMAT.to_owned(), subject: record.subject(), nonce, device }
}

fn endorsed(record: Record, nonce: Hash) -> Record {
    let says = endorsement(&record, nonce);
    Record { endorsements: vec![endorse(&says, &mac::endorser())], ..record }
}

/// Has the certificate say another value, and opens it.
fn put(record: &mut Record, place: usize, value: &[u8]) {
    let (property, salt) = (&FIELDS[place], [place as u8 + 1; 32]);
    record.commitments[place] = Some(property.commit(&salt, value));
    record.openings.retain(|opening| opening.name != property.name);
    record.openings.push(Opening { name: property.name, salt, value: value.to_vec() });
    record.openings.sort_by_key(|opening| FIELDS.iter().position(|of| of.name == opening.name));
}

const DAY: u64 = 86_400;
