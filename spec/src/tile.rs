//! Tiles and entry bundles of a log, and the paths they are served under. `[c2sp.org/tlog-tiles]`

use core::{fmt, str::FromStr};
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    hash::Hash,
    id::{TreeSize, parse_decimal},
    merkle::{NodeId, Nodes},
};

/// Hashes in a full tile, and entries in a full bundle.
pub const FULL_WIDTH: u16 = 256;

/// The longest entry a bundle can carry, in bytes.
pub const MAX_ENTRY: usize = 65_535;

/// A tile, bundle or path that breaks the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The entry does not fit a bundle.
    #[error("entry of {0} bytes: at most {MAX_ENTRY} fit a log entry")]
    EntryTooLong(usize),
    /// The bytes are not exactly the number of hashes that the path says, or the path is that of an entry bundle.
    #[error("{path}: the content is not exactly {width} hashes", width = path.width())]
    WrongContent {
        /// The tile.
        path: TilePath,
    },
    /// The text is not a tile path in canonical form.
    #[error("{0:?} is not a tile path such as tile/0/x001/067.p/12 or tile/entries/000")]
    WrongPath(String),
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileLevel {
    /// Tree hashes of perfect subtrees with `256^level` leaves, `level` 0 to 63.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// Names one tile or entry bundle, full or partial.
///
/// Its text is the path below the log's prefix: `tile/0/x001/067.p/12`, `tile/entries/000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    level: TileLevel,
    index: u64,
    width: u16,
}

impl TilePath {
    /// Names a tile; `None` unless the level is at most 63, the width 1 to 256, and the tile can exist in a tree of
    /// fewer than 2^64 entries.
    pub fn new(level: TileLevel, index: u64, width: u16) -> Option<Self> {
        let level_fits = !matches!(level, TileLevel::Hashes(64..));
        let fits = level_fits && index < 1 << 56 && (1..=FULL_WIDTH).contains(&width);
        fits.then_some(Self { level, index, width })
    }

    /// The tile of hashes as it is in a tree of this size; `None` when it has no hashes yet.
    pub fn hashes(level: u8, index: u64, size: TreeSize) -> Option<Self> {
        let rows = size.get().checked_shr(8 * u32::from(level)).unwrap_or(0);
        Self::new(TileLevel::Hashes(level), index, width_at(index, rows))
    }

    /// The entry bundle as it is in a tree of this size; `None` when it has no entries yet.
    pub fn entries(index: u64, size: TreeSize) -> Option<Self> {
        Self::new(TileLevel::Entries, index, width_at(index, size.get()))
    }

    /// What it holds.
    pub const fn level(self) -> TileLevel {
        self.level
    }

    /// Its position in its level.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// The number of hashes or entries in it, 1 to 256.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it will never grow.
    pub const fn is_full(self) -> bool {
        self.width == FULL_WIDTH
    }

    /// The full tile at the same place, which a log may serve in place of a partial one.
    #[must_use]
    pub const fn to_full(self) -> Self {
        Self { width: FULL_WIDTH, ..self }
    }
}

fn width_at(index: u64, rows: u64) -> u16 {
    let begin = index.checked_mul(u64::from(FULL_WIDTH));
    begin.map_or(0, |begin| rows.saturating_sub(begin).min(u64::from(FULL_WIDTH)) as u16)
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            TileLevel::Hashes(level) => write!(f, "tile/{level}/")?,
            TileLevel::Entries => f.write_str("tile/entries/")?,
        }
        let groups = core::iter::successors(Some(self.index), |rest| (*rest >= 1000).then_some(rest / 1000));
        let groups: Vec<u64> = groups.map(|rest| rest % 1000).collect();
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    fn from_str(text: &str) -> Result<Self, TileError> {
        // Written back and compared, so that every path has one spelling.
        let path = parse_path(text).filter(|path| path.to_string() == text);
        path.ok_or_else(|| TileError::WrongPath(text.to_owned()))
    }
}

fn parse_path(text: &str) -> Option<TilePath> {
    let (level, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let level = match level {
        "entries" => TileLevel::Entries,
        level => TileLevel::Hashes(u8::try_from(parse_decimal(level).ok()?).ok()?),
    };
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, u16::try_from(parse_decimal(width).ok()?).ok()?),
        None => (rest, FULL_WIDTH),
    };
    let mut index = 0_u64;
    for group in number.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    TilePath::new(level, index, width)
}

