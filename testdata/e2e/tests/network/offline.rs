//! The user's own receipts: listed, shown, exported, and verified without the network.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use glassbloom_e2e::network::Plan;

use crate::{
    bed::{Ran, run},
    clients::glassbloom,
};

/// How many bytes of a bundle are flipped, one at a time, spread over it.
const FLIPS: usize = 24;

/// Lists, shows and exports; leaves the newest receipt's bundle in a file.
pub(crate) async fn receipts(plan: &Plan, bundle: &Path) -> Result<()> {
    let mut list = glassbloom(plan);
    list.args(["receipts", "list", "--json"]);
    let listed = run(list).await?.expect(0)?;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed.out)?;
    let newest = listed.first().context("no receipt is listed")?;
    let id = newest["id"].as_str().context("no id")?;
    let index = newest["index"].to_string();

    let mut list = glassbloom(plan);
    list.args(["receipts", "list"]);
    run(list).await?.expect(0)?.says(&id[..16])?;
    let mut show = glassbloom(plan);
    show.args(["receipts", "show", &id[..12]]);
    run(show).await?.expect(0)?.says(id)?.says(&format!("index {index}"))?;
    let mut export = glassbloom(plan);
    export.args(["receipts", "export", id, "-o"]).arg(bundle);
    run(export).await?.expect(0)?;
    let mut show = glassbloom(plan);
    show.args(["receipts", "show", "0000000000000000"]);
    run(show).await?.expect(1)?.says("no receipt starts with").map(drop)
}

/// Verifies a bundle with nothing but the policy file.
pub(crate) async fn verify_once(plan: &Plan, bundle: &Path) -> Result<()> {
    verified(plan, bundle).await?.expect(0)?.says("receipt logged").map(drop)
}

/// A bundle verifies; with any byte of it changed it does not.
pub(crate) async fn verify(plan: &Plan, bundle: &Path) -> Result<()> {
    verify_once(plan, bundle).await?;
    let good = std::fs::read(bundle)?;
    let bad = bundle.with_extension("flipped");
    for flip in 0..FLIPS {
        let place = flip * (good.len() - 1) / (FLIPS - 1);
        let mut bytes = good.clone();
        bytes[place] ^= 1 << (flip % 8);
        std::fs::write(&bad, bytes)?;
        let ran = verified(plan, &bad).await?;
        ensure!(matches!(ran.code, Some(10 | 20 | 30)), "byte {place} of {} flipped: {ran}", good.len());
    }
    Ok(())
}

async fn verified(plan: &Plan, bundle: &Path) -> Result<Ran> {
    let mut verify = plan.command("glassbloom");
    verify.arg("verify").arg(bundle).arg("--policy").arg(plan.policy());
    run(verify).await
}
