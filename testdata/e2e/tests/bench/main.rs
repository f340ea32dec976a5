//! The load generator measures every row, with the programs of this build and for a moment only: what it prints has
//! the right form, whatever the numbers are.

use std::collections::BTreeSet;

use clap::ValueEnum;
use glassbloom_e2e::{
    bench::{Bench, Plan, Row, report::Line, servers::Programs},
    tasks::build,
};
use glassbloom_testdata::skipped;

/// Every number of the table with its unit.
const NUMBERS: [(&str, &str); 19] = [
    ("add-http-1024", "adds/s"),
    ("add-in-process-256", "adds/s"),
    ("add-lonely-p50", "ms"),
    ("append-2000-p50", "ms"),
    ("append-2000-p99", "ms"),
    ("append-2000-two-witnesses-p50", "ms"),
    ("append-2000-two-witnesses-p99", "ms"),
    ("append-500-p50", "ms"),
    ("append-500-p99", "ms"),
    ("append-500-two-witnesses-p50", "ms"),
    ("append-500-two-witnesses-p99", "ms"),
    ("append-lonely-p50", "ms"),
    ("append-lonely-two-witnesses-p50", "ms"),
    ("disk-per-entry", "KiB"),
    ("fsck", "entries/s"),
    ("read-checkpoint-32", "reads/s"),
    ("read-tile-32", "reads/s"),
    ("witness-add-checkpoint-16", "cosigned/s"),
    ("witness-add-checkpoint-16-mldsa44", "cosigned/s"),
];

#[test]
fn every_row_is_measured() {
    let folder =
        std::env::var_os("GLASSBLOOM_PROGRAMS").map_or_else(|| build::programs().unwrap(), Into::into);
    for program in ["glassbloom-auditor", "glassbloom-bench", "glassbloom-log"] {
        if !folder.join(program).exists() {
            return skipped(&format!("{program} is not built; `cargo ci` builds it"));
        }
    }
    let data = tempfile::tempdir().unwrap();
    let plan = Plan {
        programs: Programs { folder },
        data: data.path().to_owned(),
        seconds: 0.3,
        repeats: 1,
        entries: 700,
        peer: None,
    };
    let mut lines = Vec::new();
    let mut collect = |line: &Line| lines.push(line.clone());
    let mut bench = Bench::new(plan, &|_| (), &mut collect);
    for row in Row::value_variants() {
        bench.run(*row).unwrap();
    }
    let numbers: BTreeSet<(&str, &str)> = lines.iter().map(|line| (line.row.as_str(), line.unit)).collect();
    let expected = BTreeSet::from(NUMBERS);
    assert_eq!(numbers, expected);
    for line in &lines {
        assert!(line.value > 0.0 && line.its_value > 0.0, "{line}");
        assert_eq!(line.to_string().split('\t').count(), 6, "{line}");
    }
    // Each number stands beside a limit of this machine, and what was recorded of the peer.
    for (row, _) in expected {
        let mut beside = lines.iter().filter(|line| line.row == row).map(|line| line.other.as_str());
        assert!(beside.any(|other| other.starts_with("limit-")), "{row} has no limit");
    }
    assert!(lines.iter().any(|line| line.other == "tessera-recorded"));
}
