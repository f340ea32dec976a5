//! Who is there: one challenge per provider and epoch, and one leaf per epoch that says who answered and who did not.
//! See `spec/leaf.md`, "Challenge-batch".
//!
//! # Order
//! An epoch is written down before its challenges go out, and its batch before it is sent to the log. So whatever
//! becomes of the process, the log gets one batch per epoch: the same bytes, or none before.

mod round;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glassbloom_spec::{
    curve::SIGNATURE_LEN,
    id::UnixSeconds,
    leaf::{Beacon, ChallengeBatch, Payload, Transcript},
    statement::Statement,
};
use tokio::{sync::Notify, time::interval};

use self::round::{Heard, Round};
use crate::{
    app::App,
    session::{Admitted, Live, Notice},
    store::OpenEpoch,
};

/// The epoch that runs, and what came before it.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    round: Mutex<Option<Round>>,
    /// Held through a step: one task at a time opens, ends and logs epochs.
    steps: tokio::sync::Mutex<Option<Steps>>,
    /// Everybody has answered: no need to wait for the end of the epoch.
    complete: Notify,
}

/// What a step knows from those before it, in this process or an earlier one.
#[derive(Debug)]
struct Steps {
    /// No epoch that begins before is opened: it was, or this process did not see its beginning.
    from: UnixSeconds,
    /// Whether the last batch expected somebody, so that an epoch with nobody has to be said.
    expected_somebody: bool,
    /// Whether there may be signed batches that the log has not taken.
    unlogged: bool,
}

/// What a provider is asked before it is welcome.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) epoch: UnixSeconds,
    pub(crate) beacon: Beacon,
}

impl Liveness {
    fn round(&self) -> MutexGuard<'_, Option<Round>> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn has_heard_forgery(&self) -> bool {
        self.round().as_ref().is_some_and(Round::has_forgery)
    }
}

/// Steps until shutdown is requested.
pub(crate) async fn watch(app: &App) {
    let mut ticks = interval(STEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let next = async |ticks: &mut tokio::time::Interval| {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.liveness.complete.notified() => {}
        }
    };
    while app.shutdown.unless_requested(next(&mut ticks)).await.is_some() {
        if let Err(error) = step(app).await {
            tracing::warn!(error = format!("{error:#}"), "the challenges of an epoch wait");
        }
    }
}

/// Does what is due: ends the epoch that is over or has every answer, opens the next, and logs what is signed.
pub(crate) async fn step(app: &App) -> anyhow::Result<()> {
    let mut steps = app.liveness.steps.lock().await;
    let now = app.clock.now().seconds();
    let steps = match &mut *steps {
        Some(steps) => steps,
        none => none.insert(resume(app, now).await?),
    };
    let due = app.liveness.round().as_ref().is_some_and(|round| round.is_over(now) || round.is_complete());
    if due {
        end(app, steps, now).await?;
    }
    let seconds = app.config.liveness.seconds;
    let epoch = UnixSeconds::new(now.get() - now.get() % seconds);
    if epoch >= steps.from && app.liveness.round().is_none() {
        open(app, steps, epoch, now).await?;
    }
    if steps.unlogged {
        for (epoch, batch) in app.store.unlogged_batches().await? {
            app.registry.ensure(&Statement::parse(&batch)?).await?;
            app.store.batch_logged(epoch).await?;
        }
        steps.unlogged = false;
    }
    Ok(())
}

/// Takes up what an earlier process left. The epoch that runs is not opened: who served when it began is not known.
async fn resume(app: &App, now: UnixSeconds) -> anyhow::Result<Steps> {
    let seconds = app.config.liveness.seconds;
    let last = app.registry.view().last_batch();
    let mut from = now.get() - now.get() % seconds + seconds;
    let ends = app.store.last_epoch_ends().await?;
    for end in ends.into_iter().chain(last.map(|last| last.ends)) {
        from = from.max(end.get());
    }
    let open = app.store.open_epochs().await?;
    let unlogged = app.store.unlogged_batches().await?;
    let newest =
        unlogged.last().and_then(|(_, batch)| ChallengeBatch::of(&Statement::parse(batch).ok()?).ok());
    let expected_somebody = !open.is_empty()
        || newest.map_or_else(
            || last.is_some_and(|last| last.expected_somebody),
            |batch| !batch.expected.is_empty(),
        );
    // There is one at most: an epoch is opened after the one before has its batch.
    *app.liveness.round() = open.into_iter().next_back().map(Round::resumed);
    Ok(Steps { from: UnixSeconds::new(from), expected_somebody, unlogged: true })
}

