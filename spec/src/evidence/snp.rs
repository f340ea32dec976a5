//! Evidence of format `sev-snp`: an AMD confidential virtual machine made the keys.
//!
//! # In scope
//! The report that AMD's secure processor signs for a guest, and the chain from the processor's key to AMD's root for
//! that generation. `[AMD 56860, SEV-SNP firmware ABI 1.58, §7.3]` See `spec/evidence-vm.md`.
//!
//! # Out of scope
//! VLEKs, which a cloud provider holds in place of the processor's own key. Which firmware is new enough: its versions
//! are listed, and AMD publishes no signed list of them.

use super::{
    Bound, Code, Proven, Refused, Voucher, anchor,
    der::Der,
    key::Algorithm,
    x509::{Certificate, Profile, Purpose, Root, verify_chain},
};
use crate::{
    cbor::{FieldError, Fields, Value, map},
    hash::{Hash, sha384},
    id::UnixSeconds,
    leaf::Tier,
};

/// The format's name.
pub const FORMAT: &str = "sev-snp";

/// Length of a report.
pub const REPORT_LEN: usize = 1184;

/// Evidence of this format, taken apart; nothing of it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The report.
    pub report: Vec<u8>,
    /// The certificates of VCEK, ASK and ARK. DER.
    pub chain: [Vec<u8>; 3],
}

impl Evidence {
    /// The bytes in an attestation.
    pub fn encode(&self) -> Vec<u8> {
        let chain = self.chain.iter().map(|certificate| certificate.as_slice().into()).collect();
        map([(1, self.report.as_slice().into()), (2, Value::Array(chain))]).encode()
    }

    /// Takes the bytes in an attestation apart.
    ///
    /// # Errors
    /// `evidence-malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let read = || {
            let mut fields = Fields::decode(bytes)?;
            let report = fields.fixed::<REPORT_LEN>(1)?.to_vec();
            let chain = match <[Value; 3]>::try_from(fields.array(2)?) {
                Ok([Value::Bytes(vcek), Value::Bytes(ask), Value::Bytes(ark)]) => [vcek, ask, ark],
                _ => return Err(FieldError::Field { key: 2, expected: "[VCEK, ASK, ARK]" }),
            };
            fields.finish()?;
            Ok(Self { report, chain })
        };
        let evidence = read().map_err(|error| Refused::malformed(error.to_string()))?;
        // Fields that readers may skip have no place in evidence: nothing would cover them.
        if evidence.encode() == bytes {
            Ok(evidence)
        } else {
            Err(Refused::malformed("it has fields that this version does not know"))
        }
    }
}

/// Verifies evidence of this format.
///
/// # Errors
/// With the reason, of those in `spec/evidence-vm.md`.
pub fn verify(bytes: &[u8], bound: &Bound) -> Result<Proven, Refused> {
    verify_report(bytes, &report_data(bound.nonce), bound.at)
}

/// Verifies evidence whose report carries this data.
///
/// # Errors
/// As [`verify`].
pub fn verify_report(bytes: &[u8], report_data: &[u8; 64], at: UnixSeconds) -> Result<Proven, Refused> {
    let evidence = Evidence::decode(bytes)?;
    let chain = [
        Certificate::parse(&evidence.chain[0])?,
        Certificate::parse(&evidence.chain[1])?,
        Certificate::parse(&evidence.chain[2])?,
    ];
    let [vcek, _, ark] = &chain;
    let product = Product::of_root(Hash::of(ark.spki()))?;
    let profile = Profile {
        algorithms: &[Algorithm::RsaPssSha384],
        critical: &[],
        purpose: Purpose::Any,
        max_chain: 3,
        leaf_usage: 0,
    };
    verify_chain(&chain, &product.root, at, &profile)?;

    let mut proven = prove(vcek, &evidence.report, product, report_data)?;
    proven.expires = chain.iter().map(Certificate::not_after).min();
    Ok(proven)
}

