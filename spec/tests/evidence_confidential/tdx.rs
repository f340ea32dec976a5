//! TDX: a quote of a guest with what Intel published on that day.

use std::fs;

use glassbloom_spec::{
    curve::SigningKey,
    evidence::{
        Bound, Code, Known, Proven, Refused, Voucher,
        tdx::{self, Collateral, Document, Evidence, verify_quote},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};
use serde_json::Value;

use crate::{flip, pem, shared, stride};

const AT: UnixSeconds = UnixSeconds::new(1_751_000_000);
/// Header, body, and the length of what follows.
const SIGNED: usize = 48 + 584;

fn vector() -> Option<(Evidence, [u8; 64])> {
    let folder = shared("tdx")?;
    // The driver that gave it out pads it with zeros.
    let mut quote = fs::read(folder.join("tdx_quote")).unwrap();
    let length = u32::from_le_bytes(quote[SIGNED..SIGNED + 4].try_into().unwrap()) as usize;
    assert!(quote[SIGNED + 4 + length..].iter().all(|byte| *byte == 0));
    quote.truncate(SIGNED + 4 + length);
    let file = fs::read_to_string(folder.join("tdx_quote_collateral.json")).unwrap();
    let json: Value = serde_json::from_str(&file).unwrap();
    let text = |name: &str| json[name].as_str().unwrap();
    let bytes = |name: &str| hex::decode(text(name)).unwrap();
    let document = |name: &str| Document {
        json: text(name).as_bytes().to_vec(),
        signature: bytes(&format!("{name}_signature")).try_into().unwrap(),
    };
    let collateral = Collateral {
        tcb_info: document("tcb_info"),
        enclave_identity: document("qe_identity"),
        signer: pem(text("tcb_info_issuer_chain")).remove(0),
        root_crl: bytes("root_ca_crl"),
        pck_crl: bytes("pck_crl"),
    };
    let data = quote[SIGNED - 64..SIGNED].try_into().unwrap();
    Some((Evidence { quote, collateral }, data))
}

fn reason(result: Result<Proven, Refused>) -> &'static str {
    result.unwrap_err().reason
}

#[test]
fn a_real_quote_proves_what_it_says() {
    let Some((evidence, data)) = vector() else { return };
    let proven = verify_quote(&evidence.encode(), &data, AT).unwrap();
    assert_eq!(proven.tier, Tier::Tdx);
    let launch = [&evidence.quote[48 + 136..48 + 184], &evidence.quote[48 + 328..48 + 520]].concat();
    assert_eq!(proven.code, Some(Code::Launch(launch)));
    assert!(!proven.holds_sealing_key && proven.device.is_some());
    let claim = |name: &str| proven.claims.iter().find(|claim| claim.name == name).unwrap();
    assert_eq!(claim("platform").value, Known::Present("FMSPC b0c06f000000".to_owned()));
    assert!(claim("firmware").value.to_string().starts_with("up to date, level of 20"));
    assert_eq!(claim("rtmr3").value, Known::Present("00".repeat(48)));
    assert!(proven.claims.iter().all(|claim| claim.by == Voucher::Intel));
    // The first of the collateral to end.
    assert_eq!(proven.expires.unwrap().get(), 1_752_919_235);
    assert_eq!(Evidence::decode(&evidence.encode()).unwrap(), evidence);
}

#[test]
fn a1_a2_a_quote_for_other_keys_is_refused() {
    let Some((evidence, mut data)) = vector() else { return };
    let key = SigningKey::from_seed(b"key").public_key();
    let nonce = Hash::try_from(&data[..32]).unwrap();
    let bound = Bound { nonce, signing_key: &key, sealing_key: &key, at: AT, enrolled: None };
    assert_eq!(reason(tdx::verify(&evidence.encode(), &bound)), "tdx-report-data");
    data[0] ^= 1;
    assert_eq!(reason(verify_quote(&evidence.encode(), &data, AT)), "tdx-report-data");
}

#[test]
fn collateral_counts_only_while_it_is_in_force() {
    let Some((evidence, data)) = vector() else { return };
    let at = |seconds| verify_quote(&evidence.encode(), &data, UnixSeconds::new(seconds));
    assert!(at(1_752_919_235).is_ok());
    assert_eq!(reason(at(1_752_919_236)), "tdx-collateral-expired");
    assert_eq!(reason(at(1_750_000_000)), "tdx-collateral-not-yet-valid");
    assert_eq!(reason(at(1_600_000_000)), "certificate-not-yet-valid");
    assert_eq!(reason(at(2_600_000_000)), "certificate-expired");
}

