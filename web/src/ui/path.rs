//! The way from an entry to the root, drawn.
//!
//! A ladder: the entry at the foot, the root at the top; at every rung the hash that the proof gives stands on its
//! side of the tree. So it stays readable for a tree of any size, on a phone too.

use glassbloom_spec::hash::Hash;
use leptos::prelude::*;

use super::text::HashText;
use crate::{
    check::{State, state_name},
    data::entry::{Entry, PathNode},
    describe::{plural, short},
    time::grouped,
};

const WIDTH: usize = 380;
const RUNG: usize = 78;
const TOP: usize = 40;
const SPINE: usize = WIDTH / 2;
const REACH: usize = 118;

/// The drawing, and the same as a list for those who hear the page or want the hashes.
#[component]
pub fn InclusionPath(
    /// The entry.
    entry: Entry,
) -> impl IntoView {
    let svg = drawing(&entry);
    let rungs = entry.path.iter().rev().map(|node| {
        let side = if node.is_left { "left" } else { "right" };
        view! { <li><span>{format!("{} on the {side}: ", covers(node))}</span><HashText text=node.sibling.to_string()/></li> }
    });
    let hashes = plural(entry.path.len(), "hash");
    let (state, words) = match (entry.path.len(), leads_to_root(&entry)) {
        (0, true) => (State::Verified, "The log has this one entry, so its hash is the root.".to_owned()),
        (_, true) => (
            State::Verified,
            format!(
                "With {hashes} from a tree of {} entries your browser computed the root from this entry: it is the signed one.",
                grouped(entry.size.get())
            ),
        ),
        (0, false) => {
            (State::NotVerifiable, "The hashes between this entry and the root could not be read.".to_owned())
        }
        (_, false) => (
            State::Failed,
            format!(
                "From this entry and {hashes} your browser computed another root than the signed one, {}: the entry or its path was changed.",
                short(&entry.root)
            ),
        ),
    };
    view! {
        <figure class="path" data-testid="inclusion-path" data-state=state_name(state)>
            <div inner_html=svg></div>
            <figcaption>{words}</figcaption>
        </figure>
        {(!entry.path.is_empty()).then(|| view! {
            <details class="fold">
                <summary>"The hashes, from the root down"</summary>
                <ol class="plain">{rungs.collect_view()}</ol>
            </details>
        })}
    }
}

/// The root that the path leads to, computed here.
fn computed_root(entry: &Entry) -> Hash {
    entry.path.last().map_or(entry.leaf, |node| node.parent)
}

fn leads_to_root(entry: &Entry) -> bool {
    computed_root(entry) == entry.root
}

/// The entries that a sibling stands for.
fn covers(node: &PathNode) -> String {
    let (first, end) = node.range;
    match end - first {
        1 => format!("entry {}", grouped(first)),
        _ => format!("entries {}–{}", grouped(first), grouped(end - 1)),
    }
}

fn drawing(entry: &Entry) -> String {
    let height = TOP + RUNG * entry.path.len() + 62;
    let foot = TOP + RUNG * entry.path.len();
    let mut svg = format!(
        r#"<svg class="tree" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="Inclusion path of {} steps from the root to entry {}">"#,
        entry.path.len(),
        entry.index
    );
    svg += &format!(r#"<path class="spine" d="M{SPINE} {TOP}V{foot}"/>"#);
    for (rung, node) in entry.path.iter().rev().enumerate() {
        svg += &rung_svg(node, TOP + RUNG * rung);
    }
    let (root, name) = (computed_root(entry), if leads_to_root(entry) { "root" } else { "not the root:" });
    svg += &format!(
        r#"<g class="node root"><title>{name} {root}</title><circle cx="{SPINE}" cy="{TOP}" r="7"/><text x="{SPINE}" y="{}" text-anchor="middle">{name} {}</text></g>"#,
        TOP - 16,
        short(&root)
    );
    svg += &format!(
        r#"<g class="node leaf"><title>leaf {}</title><rect x="{}" y="{}" width="14" height="14" rx="3"/><text x="{SPINE}" y="{}" text-anchor="middle">entry {}</text><text class="hex" x="{SPINE}" y="{}" text-anchor="middle">{}</text></g></svg>"#,
        entry.leaf,
        SPINE - 7,
        foot - 7,
        foot + 28,
        grouped(entry.index.get()),
        foot + 46,
        short(&entry.leaf)
    );
    svg
}

/// One fork: the node on the path, and its sibling's subtree on its side.
fn rung_svg(node: &PathNode, y: usize) -> String {
    let below = y + RUNG;
    let (x, bend) =
        if node.is_left { (SPINE - REACH, SPINE - REACH / 3) } else { (SPINE + REACH, SPINE + REACH / 3) };
    let top = y + 25;
    // A subtree is a small triangle, a single entry a square.
    let shape = if node.range.1 - node.range.0 == 1 {
        format!(r#"<rect x="{}" y="{top}" width="12" height="12" rx="2.500"/>"#, x - 6)
    } else {
        format!(r#"<path class="subtree" d="M{x} {top}l9 14h-18z"/>"#)
    };
    let inner = if y == TOP {
        String::new()
    } else {
        format!(
            r#"<g class="node"><title>{}</title><circle cx="{SPINE}" cy="{y}" r="4.500"/></g>"#,
            node.parent
        )
    };
    format!(
        r#"<g class="sibling"><title>{}: {}</title><path class="branch" d="M{SPINE} {y}C{bend} {y} {x} {y} {x} {top}"/>{shape}<text x="{x}" y="{}" text-anchor="middle">{}</text><text class="hex" x="{x}" y="{}" text-anchor="middle">{}</text></g>{inner}"#,
        covers(node),
        node.sibling,
        below - 25,
        covers(node),
        below - 11,
        short(&node.sibling)
    )
}
