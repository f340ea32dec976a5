//! Levels and statuses that no quote at hand has, in documents that a key of the tests signs.

use serde_json::{Value, json};

use super::*;
use crate::curve::SigningKey;

const AT: UnixSeconds = UnixSeconds::new(1_751_000_000);

fn signed(json: &Value) -> Document {
    let json = serde_json::to_vec(json).unwrap();
    Document { signature: SigningKey::from_seed(b"intel").sign(&json), json }
}

fn body(tcb_svn: &'static [u8; 16]) -> Body<'static> {
    Body {
        tcb_svn,
        module_signer: &[0; 48],
        module_attributes: &[0; 8],
        attributes: 0,
        measurement: &[0; 48],
        configuration: &[0; 48],
        owner: &[0; 48],
        owner_configuration: &[0; 48],
        registers: &[0; 192],
        report_data: &[0; 64],
        services: None,
    }
}

fn platform(component: u8, pce_svn: u64) -> Platform<'static> {
    Platform {
        ppid: &[1; 16],
        components: [component; 16],
        pce_svn,
        pce_id: &[0, 0],
        fmspc: &[0xb0, 0xc0, 0x6f, 0, 0, 0],
    }
}

fn info() -> Value {
    let module = |id: &str, levels: Value| {
        json!({"id": id, "mrsigner": "00".repeat(48), "attributes": "00".repeat(8),
               "attributesMask": "FF".repeat(8), "tcbLevels": levels})
    };
    let level = |sgx: u8, pce: u64, tdx: u8, status: &str| {
        json!({"tcb": {"sgxtcbcomponents": vec![json!({"svn": sgx}); 16], "pcesvn": pce,
                       "tdxtcbcomponents": vec![json!({"svn": tdx}); 16]},
               "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": status, "advisoryIDs": ["INTEL-SA-1"]})
    };
    json!({
        "id": "TDX", "version": 3, "issueDate": "2025-06-19T10:16:03Z", "nextUpdate": "2025-07-19T10:16:03Z",
        "fmspc": "B0C06F000000", "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17,
        "tdxModule": {"mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8)},
        "tdxModuleIdentities": [
            module("TDX_03", json!([{"tcb": {"isvsvn": 3}, "tcbStatus": "UpToDate"}])),
            module("TDX_01", json!([{"tcb": {"isvsvn": 4}, "tcbStatus": "UpToDate"},
                                    {"tcb": {"isvsvn": 2}, "tcbStatus": "OutOfDate"}])),
        ],
        "tcbLevels": [
            level(5, 11, 3, "UpToDate"),
            level(4, 11, 3, "SWHardeningNeeded"),
            level(3, 10, 3, "OutOfDate"),
            level(2, 5, 2, "Revoked"),
        ],
    })
}

fn check(info: &Value, platform: &Platform, body: &Body) -> Result<String, &'static str> {
    TcbInfo::check(&signed(info), &SigningKey::from_seed(b"intel").public_key(), platform, body, AT)
        .map(|current| current.date)
        .map_err(|refused| refused.reason)
}

const CURRENT: &[u8; 16] = &[4, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3];

#[test]
fn only_the_current_level_of_a_platform_passes() {
    let info = info();
    let level = |component, pce_svn| check(&info, &platform(component, pce_svn), &body(CURRENT));
    assert_eq!(level(5, 11).as_deref(), Ok("2024-03-13T00:00:00Z"));
    assert!(level(6, 12).is_ok());
    assert_eq!(level(4, 11), Err("tdx-tcb-sw-hardening-needed"));
    assert_eq!(level(5, 10), Err("tdx-tcb-out-of-date"));
    assert_eq!(level(2, 11), Err("tdx-tcb-revoked"));
    assert_eq!(level(1, 11), Err("tdx-tcb-unknown"));
    assert_eq!(level(5, 4), Err("tdx-tcb-unknown"));
    // One component that lags behind decides.
    for lagging in 0..16 {
        let mut platform = platform(5, 11);
        platform.components[lagging] = 3;
        assert_eq!(check(&info, &platform, &body(CURRENT)), Err("tdx-tcb-out-of-date"));
    }
    assert_eq!(
        check(&info, &platform(5, 11), &body(&[4, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2])),
        Err("tdx-tcb-revoked")
    );
}