/// Every tile and bundle of a tree of this size: the full ones, and the partial one at each right edge.
pub fn tiles_for_size(size: TreeSize) -> impl Iterator<Item = TilePath> {
    tiles_between(TreeSize::new(0), size)
}

/// The tiles and bundles of a tree of size `new` that differ from those of size `old`: what to write, or to fetch,
/// to get from one to the other. Lowest level first; bundles come before hashes.
pub fn tiles_between(old: TreeSize, new: TreeSize) -> impl Iterator<Item = TilePath> {
    let entries = grown(old.get(), new.get()).filter_map(move |index| TilePath::entries(index, new));
    let hashes = (0..8_u8).flat_map(move |level| {
        let shift = 8 * u32::from(level);
        grown(old.get() >> shift, new.get() >> shift)
            .filter_map(move |index| TilePath::hashes(level, index, new))
    });
    entries.chain(hashes)
}

/// The indexes of tiles that gain rows.
fn grown(old_rows: u64, new_rows: u64) -> core::ops::Range<u64> {
    let full = u64::from(FULL_WIDTH);
    if old_rows >= new_rows { 0..0 } else { old_rows / full..new_rows.div_ceil(full) }
}

/// Joins entries into a bundle: each is preceded by its length in two bytes, big-endian.
///
/// # Errors
/// When an entry is longer than [`MAX_ENTRY`].
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().len() + 2).sum());
    for entry in entries.iter().map(AsRef::as_ref) {
        let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Splits a bundle; `None` unless it is exactly `width` entries.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Option<Vec<&[u8]>> {
    let (mut rest, mut entries) = (bytes, Vec::new());
    for _ in 0..width {
        let (length, tail) = rest.split_first_chunk()?;
        let (entry, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        rest = tail;
    }
    rest.is_empty().then_some(entries)
}

/// Tiles of hashes at hand, as a source of tree nodes.
///
/// Nothing here is checked against a root: do that with the proof built from it.
#[derive(Clone, Debug, Default)]
pub struct TileSet(BTreeMap<TilePath, Vec<Hash>>);

impl TileSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds the content of a tile of hashes.
    ///
    /// # Errors
    /// When the path is that of an entry bundle, or the bytes are not exactly its width in hashes.
    pub fn insert(&mut self, path: TilePath, bytes: &[u8]) -> Result<(), TileError> {
        let wrong = || TileError::WrongContent { path };
        let (hashes, []) = bytes.as_chunks::<{ Hash::LEN }>() else { return Err(wrong()) };
        if path.level == TileLevel::Entries || hashes.len() != usize::from(path.width) {
            return Err(wrong());
        }
        self.0.insert(path, hashes.iter().copied().map(Hash::from_bytes).collect());
        Ok(())
    }

    /// The content of a tile, when it is at hand in exactly this width.
    pub fn get(&self, path: TilePath) -> Option<&[Hash]> {
        self.0.get(&path).map(Vec::as_slice)
    }

    /// The tiles, as they are in a tree of this size, that hold these nodes; sorted, each once.
    pub fn needed(nodes: &[NodeId], size: TreeSize) -> Vec<TilePath> {
        let tile = |node: &NodeId| {
            let (level, index, _) = place(*node);
            TilePath::hashes(level, index, size)
        };
        nodes.iter().filter_map(tile).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Nodes for TileSet {
    fn node(&self, id: NodeId) -> Option<Hash> {
        let (level, index, rows) = place(id);
        let at = |width| TilePath { level: TileLevel::Hashes(level), index, width };
        // The widest at this place: hashes never change, a wider tile only has more of them.
        let (_, hashes) = self.0.range(at(1)..=at(FULL_WIDTH)).next_back()?;
        let mut row = hashes.get(rows)?.to_vec();
        while row.len() > 1 {
            row = row.chunks(2).map(|pair| Hash::node(&pair[0], &pair[1])).collect();
        }
        row.pop()
    }
}

/// Where a node lies: tile level, tile index, and the rows of the tile under it (a power of two of them).
fn place(node: NodeId) -> (u8, u64, core::ops::Range<usize>) {
    let (level, height) = (node.level / 8, node.level % 8);
    let first = u128::from(node.index) << height;
    let full = u128::from(FULL_WIDTH);
    let offset = (first % full) as usize;
    (level, u64::try_from(first / full).unwrap_or(u64::MAX), offset..offset + (1 << height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |level, index, width| TilePath::new(level, index, width).unwrap().to_string();
        assert_eq!(path(TileLevel::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(TileLevel::Hashes(1), 0, 1), "tile/1/000.p/1");
        assert_eq!(path(TileLevel::Entries, 1000, 112), "tile/entries/x001/000.p/112");
        assert_eq!(path(TileLevel::Hashes(63), 5, 256), "tile/63/005");
        for text in ["tile/0/x001/x234/067", "tile/1/000.p/1", "tile/entries/x001/000.p/112", "tile/63/005"] {
            assert_eq!(text.parse::<TilePath>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_spellings_of_a_path_are_refused() {
        for text in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/x001/0000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000/",
            "/tile/0/000",
            "tile/data/000",
            "tile/0/000.p/1/2",
            "tile/0/００0",
            "tile/8/0/x001/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000.p/1.p/1",
            "tile/0/000 ",
            "tile/entries/000\n",
        ] {
            assert!(text.parse::<TilePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn widths_follow_the_size() {
        let of = |size| {
            let all: Vec<TilePath> = tiles_for_size(TreeSize::new(size)).collect();
            let partial = all.iter().filter(|p| !p.is_full()).map(ToString::to_string).collect::<Vec<_>>();
            (all.len(), partial)
        };
        // 273 full tiles, one partial, for entries and for hashes; then 1 full and p/17; then p/1.
        let (count, partial) = of(70_000);
        assert_eq!(count, 274 * 2 + 2 + 1);
        assert_eq!(
            partial,
            ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
        );
        assert_eq!(of(256), (3, vec!["tile/1/000.p/1".to_owned()]));
        assert_eq!(of(0), (0, vec![]));
        assert_eq!(TilePath::hashes(0, 1, TreeSize::new(256)), None);
        assert!(tiles_for_size(TreeSize::new(u64::MAX)).next().is_some());
    }

    #[test]
    fn only_tiles_that_grew_lie_between_two_sizes() {
        let between = |old, new| {
            let tiles = tiles_between(TreeSize::new(old), TreeSize::new(new));
            tiles.map(|p| p.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(between(5, 7), ["tile/entries/000.p/7", "tile/0/000.p/7"]);
        assert_eq!(between(255, 256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(between(256, 257), ["tile/entries/001.p/1", "tile/0/001.p/1"]);
        assert!(between(7, 7).is_empty() && between(7, 5).is_empty());
    }

    #[test]
    fn a_bundle_is_exact() {
        let bundle = encode_bundle(&[b"one".as_slice(), b"", b"three"]).unwrap();
        assert_eq!(bundle, b"\0\x03one\0\0\0\x05three");
        assert_eq!(decode_bundle(&bundle, 3).unwrap(), [b"one".as_slice(), b"", b"three"]);
        assert_eq!((decode_bundle(&bundle, 2), decode_bundle(&bundle, 4)), (None, None));
        assert_eq!(decode_bundle(&bundle[..bundle.len() - 1], 3), None);
        assert_eq!(encode_bundle(&[vec![0; MAX_ENTRY + 1]]), Err(TileError::EntryTooLong(MAX_ENTRY + 1)));
        assert!(encode_bundle(&[vec![0; MAX_ENTRY]]).is_ok());
    }

    #[test]
    fn a_tile_of_another_length_is_refused() {
        let mut tiles = TileSet::new();
        let path: TilePath = "tile/0/000.p/2".parse().unwrap();
        tiles.insert(path, &[0; 64]).unwrap();
        for length in [0, 32, 63, 65, 96] {
            tiles.insert(path, &vec![0; length]).unwrap_err();
        }
        tiles.insert("tile/entries/000.p/2".parse().unwrap(), &[0; 64]).unwrap_err();
    }
}
