//! Counters for `/metrics`, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    receipts: AtomicU64,
    /// Sealed requests by how they ended: `ok`, or the code of the error.
    requests: Mutex<BTreeMap<String, u64>>,
}

impl Metrics {
    /// A receipt was logged.
    pub(crate) fn receipt(&self) {
        self.receipts.fetch_add(1, Ordering::Relaxed);
    }

    /// A relayed request ended. Providers choose some codes, so unknown ones beyond a few are counted together.
    pub(crate) fn request(&self, outcome: &str) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let known = requests.contains_key(outcome) || requests.len() < MAX_CODES;
        let code = outcome.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        let outcome = if known && code { outcome } else { "other" };
        *requests.entry(outcome.to_owned()).or_default() += 1;
    }

    /// The page.
    pub(crate) fn render(&self, providers: usize, registry_size: u64) -> String {
        let mut page = format!(
            "# TYPE glassbloom_coordinator_providers gauge\nglassbloom_coordinator_providers {providers}\n\
             # TYPE glassbloom_coordinator_registry_size gauge\nglassbloom_coordinator_registry_size {registry_size}\n\
             # TYPE glassbloom_coordinator_receipts_total counter\nglassbloom_coordinator_receipts_total {}\n\
             # TYPE glassbloom_coordinator_requests_total counter\n",
            self.receipts.load(Ordering::Relaxed)
        );
        for (outcome, count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(page, "glassbloom_coordinator_requests_total{{outcome=\"{outcome}\"}} {count}");
        }
        page
    }
}

const MAX_CODES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_providers_say_cannot_break_the_page() {
        let metrics = Metrics::default();
        metrics.request("ok");
        metrics.request("x\"} 1\nfake 2");
        let page = metrics.render(1, 2);
        assert!(
            page.contains("{outcome=\"ok\"} 1")
                && page.contains("{outcome=\"other\"} 1")
                && !page.contains("fake")
        );
    }
}
