//! Bytes to look at.

use leptos::prelude::*;

use super::text::Copy;
use crate::{data::entry::Part, describe::hex};

/// Most bytes that are drawn; the button copies all.
const SHOWN: usize = 4096;
const ROW: usize = 16;

/// Bytes as offset, hexadecimal and text, with parts marked.
#[component]
pub fn HexDump(
    /// The bytes.
    bytes: Vec<u8>,
    /// Stretches to mark, in order.
    #[prop(optional)]
    parts: Vec<Part>,
) -> AnyView {
    let rest = bytes.len().saturating_sub(SHOWN);
    let rows: Vec<_> = bytes[..bytes.len().min(SHOWN)]
        .chunks(ROW)
        .enumerate()
        .map(|(row, chunk)| {
            let text: String = chunk
                .iter()
                .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '·' })
                .collect();
            view! {
                <span class="hex-row">
                    <span class="hex-offset">{format!("{:04x}", row * ROW)}</span>
                    <span class="hex-bytes">{marked(chunk, row * ROW, &parts)}</span>
                    <span class="hex-text">{text}</span>
                </span>
            }
        })
        .collect();
    let legend = (!parts.is_empty()).then(|| {
        let names = parts.iter().enumerate().map(|(at, part)| {
            view! { <li><span class=format!("swatch part-{at}") aria-hidden="true"></span>{part.name}" "<small>{format!("{} bytes", part.end - part.start)}</small></li> }
        });
        view! { <ul class="hex-legend">{names.collect_view()}</ul> }
    });
    view! {
        <div class="hex">
            <div class="hex-tools">{legend}<Copy text=hex(&bytes) label="Copy bytes as hexadecimal"/></div>
            <pre tabindex="0" aria-label="Bytes in hexadecimal">{rows}</pre>
            {(rest > 0).then(|| view! { <p class="hint">{format!("{rest} more bytes are not shown; copy to get all.")}</p> })}
        </div>
    }
    .into_any()
}

/// The bytes of a row, cut where a part begins or ends.
fn marked(chunk: &[u8], offset: usize, parts: &[Part]) -> Vec<AnyView> {
    let part_of = |at: usize| parts.iter().position(|part| (part.start..part.end).contains(&at));
    let mut spans = Vec::new();
    let mut at = 0;
    while at < chunk.len() {
        let part = part_of(offset + at);
        let end = (at..chunk.len()).find(|next| part_of(offset + next) != part).unwrap_or(chunk.len());
        let text: String = chunk[at..end].iter().map(|byte| format!("{byte:02x} ")).collect();
        let class = part.map_or_else(String::new, |part| format!("part-{part}"));
        spans.push(view! { <span class=class>{text}</span> }.into_any());
        at = end;
    }
    spans
}