#[test]
fn other_collateral_is_refused() {
    let Some((evidence, data)) = vector() else { return };
    let with = |change: fn(&mut Collateral)| {
        let mut evidence = evidence.clone();
        change(&mut evidence.collateral);
        reason(verify_quote(&evidence.encode(), &data, AT))
    };
    assert_eq!(
        with(|collateral| core::mem::swap(&mut collateral.tcb_info, &mut collateral.enclave_identity)),
        "tdx-collateral-malformed"
    );
    assert_eq!(with(|collateral| collateral.tcb_info.json.push(b' ')), "tdx-collateral-signature");
    assert_eq!(
        with(|collateral| core::mem::swap(&mut collateral.root_crl, &mut collateral.pck_crl)),
        "tdx-revocation-signature"
    );
    assert_eq!(with(|collateral| collateral.pck_crl.clear()), "tdx-revocation-malformed");
    assert_eq!(
        with(|collateral| collateral.root_crl = collateral.pck_crl.clone()),
        "tdx-revocation-signature"
    );
    // The issuer of processors' certificates is an authority, and no signer of collateral.
    let folder = shared("tdx").unwrap();
    let file = fs::read_to_string(folder.join("tdx_quote_collateral.json")).unwrap();
    let json: Value = serde_json::from_str(&file).unwrap();
    let chain = pem(json["pck_crl_issuer_chain"].as_str().unwrap());
    for certificate in chain {
        let mut evidence = evidence.clone();
        evidence.collateral.signer = certificate;
        assert_eq!(reason(verify_quote(&evidence.encode(), &data, AT)), "certificate-chain");
    }
    // A processor's key signs no collateral either: another authority issued it.
    let start = evidence.quote.windows(5).position(|window| window == b"-----").unwrap();
    let text = String::from_utf8_lossy(&evidence.quote[start..]).into_owned();
    let mut evidence = evidence;
    evidence.collateral.signer = pem(&text).remove(0);
    assert_eq!(reason(verify_quote(&evidence.encode(), &data, AT)), "certificate-root");
}

#[test]
fn no_flipped_bit_of_a_quote_is_accepted() {
    let Some((evidence, data)) = vector() else { return };
    // What is signed is hashed, so of that one bit in each second byte; what stands around it has every bit tried.
    let after = 8 * (SIGNED + 4 + 128 + 6);
    let report = after + 8 * 384;
    let bits = (0..8 * SIGNED)
        .step_by(stride(17))
        .chain(8 * SIGNED..after)
        .chain((after..report).step_by(stride(17)))
        .chain(report..report + 8 * (64 + 2 + 32 + 6 + 28))
        .chain((report + 8 * 132..8 * evidence.quote.len()).step_by(stride(73)));
    for bit in bits {
        let flipped = Evidence { quote: flip(&evidence.quote, bit), ..evidence.clone() };
        assert!(verify_quote(&flipped.encode(), &data, AT).is_err(), "bit {bit}");
    }
}

#[test]
fn no_flipped_bit_of_collateral_is_accepted() {
    let Some((evidence, data)) = vector() else { return };
    type Part = fn(&mut Collateral) -> &mut [u8];
    let parts: [(Part, usize); 7] = [
        (|collateral| &mut collateral.tcb_info.json, 211),
        (|collateral| &mut collateral.tcb_info.signature, 5),
        (|collateral| &mut collateral.enclave_identity.json, 149),
        (|collateral| &mut collateral.enclave_identity.signature, 5),
        (|collateral| &mut collateral.signer, 53),
        (|collateral| &mut collateral.root_crl, 29),
        (|collateral| &mut collateral.pck_crl, 211),
    ];
    for (number, (part, step)) in parts.into_iter().enumerate() {
        let length = part(&mut evidence.clone().collateral).len();
        for bit in (0..8 * length).step_by(stride(step)) {
            let mut flipped = evidence.clone();
            part(&mut flipped.collateral)[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_quote(&flipped.encode(), &data, AT).is_err(), "part {number} bit {bit}");
        }
    }
}

#[test]
fn b5_leaving_anything_out_is_refused() {
    let Some((evidence, data)) = vector() else { return };
    let quote = &evidence.quote;
    for length in (0..quote.len()).step_by(7).chain(quote.len() - 4..quote.len()) {
        let cut = Evidence { quote: quote[..length].to_vec(), ..evidence.clone() };
        // The zero after the certificates may be left out, but then the lengths have to say so.
        assert!(verify_quote(&cut.encode(), &data, AT).is_err(), "{length} bytes");
    }
    let long = Evidence { quote: [quote.as_slice(), b"\0"].concat(), ..evidence.clone() };
    assert_eq!(reason(verify_quote(&long.encode(), &data, AT)), "evidence-malformed");
    let bytes = evidence.encode();
    for length in (0..bytes.len()).step_by(97) {
        assert_eq!(reason(verify_quote(&bytes[..length], &data, AT)), "evidence-malformed");
    }
}
