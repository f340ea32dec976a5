//! SEV-SNP: a report of a Milan processor with its chain, and another of version 5 without.

use std::fs;

use glassbloom_spec::{
    curve::SigningKey,
    evidence::{
        Bound, Code, Known, Proven, Refused, Trust, Voucher, app_attest, mda,
        snp::{self, Evidence, verify_report},
        tdx, tpm,
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::Tier,
};

use crate::{flip, pem_file, shared, stride};

const AT: UnixSeconds = UnixSeconds::new(1_700_000_000);

fn vector() -> Option<(Evidence, [u8; 64])> {
    let folder = shared("sev-snp")?;
    let report = hex::decode(fs::read_to_string(folder.join("report_milan.hex")).unwrap().trim()).unwrap();
    let vcek = fs::read(folder.join("vcek_milan.der")).unwrap();
    let chain = [vcek, pem_file(&folder, "ask-milan.pem"), pem_file(&folder, "ark-milan.pem")];
    let data = report[0x50..0x90].try_into().unwrap();
    Some((Evidence { report, chain }, data))
}

fn reason(result: Result<Proven, Refused>) -> &'static str {
    result.unwrap_err().reason
}

#[test]
fn a_real_report_proves_what_it_says() {
    let Some((evidence, data)) = vector() else { return };
    let proven = verify_report(&evidence.encode(), &data, AT).unwrap();
    assert_eq!(proven.tier, Tier::SevSnp);
    assert_eq!(proven.code, Some(Code::Launch(evidence.report[0x90..0xc0].to_vec())));
    assert!(!proven.holds_sealing_key);
    assert_eq!(proven.expires.unwrap().get(), 1_901_474_623);
    let chip = Hash::of_parts(&[b"glassbloom/device/v1\0sev-snp\0", &evidence.report[0x1a0..0x1e0]]);
    assert_eq!(proven.device, Some(chip));
    let claim = |name: &str| proven.claims.iter().find(|claim| claim.name == name).unwrap();
    assert_eq!(claim("processor").value, Known::Present("Milan".to_owned()));
    let firmware = "boot loader 3, TEE 0, SNP 8, microcode 115";
    assert_eq!(claim("firmware").value, Known::Present(firmware.to_owned()));
    assert_eq!(claim("memory-alias-check").value, Known::Present("no".to_owned()));
    assert!(proven.claims.iter().all(|claim| claim.by == Voucher::Amd));
    assert_eq!(Evidence::decode(&evidence.encode()).unwrap(), evidence);
}

// cocore ADR-0002, ADR-0005: a genuine report that somebody else's machine made.
#[test]
fn a1_a2_a_report_for_other_keys_is_refused() {
    let Some((evidence, mut data)) = vector() else { return };
    data[63] ^= 1;
    assert_eq!(reason(verify_report(&evidence.encode(), &data, AT)), "snp-report-data");
    let key = SigningKey::from_seed(b"key").public_key();
    let nonce = Hash::try_from(&evidence.report[0x50..0x70]).unwrap();
    let bound = Bound { nonce, signing_key: &key, sealing_key: &key, at: AT, enrolled: None };
    // The first half is right here, and what follows the nonce is not zero.
    assert_eq!(reason(snp::verify(&evidence.encode(), &bound)), "snp-report-data");
}

// Darkbloom B5, B7: nothing passes by being left out, and no other format takes it.
#[test]
fn b5_leaving_anything_out_is_refused() {
    let Some((evidence, data)) = vector() else { return };
    let bytes = evidence.encode();
    for length in 0..bytes.len() {
        assert_eq!(reason(verify_report(&bytes[..length], &data, AT)), "evidence-malformed");
    }
    let cut = Evidence { report: evidence.report[..snp::REPORT_LEN - 1].to_vec(), ..evidence.clone() };
    assert_eq!(reason(verify_report(&cut.encode(), &data, AT)), "evidence-malformed");
    let key = SigningKey::from_seed(b"key").public_key();
    let bound = Bound { nonce: Hash::of(b"x"), signing_key: &key, sealing_key: &key, at: AT, enrolled: None };
    let trust = Trust::default();
    assert!(tpm::verify(&bytes, &bound, &trust).is_err());
    assert!(tdx::verify(&bytes, &bound).is_err());
    assert!(mda::verify(&bytes, &bound, &trust).is_err());
    assert!(app_attest::verify(&bytes, &bound, &trust).is_err());
}

