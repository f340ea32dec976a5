//! `kill -9` in mid-stream, and what is left of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use glassbloom_e2e::network::{Part, Plan};
use tokio::{task::block_in_place, time::timeout};

use crate::{
    bed::{Bed, audit, run},
    chat::{Receipt, answered_within, ask, ask_at_length, nothing_lost},
};

/// How often each part is killed.
const ROUNDS: usize = 2;
/// Clients besides the one whose answer is cut, and how much each asks.
const LOAD: usize = 3;
const EACH: usize = 4;
/// A killed part's stream ends, and the network works again, within this.
const LIMIT: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_killed_in_mid_stream() {
    killed(Part::Log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_is_killed_in_mid_stream() {
    killed(Part::Coordinator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_is_killed_in_mid_stream() {
    killed(Part::Provider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_at_once() {
    let Some(mut bed) = Bed::start() else { return };
    let load = (0..LOAD).map(|_| tokio::spawn(until_refused(bed.plan().clone()))).collect::<Vec<_>>();
    let (first, _) = answered_within(bed.plan(), LIMIT).await.unwrap();
    let mut acknowledged = vec![first];
    block_in_place(|| {
        Part::ALL.into_iter().for_each(|part| bed.network.kill(part).unwrap());
        Part::ALL.into_iter().for_each(|part| bed.network.spawn(part).unwrap());
    });
    for one in load {
        acknowledged.extend(timeout(LIMIT, one).await.expect("a cut request ends").unwrap().unwrap());
    }
    acknowledged.push(answered_within(bed.plan(), LIMIT).await.unwrap().0);
    holds(bed.plan(), &acknowledged).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_witness_no_answer_ends_well() {
    let Some(mut bed) = Bed::start() else { return };
    let (before, _) = answered_within(bed.plan(), LIMIT).await.unwrap();
    block_in_place(|| bed.network.kill(Part::Witness1)).unwrap();
    // The text comes; but nobody can tell whether everyone will see the same log.
    let ended =
        timeout(LIMIT, async { ask(bed.plan()).await?.rest().await }).await.expect("it ends").unwrap();
    assert!(!ended.is_done && ended.receipt.is_none(), "{ended:?}");
    block_in_place(|| bed.network.spawn(Part::Witness1)).unwrap();
    let (after, took) = answered_within(bed.plan(), LIMIT).await.unwrap();
    eprintln!("with the witness again answered after {:.1} s", took.as_secs_f64());
    assert!(
        after.index > before.index + 1,
        "the receipt that nobody cosigned in time stays where it was put"
    );
    holds(bed.plan(), &[before, after]).await.unwrap();
}

async fn killed(part: Part) {
    let Some(mut bed) = Bed::start() else { return };
    let mut acknowledged = Vec::new();
    for round in 1..=ROUNDS {
        if let Err(error) = one_round(&mut bed, part, &mut acknowledged).await {
            panic!("round {round}: {error:#}\nthe {} said:\n{}", part.name(), bed.network.tail(part));
        }
    }
}

async fn one_round(bed: &mut Bed, part: Part, acknowledged: &mut Vec<Receipt>) -> Result<()> {
    let (before, _) = answered_within(bed.plan(), LIMIT).await.context("before the kill")?;
    acknowledged.push(before);
    audit(bed.plan()).await?.expect(0).context("before the kill")?;

    let load = (0..LOAD).map(|_| tokio::spawn(until_refused(bed.plan().clone()))).collect::<Vec<_>>();
    let answering = ask_at_length(bed.plan()).await.context("the request that is cut")?;
    let at_the_kill = answering.text().len();
    block_in_place(|| bed.network.kill(part))?;
    // Answers may be waiting for the part to come back.
    let rest = tokio::spawn(answering.rest());
    // Without the log, answers wait for it.
    if part != Part::Log {
        refused(bed.plan()).await.with_context(|| format!("without the {}", part.name()))?;
    }
    block_in_place(|| bed.network.spawn(part)).context("starting it again")?;
    let ended =
        timeout(LIMIT, rest).await.context("the cut stream does not end")??.context("the cut stream")?;
    acknowledged.extend(ended.receipt);
    let mut others = 0;
    for one in load {
        let receipts = timeout(LIMIT, one).await.context("another request does not end")??;
        let receipts = receipts.context("another request")?;
        others += receipts.len();
        acknowledged.extend(receipts);
    }

    let (after, took) = answered_within(bed.plan(), LIMIT).await.context("after the restart")?;
    acknowledged.push(after);
    eprintln!(
        "{}: killed after {at_the_kill} bytes of {}, which ended with {:?}; {others} others answered; works again after {:.1} s",
        part.name(),
        ended.text.len(),
        ended.error.as_deref().unwrap_or("[DONE]"),
        took.as_secs_f64()
    );
    holds(bed.plan(), acknowledged).await
}

/// Nothing acknowledged is lost, and the log's own check and the auditor are content.
async fn holds(plan: &Plan, acknowledged: &[Receipt]) -> Result<()> {
    nothing_lost(plan, acknowledged).await?;
    fsck(plan).await?;
    audit(plan).await?.expect(0).map(drop)
}

/// More requests at the time of the kill: each may be refused, cut or answered, but nothing in between.
async fn until_refused(plan: Plan) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for _ in 0..EACH {
        let Ok(answering) = ask(&plan).await else { break };
        match answering.rest().await?.receipt {
            Some(receipt) => receipts.push(receipt),
            None => break,
        }
    }
    Ok(receipts)
}

/// While nobody can answer, a request is refused as clients of OpenAI expect it, saying why.
async fn refused(plan: &Plan) -> Result<()> {
    let error = match timeout(LIMIT, ask(plan)).await.context("no answer and no refusal")? {
        Ok(answering) => anyhow::bail!("answered {:?}", answering.rest().await),
        Err(error) => error.to_string(),
    };
    ensure!(error.starts_with("refused with 5") || error.starts_with("refused with 404"), "{error}");
    ensure!(error.contains("\"error\"") && error.contains("\"message\""), "{error}");
    Ok(())
}

async fn fsck(plan: &Plan) -> Result<()> {
    for target in [plan.url(Part::Log), plan.data.join("log").display().to_string()] {
        let mut fsck = plan.command("glassbloom-log");
        fsck.arg("fsck").arg(target).arg("--policy").arg(plan.policy());
        run(fsck).await?.expect(0)?;
    }
    Ok(())
}
