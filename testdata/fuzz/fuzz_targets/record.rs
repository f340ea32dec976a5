//! A record that satisfies the policy says only what the registry has.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::statements::record(data);
});
