//! Paths of tiles have one spelling.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    glassbloom_fuzz::tlog::tile_path(data);
});