/// Challenges everybody who serves.
async fn open(app: &App, steps: &mut Steps, epoch: UnixSeconds, now: UnixSeconds) -> anyhow::Result<()> {
    app.refresh().await;
    // Under one view: whoever the beacon's registry revokes is not expected.
    let (live, beacon) = {
        let view = app.registry.view();
        let mut live: Vec<Arc<Live>> = app.sessions.all();
        live.retain(|live| !live.is_closed() && view.is_over(&live.admitted.attestation, now).is_none());
        (live, view.checkpoint_bytes().map(<[u8]>::to_vec))
    };
    let seconds = app.config.liveness.seconds;
    steps.from = UnixSeconds::new(epoch.get() + seconds);
    if live.is_empty() && !steps.expected_somebody {
        return Ok(());
    }
    let Some(beacon) = beacon else { return Ok(()) };
    let answers = live.iter().map(|live| (live.admitted.attestation, None)).collect();
    let open = OpenEpoch { epoch, seconds, beacon: beacon.clone(), answers };
    app.store.open_epoch(&open).await?;
    let round = Round::opened(open);
    let complete = round.is_complete();
    *app.liveness.round() = Some(round);
    for live in &live {
        live.challenge(epoch, beacon.clone());
    }
    // Nobody to wait for.
    if complete {
        end(app, steps, now).await?;
    }
    Ok(())
}

/// Ends the epoch: signs its batch and writes it down. Those that are missing hear why.
async fn end(app: &App, steps: &mut Steps, now: UnixSeconds) -> anyhow::Result<()> {
    // Taken out first: an answer that comes from here on is too late.
    let Some(round) = app.liveness.round().take() else { return Ok(()) };
    let (answers, missing) = round.result(|leaf| {
        let reason = app.registry.view().is_over(leaf, now);
        reason.or_else(|| app.sessions.find(leaf).map(|_| "silent"))
    });
    let (epoch, seconds) = (round.epoch, round.seconds);
    let batch = ChallengeBatch::new(epoch, seconds, round.beacon.clone(), &answers, missing.clone());
    let signed = batch.sign(&app.signer)?;
    if let Err(error) = app.store.close_epoch(epoch, signed.bytes(), &answers).await {
        // Nothing was said yet; the next step tries again.
        *app.liveness.round() = Some(round);
        return Err(error.into());
    }
    steps.expected_somebody = !batch.expected.is_empty();
    steps.unlogged = true;
    tracing::info!(%epoch, expected = batch.expected.len(), missing = missing.len(), "an epoch is over");
    for (leaf, reason) in &missing {
        if let Some(live) = app.sessions.find(leaf) {
            missed(&live, epoch, reason);
        }
    }
    Ok(())
}

/// Counts a challenge that was not answered, and tells the operator in words.
fn missed(live: &Live, epoch: UnixSeconds, reason: &str) {
    let what = match reason {
        "bad-signature" => {
            "the answer to the challenge of the epoch from {epoch} s on has a signature that does not verify"
        }
        _ => "no answer came to the challenge of the epoch from {epoch} s on",
    };
    let what = what.replace("{epoch}", &epoch.to_string());
    let count = live.missed();
    tracing::warn!(provider = live.admitted.name, reason, count, %epoch, "a challenge was missed");
    let (code, message) = if count >= MISSED_IN_A_ROW {
        let message = format!(
            "{what}; {count} in a row are missing, and no requests come until one is answered: look for challenges in \
             the provider's log, and at its clock and its connections to coordinator and log"
        );
        ("suspended", message)
    } else {
        let message = format!(
            "{what}; after {MISSED_IN_A_ROW} in a row no requests come: look for challenges in the provider's log"
        );
        ("challenge-missed", message)
    };
    live.notice(Notice { code, message });
}

