//! Whatever a client seals, the provider reads a chat request for its own attestation or refuses.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::inner_request(data);
});
