//! What is sent to a witness has one spelling, and asks for nothing that is outside its checkpoint.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::witness_request(data);
});