/// What a report proves whose processor's certificate is verified.
fn prove(
    vcek: &Certificate,
    report: &[u8],
    product: &Product,
    report_data: &[u8; 64],
) -> Result<Proven, Refused> {
    let (digest, report) = (sha384(report.get(..SIGNED).unwrap_or_default()), Report::parse(report)?);
    vcek.key()
        .verify_ecdsa_raw(&digest, &report.signature)
        .map_err(|_| Refused::new("snp-signature", "the processor's key did not sign the report"))?;
    if report.data != *report_data {
        return Err(Refused::new("snp-report-data", "the report was made for another nonce"));
    }
    report.check_guest()?;
    let chip = check_processor(vcek, &report, product)?;

    let mut proven = Proven::new(Tier::SevSnp);
    let tcb = product.tcb(report.reported_tcb);
    proven.claim("processor", Voucher::Amd, product.name);
    proven.claim("launch-measurement", Voucher::Amd, hex::encode(report.measurement));
    proven.claim("host-data", Voucher::Amd, hex::encode(report.host_data));
    proven.claim(
        "guest-policy",
        Voucher::Amd,
        format!("{:016x}, debugging and migration off", report.policy),
    );
    proven.claim("privilege-level", Voucher::Amd, report.vmpl.to_string());
    proven.claim("firmware", Voucher::Amd, tcb);
    proven.claim("threads-share-cores", Voucher::Amd, yes(report.platform & SMT_ENABLED != 0));
    // Firmware that checks memory for aliases (BadRAM) says so; what says nothing may or may not be open to it.
    proven.claim("memory-alias-check", Voucher::Amd, yes(report.platform & ALIAS_CHECK != 0));
    proven.code = Some(Code::Launch(report.measurement.to_vec()));
    proven.device = Some(Hash::of_parts(&[b"glassbloom/device/v1\0sev-snp\0", chip]));
    Ok(proven)
}

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

/// A generation of processors, each with a root of its own.
#[derive(Debug, PartialEq, Eq)]
struct Product {
    name: &'static str,
    root: Root<'static>,
    /// Family in the report's processor identification, from version 3.
    family: u8,
    /// The parts of a TCB: the last arc of the certificate's extension, the name, and the place in the report's.
    layout: &'static [(u8, &'static str, usize)],
    /// Bytes of the processor's identifier; what follows in a report is zero.
    chip_len: usize,
}

impl Product {
    fn of_root(key: Hash) -> Result<&'static Self, Refused> {
        let is = |root: &Root| matches!(root, Root::Pinned { key: pinned, .. } if *pinned == key);
        PRODUCTS.iter().find(|product| is(&product.root)).ok_or_else(|| {
            let detail = format!("the root with key {key} is none of AMD's for Milan, Genoa and Turin");
            Refused::new("certificate-root", detail)
        })
    }

    /// The versions for people.
    fn tcb(&self, tcb: [u8; 8]) -> String {
        let parts = self.layout.iter().map(|(_, name, place)| format!("{name} {}", tcb[*place]));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// The parts of a report that something is decided by.
struct Report {
    version: u32,
    policy: u64,
    vmpl: u32,
    platform: u64,
    /// Which key signs, and whether the guest's owner signed its launch.
    key_info: u32,
    data: [u8; 64],
    measurement: [u8; 48],
    host_data: [u8; 32],
    reported_tcb: [u8; 8],
    family: u8,
    chip: [u8; 64],
    /// r || s, big-endian.
    signature: [u8; 96],
}

impl Report {
    fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let truncated = || Refused::malformed("the report is cut short");
        let report: &[u8; REPORT_LEN] = bytes.try_into().map_err(|_| truncated())?;
        let version = u32::from_le_bytes(array(report, 0));
        if !VERSIONS.contains(&version) {
            let detail = format!("the report is of version {version}: versions 2 to 5 are known");
            return Err(Refused::new("snp-version", detail));
        }
        let algorithm = u32::from_le_bytes(array(report, 0x34));
        if algorithm != ECDSA_P384_SHA384 {
            return Err(Refused::new(
                "snp-signature",
                "the report is not signed with ECDSA P-384 and SHA-384",
            ));
        }
        // Both numbers are little-endian in 72 bytes, and nothing follows them.
        let mut signature = [0; 96];
        for (half, start) in signature.chunks_exact_mut(48).zip([SIGNED, SIGNED + 72]) {
            half.copy_from_slice(&report[start..start + 48]);
            half.reverse();
        }
        let unused = [SIGNED + 48..SIGNED + 72, SIGNED + 120..REPORT_LEN];
        if unused.into_iter().any(|range| report[range].iter().any(|byte| *byte != 0)) {
            return Err(Refused::malformed("the report goes on after its signature"));
        }
        Ok(Self {
            version,
            policy: u64::from_le_bytes(array(report, 0x08)),
            vmpl: u32::from_le_bytes(array(report, 0x30)),
            platform: u64::from_le_bytes(array(report, 0x40)),
            key_info: u32::from_le_bytes(array(report, 0x48)),
            data: array(report, 0x50),
            measurement: array(report, 0x90),
            host_data: array(report, 0xc0),
            reported_tcb: array(report, 0x180),
            family: report[0x188],
            chip: array(report, 0x1a0),
            signature,
        })
    }

    /// What the guest is allowed and who asked for the report.
    fn check_guest(&self) -> Result<(), Refused> {
        if self.policy & POLICY_DEBUG != 0 {
            return Err(Refused::new(
                "snp-debug",
                "the policy lets the host read and change the guest's memory",
            ));
        }
        if self.policy & POLICY_MIGRATE != 0 {
            return Err(Refused::new(
                "snp-migration",
                "the policy lets an agent that is not measured take the guest away",
            ));
        }
        // The host asks with all ones.
        if self.vmpl > 3 {
            return Err(Refused::new("snp-privilege-level", "the report was not asked for by the guest"));
        }
        Ok(())
    }
}

