//! Even the holder of the sealing key cannot end an answer well without the receipt that was signed for it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::sealing::inner_answer(data);
});
