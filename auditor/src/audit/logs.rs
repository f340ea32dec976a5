//! Replaying each of the two logs.

use futures_util::StreamExt;
use glassbloom_spec::{
    checkpoint::Checkpoint, hash::Hash, id::LeafIndex, merkle::Frontier, tile::FULL_WIDTH,
};

use super::{Audit, AuditError, Problem, ProblemKind, Seen, Source, fork, state::Change};
use crate::{
    finding::Finding,
    replay::{Damage, Fold, History, Mismatch, Registry, ReplayError, batches, first_wrong_bundle, history},
    rules::{self, Memory, Received, Registered, Severity},
};

/// Whether replaying makes sense after the heads were compared.
#[derive(PartialEq)]
enum Compared {
    /// Yes.
    GoOn,
    /// No; the report says why.
    Stop,
}

/// How a replay's fold ended.
enum Folded {
    /// What was read is what was logged, at least as far as entries go.
    Right(Frontier),
    /// It is not; the report says why.
    Wrong,
}

impl Audit<'_> {
    /// Replays the registry; `None` when nothing can be concluded from it.
    pub(super) async fn registry(
        &mut self,
        source: &Source,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Registry>, AuditError> {
        let seen = self.state.seen(&source.origin).await?;
        if self.compare(source, checkpoint, seen.as_ref()).await? == Compared::Stop {
            return Ok(None);
        }
        let mut registry = Registry::new(&source.origin, &self.config.policy);
        let mut change = self.state.begin().await?;
        let from = self.resume(source, true, &mut change).await?;
        let policy = &self.config.policy;
        let mut memory = Memory::new();
        let grew = from.size() < checkpoint.size();
        if from.size().get() > 0 {
            for bytes in self.state.registry_entries().await? {
                let index = registry.push(bytes).index;
                // What is found in these was found when they were new. Where nothing is new, nothing needs a memory.
                if let Some(entry) = registry.entry(index).filter(|_| grew) {
                    memory.push(Registered { registry: &registry, policy, entry });
                }
            }
        }
        let mut fold = Fold::new(from.clone());
        let mut stream = core::pin::pin!(batches(&source.client, from.size(), checkpoint.size()));
        while let Some(batch) = stream.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ok(self.give_up(source, &error)),
            };
            fold.absorb(&batch);
            for bytes in batch.entries {
                let index = LeafIndex::new(registry.size().get());
                change.registry_entry(index, &bytes).await?;
                registry.push(bytes);
                let entry = registry.entry(index).expect("pushed above");
                let context = Registered { registry: &registry, policy: &self.config.policy, entry };
                for broken in rules::check_registered(context).iter().chain(&memory.push(context)) {
                    change.finding(&source.origin, index, &entry.leaf_hash, broken).await?;
                }
            }
        }
        let Folded::Right(frontier) = self.fold(source, checkpoint, fold, seen.as_ref()).await? else {
            return Ok(None);
        };
        self.finish(source, checkpoint, &from, &frontier, change).await?;
        Ok(Some(registry))
    }

    /// Replays the receipts; without a registry, only their structure.
    pub(super) async fn receipts(
        &mut self,
        source: &Source,
        checkpoint: &Checkpoint,
        registry: Option<&Registry>,
    ) -> Result<(), AuditError> {
        let seen = self.state.seen(&source.origin).await?;
        if self.compare(source, checkpoint, seen.as_ref()).await? == Compared::Stop {
            return Ok(());
        }
        let mut change = self.state.begin().await?;
        let from = self.resume(source, false, &mut change).await?;
        if let Some(registry) = registry {
            late_revocations(&source.origin, registry, &mut change).await?;
        }
        let mut fold = Fold::new(from.clone());
        let mut stream = core::pin::pin!(batches(&source.client, from.size(), checkpoint.size()));
        while let Some(batch) = stream.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.problem(source, &error);
                    return Ok(());
                }
            };
            fold.absorb(&batch);
            let Some(registry) = registry else { continue };
            for ((index, bytes), leaf) in (batch.first.get()..).zip(&batch.entries).zip(&batch.hashes) {
                let index = LeafIndex::new(index);
                for broken in &self.judge_receipt(source, bytes, index, leaf, registry, &mut change).await? {
                    change.finding(&source.origin, index, leaf, broken).await?;
                }
            }
        }
        let Folded::Right(frontier) = self.fold(source, checkpoint, fold, seen.as_ref()).await? else {
            return Ok(());
        };
        if registry.is_none() {
            // The entries are right, but nobody has judged them: the next run begins where this one did.
            return Ok(());
        }
        self.finish(source, checkpoint, &from, &frontier, change).await
    }

    /// Compares the head with the one remembered.
    async fn compare(
        &mut self,
        source: &Source,
        checkpoint: &Checkpoint,
        seen: Option<&Seen>,
    ) -> Result<Compared, AuditError> {
        let Some(seen) = seen else { return Ok(Compared::GoOn) };
        let head = checkpoint.head();
        let backwards = head.size < seen.head.size;
        let (older, newer) = if backwards { (head, &seen.head) } else { (&seen.head, head) };
        let found = match history(&source.client, older, newer).await {
            Ok(found) => found,
            // Tiles of the remembered tree may be out of reach while the log serves an older one.
            Err(_) if backwards => History::Unproven,
            Err(error) => {
                self.problem(source, &error);
                return Ok(Compared::Stop);
            }
        };
        match found {
            History::Extends if backwards => {
                let detail = format!(
                    "{}: the log serves size {}, this auditor has seen {}; the older head is a stale copy, so try again",
                    source.origin, head.size, seen.head.size
                );
                self.report.problems.push(Problem { kind: ProblemKind::Stale, detail });
                Ok(Compared::Stop)
            }
            History::Extends => Ok(Compared::GoOn),
            History::Forks(root) => {
                let detail = format!(
                    "at size {} the tree of size {} had root {root}; the checkpoint of that size has {}",
                    older.size, newer.size, older.root
                );
                self.forked(source, checkpoint, seen, &rules::FORK, &detail)?;
                Ok(Compared::Stop)
            }
            History::Unproven if backwards => {
                let detail = format!("served size {}, seen before {}", head.size, seen.head.size);
                self.forked(source, checkpoint, seen, &rules::ROLLBACK, &detail)?;
                Ok(Compared::Stop)
            }
            // Replaying the entries will show whether the tiles are damaged or the history is another.
            History::Unproven => Ok(Compared::GoOn),
        }
    }

    /// Judges the recomputed root.
    async fn fold(
        &mut self,
        source: &Source,
        checkpoint: &Checkpoint,
        fold: Fold,
        seen: Option<&Seen>,
    ) -> Result<Folded, AuditError> {
        let origin = source.origin.clone();
        let (damage, frontier) = match fold.finish(checkpoint.head()) {
            Ok(frontier) => return Ok(Folded::Right(frontier)),
            Err(damaged) => damaged,
        };
        match damage {
            Damage::Entries(mismatches) => {
                let altered = mismatches.iter().map(|Mismatch { index, entry, tile }| {
                    let detail = format!("its bytes hash to {entry}, the tree has {tile}");
                    Finding::about_entry(&rules::ALTERED_ENTRY, &origin, *index, *tile, detail)
                });
                self.report.findings.extend(altered);
            }
            Damage::Tiles(mismatches) => {
                let altered = mismatches.iter().map(|Mismatch { index, entry, tile }| {
                    let detail = format!("tile {} has {tile} for it", index.get() / u64::from(FULL_WIDTH));
                    Finding::about_entry(&rules::ALTERED_TILE, &origin, *index, *entry, detail)
                });
                self.report.findings.extend(altered);
            }
            Damage::Both { from, to, mismatches, bundles } => {
                let width = u64::from(FULL_WIDTH);
                let (first, last) = match first_wrong_bundle(&source.client, &bundles, to).await {
                    Ok(Some(bundle)) => ((bundle * width).max(from.get()), (bundle + 1) * width),
                    Ok(None) => ((to.get() / width * width).max(from.get()), to.get()),
                    // Where the tiles cannot be read, the span stays as wide as it is.
                    Err(_) => (from.get(), to.get()),
                };
                let mut detail =
                    format!("entries {first} to {} do not lead to the root", last.saturating_sub(1));
                if let Some(first) = mismatches.first() {
                    detail += &format!("; bundle and hash tile differ first at index {}", first.index);
                }
                let finding = match seen {
                    // Not what was seen, and not provably a fork: both notes are kept all the same.
                    Some(seen) => {
                        let path = fork::write(
                            &self.config.state,
                            seen,
                            checkpoint.head(),
                            checkpoint.note_bytes(),
                            &detail,
                        )?;
                        Finding::about_log(&rules::ROOT, &origin, detail).with_evidence(path)
                    }
                    None => Finding::about_log(&rules::ROOT, &origin, detail),
                };
                self.report.findings.push(finding);
            }
        }
        Ok(frontier.map_or(Folded::Wrong, Folded::Right))
    }

    fn forked(
        &mut self,
        source: &Source,
        checkpoint: &Checkpoint,
        seen: &Seen,
        rule: &'static rules::Rule,
        detail: &str,
    ) -> Result<(), AuditError> {
        let path = fork::write(&self.config.state, seen, checkpoint.head(), checkpoint.note_bytes(), detail)?;
        self.report.findings.push(Finding::about_log(rule, &source.origin, detail).with_evidence(path));
        Ok(())
    }

    /// Where to begin; what was concluded before is forgotten unless it still counts.
    async fn resume(
        &self,
        source: &Source,
        is_registry: bool,
        change: &mut Change,
    ) -> Result<Frontier, AuditError> {
        let frontier = match self.config.from_genesis {
            true => Frontier::new(),
            false => self.state.frontier(&source.origin, &self.policy_hash).await?,
        };
        if frontier.size().get() == 0 {
            change.forget(&source.origin, is_registry).await?;
        }
        Ok(frontier)
    }

    /// Makes the run's results durable and reports what is known about entries.
    async fn finish(
        &mut self,
        source: &Source,
        checkpoint: &Checkpoint,
        from: &Frontier,
        to: &Frontier,
        mut change: Change,
    ) -> Result<(), AuditError> {
        change.replayed(&source.origin, &self.policy_hash, to).await?;
        change.seen(checkpoint.head(), checkpoint.note_bytes()).await?;
        change.commit().await?;
        self.log_report(&source.origin).new_entries = to.size().get() - from.size().get();
        for finding in self.state.findings(&source.origin).await? {
            match finding.severity() {
                Severity::Notice => self.report.notices.push(finding),
                Severity::Violation => self.report.findings.push(finding),
            }
        }
        Ok(())
    }

    fn give_up<T>(&mut self, source: &Source, error: &ReplayError) -> Option<T> {
        self.problem(source, error);
        None
    }

    async fn judge_receipt(
        &self,
        source: &Source,
        bytes: &[u8],
        index: LeafIndex,
        leaf: &Hash,
        registry: &Registry,
        change: &mut Change,
    ) -> Result<Vec<rules::Broken>, AuditError> {
        let origin = &source.origin;
        if let Some(judged) = rules::check_succession(bytes, index, origin, &self.config.policy) {
            return Ok(judged.err().into_iter().collect());
        }
        let (statement, receipt) = match rules::parse_receipt(bytes) {
            Ok(parsed) => parsed,
            Err(broken) => return Ok(vec![broken]),
        };
        let first = change.receipt(origin, leaf, index).await?;
        change.used_key(origin, &statement.key_id(), index, leaf).await?;
        let received = Received { registry, index, statement: &statement, receipt: &receipt };
        Ok(rules::check_received(received, first))
    }
}

/// Receipts that were audited before the revocation came that voids them. Of each key the last one is named.
async fn late_revocations(origin: &str, registry: &Registry, change: &mut Change) -> Result<(), AuditError> {
    for (_, revocation) in registry.revocations() {
        if let Some((index, leaf)) = change.last_receipt(origin, &revocation.key).await?
            && let Some(broken) = rules::check_revoked(registry, &revocation.key, index)
        {
            change.finding(origin, index, &leaf, &broken).await?;
        }
    }
    Ok(())
}
