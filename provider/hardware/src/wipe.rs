//! An allocator that wipes memory when it is given back, so that no prompt stays behind in what was freed.
//!
//! Buffers are copied and grow in libraries that know nothing of secrets: parsers, tokenizers, channels. Wiping here covers
//! all of them, for the price of writing freed memory once. It does not cover what C++ code allocates, such as MLX's
//! tensors, which hold numbers of tokens and no text, nor the stack, nor registers.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    ptr,
};

/// The system's allocator, wiping. Install it with `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiping;

// `realloc` stays the trait's own: it allocates anew, copies, and gives the old place back through `dealloc`, so that what
// is left behind by a buffer that grows is wiped, too.
#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to be one; everything is left to the system's but the wiping"
)]
// SAFETY: every call goes to the system's allocator with the layout that came in.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a block of this size that nobody uses any more.
        unsafe { ptr::write_bytes(place, 0, layout.size()) };
        // Else the compiler sees that nobody reads the zeros, and leaves them out.
        let place = black_box(place);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}