/// Whether the certificate is of the processor and the firmware that the report names. Gives the processor's identifier.
fn check_processor<'a>(
    vcek: &Certificate<'a>,
    report: &Report,
    product: &Product,
) -> Result<&'a [u8], Refused> {
    // Bits 2 to 4: 0 stands for the processor's own key.
    if report.key_info & 0b1_1100 != 0 {
        return Err(Refused::new(
            "snp-signing-key",
            "the report is signed by another key than the processor's own",
        ));
    }
    let chip = vcek.extension(CHIP_ID).map(|extension| extension.value).unwrap_or_default();
    if chip.len() != product.chip_len {
        return Err(Refused::new("snp-signing-key", "the certificate is not of a processor's own key"));
    }
    // A platform may leave its identifier out of reports; the key still is that processor's.
    let masked = report.chip == [0; 64];
    let (named, rest) = report.chip.split_at(product.chip_len);
    if !masked && (named != chip || rest.iter().any(|byte| *byte != 0)) {
        return Err(Refused::new("snp-chip", "the report is of another processor than the certificate"));
    }
    if report.version >= 3 && report.family != product.family {
        return Err(Refused::new("snp-chip", "the report is of another generation than the certificate"));
    }
    let mut expected = [0; 8];
    for (arc, name, place) in product.layout {
        let oid = [TCB, &[*arc]].concat();
        expected[*place] = vcek
            .extension(&oid)
            .and_then(|extension| {
                let mut number = Der::new(extension.value);
                let value = number.small().ok()?;
                number.finish().ok()?;
                u8::try_from(value).ok()
            })
            .ok_or_else(|| {
                Refused::new("snp-firmware", format!("the certificate does not name the version of {name}"))
            })?;
    }
    if expected != report.reported_tcb {
        return Err(Refused::new("snp-firmware", "the report is of other firmware than the certificate"));
    }
    Ok(chip)
}

/// What a confidential virtual machine has signed for a nonce: the nonce, and zeros to the end.
pub(super) fn report_data(nonce: Hash) -> [u8; 64] {
    let mut data = [0; 64];
    data[..Hash::LEN].copy_from_slice(nonce.as_ref());
    data
}

fn array<const N: usize>(report: &[u8; REPORT_LEN], start: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&report[start..start + N]);
    out
}

const BEFORE_TURIN: &[(u8, &str, usize)] =
    &[(1, "boot loader", 0), (2, "TEE", 1), (3, "SNP", 6), (8, "microcode", 7)];
