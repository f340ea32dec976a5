//! Entries that no compression and no deduplication can shorten.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an entry in every row.
pub const ENTRY: usize = 1024;

/// A source of unique entries, shared by all clients.
#[derive(Debug)]
pub struct Entries {
    next: AtomicU64,
    seed: u64,
}

impl Entries {
    /// Entries that another seed does not repeat.
    pub const fn new(seed: u64) -> Self {
        Self { next: AtomicU64::new(0), seed }
    }

    /// Writes the next entry.
    pub fn fill(&self, entry: &mut [u8; ENTRY]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // The sequence of each entry begins at a point of its own; the number itself rules out the rare overlap.
        let mut state = mix(self.seed ^ mix(number));
        for word in entry.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&mix(state).to_le_bytes());
        }
        entry[..8].copy_from_slice(&self.seed.to_le_bytes());
        entry[8..16].copy_from_slice(&number.to_le_bytes());
    }

    /// The next entry.
    pub fn next(&self) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        self.fill(&mut entry);
        entry
    }
}

/// The output function of SplitMix64: passes tests of randomness and costs a nanosecond.
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn entries_are_unique_and_look_random() {
        let (one, other) = (Entries::new(1), Entries::new(2));
        let all: HashSet<[u8; ENTRY]> = (0..500).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(all.len(), 1000);
        let mut counts = [0_u32; 256];
        all.iter().flatten().for_each(|byte| counts[usize::from(*byte)] += 1);
        // The counters at the beginning are mostly zeros: 16 of 1024 bytes.
        let even = 1000 * 1008 / 256;
        assert!(
            counts[1..].iter().all(|count| (even * 9 / 10..even * 13 / 10).contains(count)),
            "{counts:?}"
        );
    }
}