#[test]
fn the_module_is_judged_by_its_own_identity() {
    let info = info();
    let module = |body: &Body| check(&info, &platform(5, 11), body);
    let with = |svn: &'static [u8; 16]| module(&body(svn));
    assert_eq!(with(&[3, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]), Err("tdx-tcb-out-of-date"));
    assert_eq!(with(&[1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]), Err("tdx-tcb-unknown"));
    assert_eq!(with(&[9, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]), Err("tdx-module"));
    assert!(with(&[3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]).is_ok());
    // Before the modules had identities the first two components counted like all others.
    assert_eq!(with(&[3, 0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]), Err("tdx-tcb-unknown"));
    assert_eq!(module(&Body { module_signer: &[1; 48], ..body(CURRENT) }), Err("tdx-module"));
    assert_eq!(
        module(&Body { module_attributes: &[1, 0, 0, 0, 0, 0, 0, 0], ..body(CURRENT) }),
        Err("tdx-module")
    );
}

#[test]
fn the_document_is_for_this_platform_and_time() {
    let with = |field: &str, value: Value| {
        let mut info = info();
        info[field] = value;
        check(&info, &platform(5, 11), &body(CURRENT))
    };
    assert_eq!(with("fmspc", json!("B0C06F000001")), Err("tdx-collateral-mismatch"));
    assert_eq!(with("pceId", json!("0001")), Err("tdx-collateral-mismatch"));
    assert_eq!(with("id", json!("SGX")), Err("tdx-collateral-malformed"));
    assert_eq!(with("version", json!(2)), Err("tdx-collateral-malformed"));
    assert_eq!(with("tcbType", json!(1)), Err("tdx-collateral-malformed"));
    assert_eq!(with("nextUpdate", json!("2025-06-20T00:00:00Z")), Err("tdx-collateral-expired"));
    assert_eq!(with("issueDate", json!("2025-06-30T00:00:00Z")), Err("tdx-collateral-not-yet-valid"));
    assert_eq!(with("tcbLevels", json!([])), Err("tdx-tcb-unknown"));
    assert!(with("later", json!("fields may be added")).is_ok());
    let other = SigningKey::from_seed(b"somebody").public_key();
    let refused = TcbInfo::check(&signed(&info()), &other, &platform(5, 11), &body(CURRENT), AT);
    assert_eq!(refused.err().unwrap().reason, "tdx-collateral-signature");
}

#[test]
fn dates_are_read_strictly() {
    assert_eq!(date("2025-06-19T10:16:03Z").unwrap().get(), 1_750_328_163);
    for text in [
        "2025-06-19 10:16:03Z",
        "2025-06-19T10:16:03",
        "2025-06-19T10:16:3Z",
        "20250619T101603Z",
        "2025-13-19T10:16:03Z",
        "2025-06-19T10:16:03z",
        "2025-06-1910:T6:03Z:",
        "\u{ff12}\u{ff10}25-06-19T10:1",
    ] {
        assert_eq!(date(text).unwrap_err().reason, "tdx-collateral-malformed", "{text}");
    }
}

#[test]
fn only_one_status_is_current() {
    assert!(up_to_date("x", "UpToDate").is_ok());
    for (status, reason) in [
        ("ConfigurationAndSWHardeningNeeded", "tdx-tcb-configuration-and-sw-hardening-needed"),
        ("ConfigurationNeeded", "tdx-tcb-configuration-needed"),
        ("OutOfDate", "tdx-tcb-out-of-date"),
        ("OutOfDateConfigurationNeeded", "tdx-tcb-out-of-date-configuration-needed"),
        ("Revoked", "tdx-tcb-revoked"),
        ("SWHardeningNeeded", "tdx-tcb-sw-hardening-needed"),
        ("uptodate", "tdx-tcb-unknown"),
        ("", "tdx-tcb-unknown"),
    ] {
        assert_eq!(up_to_date("x", status).unwrap_err().reason, reason);
    }
}
