//! Evidence of a TPM that verifies is the one that was made, and its structures have one reading.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::machines::evidence_tpm(data);
});
