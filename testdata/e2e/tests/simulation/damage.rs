//! What happens to a disk while no process runs: bits flip, and operators restore what they must not.

use std::{sync::Arc, sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use glassbloom_log::{
    Error,
    fsck::{Source, check},
    store::{BatchName, StoredHead},
};
use glassbloom_spec::{
    checkpoint::TreeHead,
    id::TreeSize,
    note::SignedNote,
    tile::{TileLevel, TilePath, tiles_for_size},
};
use tokio::time::{sleep, timeout};

use crate::{
    disk::{Contents, Stores},
    schedule::live,
    witness::Mood,
    world::{ORIGIN, PATIENCE, World, entry},
};

/// The object of which a bit flips.
#[derive(Clone, Copy, Debug)]
enum Place {
    Tile(TilePath),
    Staged(BatchName),
    Head,
    Checkpoint,
}

pub(crate) fn head_of(note: &[u8]) -> TreeHead {
    TreeHead::parse(&SignedNote::parse(note).unwrap().text).unwrap()
}

/// The size of the tree by the head on the disk.
fn size(world: &World) -> TreeSize {
    world.disk.contents().head.as_ref().map_or(TreeSize::new(0), |head| head_of(&head.note).size)
}

/// Damages the disk, checks what a process then does, and repairs it. `true` when nothing more can be said about this
/// world afterwards.
pub(crate) fn happens(world: &Arc<World>, snapshots: &[Contents], next: &mut u64) -> bool {
    world.shared.store(false, SeqCst);
    for witness in &world.network.witnesses {
        witness.mood(Mood::Honest);
    }
    let kind = world.sim.rng().below(100);
    match kind {
        0..70 => {
            bit_flip(world, next);
            false
        }
        70..85 => older_head(world, next),
        _ => older_disk(world, snapshots, next),
    }
}

fn bit_flip(world: &Arc<World>, next: &mut u64) {
    let sim = &world.sim;
    let Some(place) = choose(world) else { return };
    let mut original = None;
    let flipped = change(&mut world.disk.contents(), place, |bytes| {
        original = Some(bytes.clone());
        let mut changed = bytes.to_vec();
        let bit = sim.rng().below(changed.len() as u64 * 8);
        changed[(bit / 8) as usize] ^= 1 << (bit % 8);
        changed.into()
    });
    let (Some(flipped), Some(original)) = (flipped, original) else { return };
    sim.note(|| format!("a bit flips in {place:?}"));
    let head = world.disk.contents().head.clone();
    let needed = match place {
        Place::Tile(path) => tile_is_needed(world, path),
        Place::Head => true,
        _ => false,
    };
    let read_again = matches!(place, Place::Tile(path) if path.is_full() && in_tree(path, size(world)));
    if let Place::Tile(path) = place {
        live(fsck_finds(world, path));
    }
    live(async {
        match world.open().await {
            Err(error) => sim.note(|| format!("refuses: {error}")),
            Ok(log) => {
                if needed {
                    sim.violation(format!("opened over a flipped bit in {place:?} of {head:?}"));
                }
                // What is acknowledged now counts as always.
                let mut noticed = false;
                for _ in 0..3 {
                    *next += 1;
                    match timeout(PATIENCE, log.add(entry(*next))).await {
                        Ok(Ok(index)) => world.acknowledge(*next, index.get()),
                        Ok(Err(Error::Halted | Error::Alarm { .. })) => noticed = true,
                        other => sim.violation(format!("add over a flipped bit: {other:?}")),
                    }
                    sleep(Duration::from_secs(1)).await;
                }
                // The log reads itself again: it must not go on for long over what is needed and wrong.
                sleep(Duration::from_secs(5)).await;
                noticed |= matches!(log.add(entry(*next)).await, Err(Error::Halted | Error::Alarm { .. }));
                if read_again && !noticed {
                    sim.violation(format!("a flipped bit in {place:?} is not noticed"));
                }
                if let Err(error) = log.stop().await {
                    sim.note(|| format!("stopped: {error}"));
                }
            }
        }
    });
    world.disk.crash();
    // The operator brings the object back from a mirror.
    world.clear_evidence();
    change(&mut world.disk.contents(), place, |bytes| {
        if *bytes == flipped { original.clone() } else { bytes.clone() }
    });
}

fn choose(world: &World) -> Option<Place> {
    let contents = world.disk.contents();
    let mut rng = world.sim.rng();
    let tiles: Vec<_> = contents.tiles.keys().copied().collect();
    let staged: Vec<_> = contents.staged.keys().copied().collect();
    Some(match rng.below(10) {
        0..6 if !tiles.is_empty() => Place::Tile(*rng.pick(&tiles)),
        6..8 if !staged.is_empty() => Place::Staged(*rng.pick(&staged)),
        8 => Place::Head,
        9 if contents.checkpoint.is_some() => Place::Checkpoint,
        _ => return None,
    })
}

/// Replaces an object's bytes; the new ones, or `None` when it is not there.
fn change(contents: &mut Contents, place: Place, to: impl FnOnce(&Bytes) -> Bytes) -> Option<Bytes> {
    match place {
        Place::Tile(path) => {
            let bytes = contents.tiles.get_mut(&path)?;
            *bytes = to(bytes);
            Some(bytes.clone())
        }
        Place::Staged(name) => {
            let bytes = contents.staged.get_mut(&name)?;
            *bytes = to(bytes);
            Some(bytes.clone())
        }
        Place::Head => {
            let head = contents.head.as_mut()?;
            let bytes = to(&Bytes::copy_from_slice(&head.note));
            head.note = bytes.to_vec();
            Some(bytes)
        }
        Place::Checkpoint => {
            let bytes = contents.checkpoint.as_mut()?;
            *bytes = to(bytes);
            Some(bytes.clone())
        }
    }
}

/// Whether a log must not start without this object being right: the last bundle and the hashes beside it.
fn tile_is_needed(world: &World, path: TilePath) -> bool {
    let size = size(world);
    let Some(last) = size.get().checked_sub(1) else { return false };
    [TilePath::entries(last / 256, size), TilePath::hashes(0, last / 256, size)].contains(&Some(path))
}

/// Whether the object is one of a tree of this size.
fn in_tree(path: TilePath, size: TreeSize) -> bool {
    match path.level() {
        TileLevel::Entries => TilePath::entries(path.index(), size) == Some(path),
        TileLevel::Hashes(_) => tiles_for_size(size).any(|tile| tile == path),
    }
}

/// Whoever checks the published tree finds the object, when that tree needs it.
async fn fsck_finds(world: &World, path: TilePath) {
    let Some(note) = world.disk.contents().checkpoint.clone() else { return };
    let needed = in_tree(path, head_of(&note).size);
    let source = Source::Store(Arc::new(Stores(Arc::clone(&world.disk))));
    world.disk.at_rest.store(true, SeqCst);
    let checked = check(&source, &world.policy, ORIGIN, |_, _| ()).await;
    world.disk.at_rest.store(false, SeqCst);
    match checked {
        Ok(report) if needed && report.findings.is_empty() => {
            world.sim.violation(format!("fsck does not see the flipped bit in {path}"));
        }
        Ok(_) => {}
        Err(error) => world.sim.violation(format!("fsck: {error}")),
    }
}

/// The head database is restored from a backup.
fn older_head(world: &Arc<World>, next: &mut u64) -> bool {
    let sim = &world.sim;
    let older: StoredHead = {
        let swapped = world.disk.swapped();
        sim.rng().pick(&swapped).clone()
    };
    let Some(newest) = world.disk.contents().head.replace(older.clone()) else { return false };
    let (old, new) = (head_of(&older.note), head_of(&newest.note));
    sim.note(|| format!("the head is restored: {} instead of {}", old.size, new.size));
    let published = world.disk.contents().checkpoint.as_ref().map_or(0, |note| head_of(note).size.get());
    let lost = old.size < new.size;
    world.restored.store(lost, SeqCst);
    let opened = live(async {
        match world.open().await {
            Err(error) => {
                sim.note(|| format!("refuses: {error}"));
                false
            }
            Ok(log) => {
                if published > old.size.get() {
                    sim.violation(format!("opened at {} although {published} is published", old.size));
                }
                branch(world, &log, next).await;
                log.stop().await.ok();
                true
            }
        }
    });
    if !opened {
        // The operator brings the newest head back.
        world.disk.contents().head = Some(newest);
        world.restored.store(false, SeqCst);
    }
    opened && lost
}

/// Everything is restored from a backup: only the witnesses know better.
fn older_disk(world: &Arc<World>, snapshots: &[Contents], next: &mut u64) -> bool {
    let sim = &world.sim;
    if world.quorum == 0 {
        return false;
    }
    let snapshot = sim.rng().pick(snapshots).clone();
    let Some(head) = snapshot.head.as_ref().map(|head| head_of(&head.note)) else { return false };
    // Of what is published: the tiles of later entries may not be written yet.
    let published = world.disk.contents().checkpoint.as_ref().map_or(TreeSize::new(0), |n| head_of(n).size);
    let truth = world.entries(published);
    let before = world.history().published.len();
    let known = world.network.witnesses.iter().filter_map(|witness| witness.seen());
    let known = known.max_by_key(|head| head.size).filter(|known| known.size > head.size);
    sim.note(|| format!("all is restored, at size {}; witnesses know {known:?}", head.size));
    *world.disk.contents() = snapshot;
    world.restored.store(true, SeqCst);
    world.network.may_refuse.store(true, SeqCst);
    live(async {
        let log = match world.open().await {
            Ok(log) => log,
            Err(error) => return sim.violation(format!("a consistent backup does not open: {error}")),
        };
        branch(world, &log, next).await;
        let alarm = matches!(log.add(entry(*next + 1)).await, Err(Error::Alarm { .. }));
        if alarm != known.is_some() || (world.evidence() > 0) != known.is_some() {
            sim.violation(format!("witnesses know {known:?} and the alarm is raised: {alarm}"));
        }
        log.stop().await.ok();
        if alarm && !matches!(world.open().await.unwrap().add(entry(0)).await, Err(Error::Alarm { .. })) {
            sim.violation("the alarm did not outlive the process");
        }
    });
    // Two majorities share an honest witness: what was published before and after is on one chain.
    let history = world.history();
    let (older, newer) = history.published.split_at(before);
    let truth = World::roots(&truth);
    let branch = World::roots(&world.entries(size(world)));
    for new in newer {
        for old in older {
            let on = if old.size <= new.size { (&branch, old) } else { (&truth, new) };
            if on.0.get(on.1.size.get() as usize) != Some(&on.1.root) {
                sim.violation(format!("published {} and {} after a restore", old.size, new.size));
            }
        }
    }
    true
}

/// Adds to a log that may be on a branch of its own, for as long as it takes to be noticed.
async fn branch(world: &World, log: &glassbloom_log::Log, next: &mut u64) {
    for _ in 0..20 {
        *next += 1;
        match timeout(PATIENCE, log.add(entry(*next))).await {
            Ok(Ok(index)) => world.acknowledge(*next, index.get()),
            Ok(Err(Error::Alarm { .. } | Error::Halted)) => return,
            other => world.sim.violation(format!("add to a restored log: {other:?}")),
        }
        sleep(Duration::from_millis(200)).await;
    }
}