/// An answer came over a session that serves.
pub(crate) async fn answered(app: &App, live: &Live, epoch: UnixSeconds, signature: &[u8]) {
    let attestation = live.admitted.attestation;
    let heard = match app.liveness.round().as_mut() {
        Some(round) => round.hear(epoch, attestation, signature, &live.admitted.signing_key),
        None => Heard::Nothing,
    };
    match heard {
        Heard::Answer(answer) => {
            keep(app, epoch, &answer).await;
            if live.answered() >= MISSED_IN_A_ROW {
                tracing::info!(provider = live.admitted.name, "a suspended provider is back");
                live.notice(Notice {
                    code: "resumed",
                    message: "a challenge was answered; requests come in".to_owned(),
                });
            }
        }
        Heard::Forgery => {
            tracing::warn!(provider = live.admitted.name, %epoch, "an answer to a challenge does not verify")
        }
        // Late, or a second time.
        Heard::Nothing => {
            tracing::debug!(provider = live.admitted.name, %epoch, "an answer that counts for nothing")
        }
    }
}

/// What a provider has to answer before it is welcome: the challenge of the epoch that runs if it was expected in it and
/// comes back, and else one of its own.
pub(crate) fn question(app: &App, admitted: &Admitted) -> Option<Question> {
    if let Some(round) = &*app.liveness.round()
        && round.waits_for(&admitted.attestation)
    {
        return Some(Question { epoch: round.epoch, beacon: round.beacon.clone() });
    }
    let (now, seconds) = (app.clock.now().seconds().get(), app.config.liveness.seconds);
    let checkpoint = app.registry.view().checkpoint_bytes()?.to_vec();
    Some(Question { epoch: UnixSeconds::new(now - now % seconds), beacon: Beacon { checkpoint } })
}

/// Whether this answers the question; an answer to the epoch's own challenge counts for the batch, too.
pub(crate) async fn joins(app: &App, admitted: &Admitted, question: &Question, signature: &[u8]) -> bool {
    let Ok(signature) = <[u8; SIGNATURE_LEN]>::try_from(signature) else { return false };
    let answer = Transcript { attestation: admitted.attestation, signature };
    if !answer.verify(&admitted.signing_key, question.beacon.digest(), question.epoch) {
        return false;
    }
    let heard = match app.liveness.round().as_mut().filter(|round| round.beacon == question.beacon) {
        Some(round) => round.hear(question.epoch, answer.attestation, &signature, &admitted.signing_key),
        None => Heard::Nothing,
    };
    if let Heard::Answer(answer) = heard {
        keep(app, question.epoch, &answer).await;
    }
    true
}

async fn keep(app: &App, epoch: UnixSeconds, answer: &Transcript) {
    // Held in memory, too: a database that fails costs the answer only if the process ends before the epoch does.
    if let Err(error) = app.store.answer(epoch, answer).await {
        tracing::warn!(%error, "an answer could not be written down");
    }
    if app.liveness.round().as_ref().is_some_and(Round::is_complete) {
        app.liveness.complete.notify_one();
    }
}

/// Whether a provider with so many missed challenges in a row gets requests.
pub(crate) const fn is_suspended(missed: u32) -> bool {
    missed >= MISSED_IN_A_ROW
}

const MISSED_IN_A_ROW: u32 = 3;
const STEP_EVERY: Duration = Duration::from_secs(1);
/// How many may serve at a time, so that a batch with all of them missing fits into a log's entry.
pub(crate) const MAX_EXPECTED: usize = 500;

#[cfg(test)]
mod tests {
    use glassbloom_spec::{curve::SigningKey, hash::Hash, tile::MAX_ENTRY};

    use super::*;

    #[test]
    fn the_largest_batch_fits_into_an_entry() {
        let mut missing: Vec<(Hash, String)> = (0..MAX_EXPECTED)
            .map(|n| (Hash::of(&n.to_be_bytes()), "coordinator-restarted".to_owned()))
            .collect();
        missing.sort_unstable();
        let beacon = Beacon { checkpoint: vec![b'x'; 16 << 10] };
        let batch = ChallengeBatch::new(600.into(), 300, beacon, &[], missing);
        let signed = batch.sign(&SigningKey::from_seed(&[1; 32])).unwrap();
        assert!(signed.bytes().len() <= MAX_ENTRY, "{}", signed.bytes().len());
        assert_eq!(ChallengeBatch::of(&signed).unwrap(), batch);
    }
}
