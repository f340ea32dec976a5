//! Evidence of App Attest, under a root that is not Apple's: nobody but Apple can make it for a nonce of ours.

use glassbloom_spec::{cbor::Value, curve::SigningKey, evidence::app_attest::Object, hash::Hash};

use super::{Folder, enrolled, with};
use crate::{
    app_attest::{Device, joined},
    world::World,
};

const SECTION: &str = "app-attest";
const TIER: &str = "app-attest";

pub(super) fn add(world: &World, folder: &mut Folder) {
    let nonce = world.attestation.nonce;
    let now = [nonce, nonce];
    let edit = |edit: fn(&mut Device)| {
        let mut device = Device::default();
        edit(&mut device);
        device.evidence(now)
    };
    let good = Device::default();
    let (object, assertion) = (good.object(nonce), good.assertion(nonce));
    // One of the two changed alone.
    let objected = |edit: fn(&mut Device)| {
        let mut device = Device::default();
        edit(&mut device);
        joined(&device.object(nonce), &assertion)
    };
    let asserted = |edit: fn(&mut Device)| {
        let mut device = Device::default();
        edit(&mut device);
        joined(&object, &device.assertion(nonce))
    };
    folder.pass("app_attest", SECTION, TIER, good.evidence(now));
    folder.pass("app_attest_enrolled", SECTION, "app-attest enrolled", good.evidence([enrolled(), nonce]));
    folder.pass("app_attest_without_the_flag_for_extensions", SECTION, TIER, edit(|it| it.flags = 0x40));
    folder.pass("app_attest_of_new_code", SECTION, TIER, {
        asserted(|it| it.code = Some((Hash::of(b"the next build").as_bytes().to_vec(), 2)))
    });
    folder.pass("app_attest_counted_on", SECTION, TIER, asserted(|it| it.counters[1] = u32::MAX));
    let value = Value::decode(&good.evidence(now)).expect("evidence of ours");
    let mut changed = Object::parse(&object).expect("an object of ours").without_receipt();
    let at = changed.len() - 1;
    changed[at] ^= 1;
    for (rule, bytes) in [
        ("evidence_malformed_empty", Vec::new()),
        ("evidence_malformed_optional_field", with(&value, 128, "the receipt".into()).encode()),
        ("evidence_malformed_object_alone", joined(&object, b"")),
        ("evidence_malformed_swapped", joined(&assertion, &object)),
        ("receipt", edit(|it| it.receipt = true)),
        ("nonce_of_another_object", good.evidence([enrolled(), nonce])),
        ("nonce_over_other_data", joined(&changed, &assertion)),
        ("flags", edit(|it| it.flags = 0x41)),
        ("key_of_another_certificate", edit(|it| it.certified = SigningKey::from_seed(b"another Mac"))),
        ("app_unknown", edit(|it| (it.app, it.certified_app) = ("OTHER.app", "OTHER.app"))),
        ("app_of_another_certificate", edit(|it| it.certified_app = "OTHER.app")),
        ("app_of_another_assertion", asserted(|it| it.app = "OTHER.app")),
        ("environment_development", edit(|it| it.aaguid = *b"appattestdevelop")),
        ("environment_unknown", edit(|it| it.aaguid = [0; 16])),
        ("counter_of_the_object", objected(|it| it.counters[0] = 1)),
        ("counter_of_the_assertion", asserted(|it| it.counters[1] = 0)),
        ("platform_phone", edit(|it| it.platform = "iphoneos")),
        ("platform_blank", edit(|it| it.platform = " ")),
        ("access_control_weaker", edit(|it| it.access_control[70] ^= 1)),
        ("signature_for_another_nonce", joined(&object, &good.assertion(enrolled()))),
        ("code_missing", asserted(|it| it.code = None)),
        ("code_of_20_bytes", asserted(|it| it.code = Some((vec![7; 20], 2)))),
        ("code_of_another_type", asserted(|it| it.code = Some((vec![7; 32], 3)))),
        ("category_missing", asserted(|it| it.category = None)),
        ("category_ad_hoc", asserted(|it| it.category = Some(vec![10, 0, 0, 0]))),
        ("category_of_one_byte", asserted(|it| it.category = Some(vec![6]))),
    ] {
        folder.fail(&format!("app_attest_{rule}"), SECTION, TIER, bytes);
    }
    let at_enrolment = good.evidence([nonce, nonce]);
    folder.fail(
        "app_attest_nonce_of_this_attestation_when_enrolled",
        SECTION,
        "app-attest enrolled",
        at_enrolment,
    );
}
