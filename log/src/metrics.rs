//! Counters of one log, as Prometheus text.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What happened since the process started.
#[derive(Debug, Default)]
pub struct Metrics {
    added: AtomicU64,
    duplicates: AtomicU64,
    commits: AtomicU64,
    commit_micros: AtomicU64,
    publications: AtomicU64,
    publish_failures: AtomicU64,
    scrubbed: AtomicU64,
    scrub_findings: AtomicU64,
    witnesses: Vec<WitnessMetrics>,
}

#[derive(Debug, Default)]
struct WitnessMetrics {
    name: String,
    cosigned: AtomicU64,
    failed: AtomicU64,
    alarms: AtomicU64,
    claims: AtomicU64,
}

impl Metrics {
    pub(crate) fn new(witnesses: impl IntoIterator<Item = String>) -> Self {
        let witnesses =
            witnesses.into_iter().map(|name| WitnessMetrics { name, ..WitnessMetrics::default() });
        Self { witnesses: witnesses.collect(), ..Self::default() }
    }

    pub(crate) fn committed(&self, added: usize, duplicates: usize, took: Duration) {
        self.added.fetch_add(added as u64, Relaxed);
        self.duplicates.fetch_add(duplicates as u64, Relaxed);
        self.commits.fetch_add(u64::from(added > 0), Relaxed);
        self.commit_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn published(&self) {
        self.publications.fetch_add(1, Relaxed);
    }

    pub(crate) fn not_published(&self) {
        self.publish_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn bundle_scrubbed(&self) {
        self.scrubbed.fetch_add(1, Relaxed);
    }

    pub(crate) fn scrub_found(&self) {
        self.scrub_findings.fetch_add(1, Relaxed);
    }

    pub(crate) fn witness_cosigned(&self, witness: usize) {
        self.witnesses[witness].cosigned.fetch_add(1, Relaxed);
    }

    pub(crate) fn witness_failed(&self, witness: usize) {
        self.witnesses[witness].failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn witness_alarm(&self, witness: usize) {
        self.witnesses[witness].alarms.fetch_add(1, Relaxed);
    }

    pub(crate) fn witness_claim(&self, witness: usize) {
        self.witnesses[witness].claims.fetch_add(1, Relaxed);
    }

    /// How often a witness claimed to know a larger or another tree and did not show it.
    pub fn claims(&self) -> u64 {
        self.witnesses.iter().map(|witness| witness.claims.load(Relaxed)).sum()
    }

    /// How often a witness showed a tree by this log's key that the log does not have.
    pub fn alarms(&self) -> u64 {
        self.witnesses.iter().map(|witness| witness.alarms.load(Relaxed)).sum()
    }

    /// Entries committed since the start, without duplicates.
    pub fn added(&self) -> u64 {
        self.added.load(Relaxed)
    }

    /// Entries that were in the log already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Relaxed)
    }

    /// Rounds that ended with a published checkpoint since the start.
    pub fn publications(&self) -> u64 {
        self.publications.load(Relaxed)
    }

    /// Bundles that were read again and compared with the signed root since the start.
    pub fn scrubbed(&self) -> u64 {
        self.scrubbed.load(Relaxed)
    }

    /// Objects that were not as they were signed.
    pub fn scrub_findings(&self) -> u64 {
        self.scrub_findings.load(Relaxed)
    }

    /// Group commits since the start.
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Appends the samples of this log in Prometheus' text format.
    pub fn render(&self, origin: &str, out: &mut String) {
        let samples = [
            ("entries_added_total", self.added.load(Relaxed)),
            ("entries_duplicate_total", self.duplicates.load(Relaxed)),
            ("commits_total", self.commits.load(Relaxed)),
            ("commit_microseconds_total", self.commit_micros.load(Relaxed)),
            ("publications_total", self.publications.load(Relaxed)),
            ("publications_without_quorum_total", self.publish_failures.load(Relaxed)),
            ("scrub_bundles_total", self.scrubbed.load(Relaxed)),
            ("scrub_findings_total", self.scrub_findings.load(Relaxed)),
        ];
        for (name, value) in samples {
            sample(out, name, &[("log", origin)], value);
        }
        for witness in &self.witnesses {
            let labels = [("log", origin), ("witness", witness.name.as_str())];
            sample(out, "witness_cosignatures_total", &labels, witness.cosigned.load(Relaxed));
            sample(out, "witness_failures_total", &labels, witness.failed.load(Relaxed));
            sample(out, "witness_claims_total", &labels, witness.claims.load(Relaxed));
            sample(out, "witness_alarms_total", &labels, witness.alarms.load(Relaxed));
        }
    }
}

/// Appends one sample; label values are quoted as Prometheus wants them.
pub(crate) fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    writeln!(out, "glassbloom_log_{name}{{{}}} {value}", labels.join(","))
        .expect("a string takes all that is written");
}