#[test]
fn times_outside_of_the_certificates_are_refused() {
    let Some((evidence, data)) = vector() else { return };
    let at = |seconds| reason(verify_report(&evidence.encode(), &data, UnixSeconds::new(seconds)));
    assert_eq!(at(1_680_549_822), "certificate-not-yet-valid");
    assert_eq!(at(1_901_474_624), "certificate-expired");
    for seconds in [1_680_549_823, 1_901_474_623] {
        assert!(verify_report(&evidence.encode(), &data, UnixSeconds::new(seconds)).is_ok());
    }
}

#[test]
fn other_chains_are_refused() {
    let Some((evidence, data)) = vector() else { return };
    let folder = shared("sev-snp").unwrap();
    let with = |chain: [Vec<u8>; 3]| {
        let evidence = Evidence { chain, ..evidence.clone() };
        reason(verify_report(&evidence.encode(), &data, AT))
    };
    let [vcek, ask, ark] = evidence.chain.clone();
    let genoa = ["ask-genoa.pem", "ark-genoa.pem"].map(|name| pem_file(&folder, name));
    assert_eq!(with([vcek.clone(), ask.clone(), genoa[1].clone()]), "certificate-chain");
    assert_eq!(with([vcek.clone(), genoa[0].clone(), genoa[1].clone()]), "certificate-chain");
    assert_eq!(with([vcek.clone(), ark.clone(), ark.clone()]), "certificate-chain");
    assert_eq!(with([ask.clone(), ark.clone(), ark]), "certificate-chain");
    assert_eq!(with([vcek.clone(), ask.clone(), ask.clone()]), "certificate-root");
    let intel = fs::read(shared("tdx").unwrap().join("TrustedRootCA.der")).unwrap();
    assert_eq!(with([vcek, ask, intel]), "certificate-root");
    // A key of another generation, under its own root.
    let turin = fs::read(folder.join("vcek_turin.der")).unwrap();
    let [ask, ark] = ["ask-turin.pem", "ark-turin.pem"].map(|name| pem_file(&folder, name));
    let evidence = Evidence { chain: [turin, ask, ark], ..evidence };
    let later = UnixSeconds::new(1_800_000_000);
    assert_eq!(reason(verify_report(&evidence.encode(), &data, later)), "snp-signature");
}

#[test]
fn a_report_of_another_processor_or_version_is_refused() {
    let Some((mut evidence, data)) = vector() else { return };
    let newer = fs::read(shared("sev-snp").unwrap().join("report-v5-milan.bin")).unwrap();
    let newer_data = newer[0x50..0x90].try_into().unwrap();
    let newer = Evidence { report: newer, ..evidence.clone() };
    assert_eq!(reason(verify_report(&newer.encode(), &newer_data, AT)), "snp-signature");
    evidence.report[0] = 1;
    assert_eq!(reason(verify_report(&evidence.encode(), &data, AT)), "snp-version");
    evidence.report[0] = 6;
    assert_eq!(reason(verify_report(&evidence.encode(), &data, AT)), "snp-version");
}

#[test]
fn no_flipped_bit_of_a_report_is_accepted() {
    let Some((evidence, data)) = vector() else { return };
    // What is signed is hashed, so of that the digest decides: one bit in each second byte, and of the signature one bit in three.
    let signed = (0..8 * 0x2a0).step_by(stride(17));
    for bit in signed
        .chain((8 * 0x2a0..8 * 0x330).step_by(stride(3)))
        .chain((8 * 0x330..8 * 1184).step_by(stride(13)))
    {
        let flipped = Evidence { report: flip(&evidence.report, bit), ..evidence.clone() };
        assert!(verify_report(&flipped.encode(), &data, AT).is_err(), "bit {bit}");
    }
}

#[test]
fn no_flipped_bit_of_a_chain_is_accepted() {
    let Some((evidence, data)) = vector() else { return };
    for certificate in 0..3 {
        for bit in (0..8 * evidence.chain[certificate].len()).step_by(stride(47)) {
            let mut flipped = evidence.clone();
            flipped.chain[certificate] = flip(&flipped.chain[certificate], bit);
            assert!(
                verify_report(&flipped.encode(), &data, AT).is_err(),
                "certificate {certificate} bit {bit}"
            );
        }
    }
}
