//! Logs that go on from one another: which have ended, and whether they show the end that is named.

use glassbloom_spec::{checkpoint::Checkpoint, id::LeafIndex, succession::Succeeded};

use super::{Audit, Problem, ProblemKind, Source};
use crate::{finding::Finding, replay::ReplayError, rules};

impl Audit<'_> {
    /// Reads the first entry of each log and holds against it what its predecessor shows. The replay says what is wrong
    /// with an entry itself.
    pub(super) async fn successions(&mut self, logs: &[(Source, Option<Checkpoint>)]) {
        let mut known: Vec<Succeeded> = Vec::new();
        for (source, checkpoint) in logs {
            let Some(checkpoint) = checkpoint.as_ref().filter(|checkpoint| checkpoint.size().get() > 0)
            else {
                continue;
            };
            match first(self, source, checkpoint).await {
                Err(error) => self.problem(source, &error),
                Ok(None) => {}
                Ok(Some(succeeded)) => {
                    let end = succeeded.predecessor().origin().to_owned();
                    let twice = known.iter().find(|other| other.predecessor().origin() == end);
                    if let Some(other) = twice {
                        let (one, two) = (&other.successor().origin, &succeeded.successor().origin);
                        let detail = format!("{one} and {two} both go on from it");
                        self.report.findings.push(Finding::about_log(&rules::SUCCESSION, &end, detail));
                    }
                    known.push(succeeded);
                }
            }
        }
        for succeeded in &known {
            self.end(succeeded, logs);
        }
    }

    /// Compares the end that is named with what the log that ended shows.
    fn end(&mut self, succeeded: &Succeeded, logs: &[(Source, Option<Checkpoint>)]) {
        let end = succeeded.predecessor();
        let shown = logs.iter().find(|(source, _)| source.origin == end.origin());
        let Some(shown) = shown.and_then(|(_, checkpoint)| checkpoint.as_ref()) else { return };
        if succeeded.is_broken_by(shown) {
            let detail = format!(
                "{} goes on from its end at size {}, root {}; it shows size {}, root {}",
                succeeded.successor().origin,
                end.size(),
                end.root(),
                shown.size(),
                shown.root()
            );
            self.report.findings.push(Finding::about_log(&rules::SUCCESSION, end.origin(), detail));
        } else if shown.head() == end.head() {
            // A log that has ended is not signed anew, so its age says nothing.
            self.aged.retain(|(origin, _)| origin != end.origin());
        } else {
            let detail = format!(
                "{} has ended at size {} and shows only {}; it is a stale copy, so try again",
                end.origin(),
                end.size(),
                shown.size()
            );
            self.report.problems.push(Problem { kind: ProblemKind::Stale, detail });
        }
    }
}

async fn first(
    audit: &Audit<'_>,
    source: &Source,
    checkpoint: &Checkpoint,
) -> Result<Option<Succeeded>, ReplayError> {
    let entries = source.client.entries(0..1, checkpoint.size()).await?;
    let Some(entry) = entries.into_iter().next() else { return Ok(None) };
    let index = LeafIndex::new(0);
    let proof = source.client.inclusion_proof(index, checkpoint.size()).await?;
    // What is not as signed, or no succession, is for the replay to say.
    let logged = checkpoint.includes(entry, index, &proof).ok();
    Ok(logged.and_then(|logged| audit.config.policy.open_succession(&logged).ok()))
}
