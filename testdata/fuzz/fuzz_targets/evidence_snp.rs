//! Evidence of SEV-SNP has one spelling, and none leads to AMD.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::machines::evidence_snp(data);
});
