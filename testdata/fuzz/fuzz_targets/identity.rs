//! An attestation has one provider for ever, and a chain goes on only on its own key's word.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::identity::identity(data);
});