const SINCE_TURIN: &[(u8, &str, usize)] =
    &[(9, "FMC", 0), (1, "boot loader", 1), (2, "TEE", 2), (3, "SNP", 3), (8, "microcode", 7)];

/// Siena and Bergamo are certified under the root of Genoa.
const PRODUCTS: [Product; 3] = [
    Product { name: "Milan", root: anchor::AMD_ARK_MILAN, family: 0x19, layout: BEFORE_TURIN, chip_len: 64 },
    Product { name: "Genoa", root: anchor::AMD_ARK_GENOA, family: 0x19, layout: BEFORE_TURIN, chip_len: 64 },
    Product { name: "Turin", root: anchor::AMD_ARK_TURIN, family: 0x1a, layout: SINCE_TURIN, chip_len: 8 },
];

const VERSIONS: core::ops::RangeInclusive<u32> = 2..=5;
const ECDSA_P384_SHA384: u32 = 1;
/// Bytes of the report that are signed; the signature follows.
const SIGNED: usize = 0x2a0;
const POLICY_MIGRATE: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;
const SMT_ENABLED: u64 = 1;
const ALIAS_CHECK: u64 = 1 << 5;

/// 1.3.6.1.4.1.3704.1.3: versions of firmware
const TCB: &[u8] = b"\x2b\x06\x01\x04\x01\x9c\x78\x01\x03";
/// 1.3.6.1.4.1.3704.1.4: which processor
const CHIP_ID: &[u8] = b"\x2b\x06\x01\x04\x01\x9c\x78\x01\x04";

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair, SigningKey};

    use super::*;

    fn report(change: impl FnOnce(&mut [u8])) -> Report {
        let mut bytes = vec![0; REPORT_LEN];
        (bytes[0], bytes[0x34]) = (3, 1);
        change(&mut bytes);
        Report::parse(&bytes).unwrap()
    }

    fn guest(change: impl FnOnce(&mut [u8])) -> Result<(), &'static str> {
        report(change).check_guest().map_err(|refused| refused.reason)
    }

    #[test]
    fn guests_that_the_host_may_look_into_are_refused() {
        assert_eq!(guest(|_| ()), Ok(()));
        assert_eq!(guest(|report| report[0x0a] = 1 << 3), Err("snp-debug"));
        assert_eq!(guest(|report| report[0x0a] = 1 << 2), Err("snp-migration"));
        assert_eq!(guest(|report| report[0x30] = 3), Ok(()));
        assert_eq!(guest(|report| report[0x30..0x34].fill(0xff)), Err("snp-privilege-level"));
    }

    /// A certificate as AMD makes them, of a processor whose identifier is all ones.
    fn vcek(chip: usize, versions: &[(u64, u8)]) -> Vec<u8> {
        vcek_of(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(), chip, versions)
    }

    fn vcek_of(key: &KeyPair, chip: usize, versions: &[(u64, u8)]) -> Vec<u8> {
        let extension = |arcs: &[u64], value: Vec<u8>| {
            CustomExtension::from_oid_content(&[&[1, 3, 6, 1, 4, 1, 3704, 1], arcs].concat(), value)
        };
        let mut params = CertificateParams::default();
        params.custom_extensions = versions
            .iter()
            .map(|(arc, version)| extension(&[3, *arc], vec![2, 1, *version]))
            .chain([extension(&[4], vec![1; chip])])
            .collect();
        params.self_signed(key).unwrap().der().to_vec()
    }

    fn processor(
        vcek: &[u8],
        product: &Product,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<usize, &'static str> {
        let report = report(|bytes| {
            bytes[0x188] = product.family;
            bytes[0x1a0..0x1a0 + product.chip_len].fill(1);
            for (_, _, place) in product.layout {
                bytes[0x180 + place] = *place as u8;
            }
            change(bytes);
        });
        check_processor(&Certificate::parse(vcek).unwrap(), &report, product)
            .map(<[u8]>::len)
            .map_err(|refused| refused.reason)
    }

    #[test]
    fn processor_and_firmware_are_those_of_the_certificate() {
        let [milan, _, turin] = &PRODUCTS;
        let versions = [(1, 0), (2, 1), (3, 6), (8, 7)];
        let certificate = vcek(64, &versions);
        assert_eq!(processor(&certificate, milan, |_| ()), Ok(64));
        // A platform that leaves its identifier out.
        assert_eq!(processor(&certificate, milan, |report| report[0x1a0..0x1e0].fill(0)), Ok(64));
        assert_eq!(processor(&certificate, milan, |report| report[0x1a0] = 2), Err("snp-chip"));
        assert_eq!(processor(&certificate, milan, |report| report[0x188] = 0x1a), Err("snp-chip"));
        assert_eq!(processor(&certificate, milan, |report| report[0x186] = 5), Err("snp-firmware"));
        assert_eq!(processor(&certificate, milan, |report| report[0x183] = 1), Err("snp-firmware"));
        assert_eq!(processor(&certificate, milan, |report| report[0x48] = 4), Err("snp-signing-key"));
        assert_eq!(processor(&vcek(64, &versions[..3]), milan, |_| ()), Err("snp-firmware"));
        assert_eq!(processor(&vcek(8, &versions), milan, |_| ()), Err("snp-signing-key"));

        let certificate = vcek(8, &[(9, 0), (1, 1), (2, 2), (3, 3), (8, 7)]);
        assert_eq!(processor(&certificate, turin, |_| ()), Ok(8));
        assert_eq!(processor(&certificate, turin, |report| report[0x1a8] = 1), Err("snp-chip"));
        assert_eq!(processor(&certificate, turin, |report| report[0x180] = 1), Err("snp-firmware"));
    }

    // From the signature to the claims, with a processor of our own making below the chain that AMD has to sign.
    #[test]
    fn every_rule_decides_about_a_signed_report() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate = vcek_of(&key, 64, &[(1, 0), (2, 1), (3, 6), (8, 7)]);
        let vcek = Certificate::parse(&certificate).unwrap();
        let data = report_data(Hash::of(b"nonce"));
        let reason = |change: &dyn Fn(&mut [u8])| {
            let mut report = vec![0; REPORT_LEN];
            (report[0], report[0x34], report[0x188]) = (3, 1, 0x19);
            report[0x50..0x90].copy_from_slice(&data);
            report[0x1a0..0x1e0].fill(1);
            report[0x180..0x188].copy_from_slice(&[0, 1, 0, 0, 0, 0, 6, 7]);
            change(&mut report);
            let signature = key.sign(&report[..SIGNED]).unwrap();
            let mut pair = Der::new(&signature).sequence().unwrap();
            for start in [SIGNED, SIGNED + 72] {
                for (place, byte) in pair.unsigned().unwrap().iter().rev().enumerate() {
                    report[start + place] = *byte;
                }
            }
            prove(&vcek, &report, &PRODUCTS[0], &data).map(|_| ()).map_err(|refused| refused.reason)
        };
        assert_eq!(reason(&|_| ()), Ok(()));
        assert_eq!(reason(&|report| report[0x8f] = 1), Err("snp-report-data"));
        assert_eq!(reason(&|report| report[0x0a] = 1 << 3), Err("snp-debug"));
        assert_eq!(reason(&|report| report[0x0a] = 1 << 2), Err("snp-migration"));
        assert_eq!(reason(&|report| report[0x30] = 4), Err("snp-privilege-level"));
        assert_eq!(reason(&|report| report[0x48] = 4), Err("snp-signing-key"));
        assert_eq!(reason(&|report| report[0x1a0] = 2), Err("snp-chip"));
        assert_eq!(reason(&|report| report[0x180] = 9), Err("snp-firmware"));
        assert_eq!(reason(&|report| report[0x34] = 2), Err("snp-signature"));
        assert_eq!(reason(&|report| report[0] = 6), Err("snp-version"));
    }

    #[test]
    fn a_report_ends_with_its_signature() {
        for at in [SIGNED + 48, SIGNED + 71, SIGNED + 120, REPORT_LEN - 1] {
            let mut bytes = vec![0; REPORT_LEN];
            (bytes[0], bytes[0x34], bytes[at]) = (2, 1, 1);
            assert_eq!(Report::parse(&bytes).err().unwrap().reason, "evidence-malformed");
        }
    }
}
