//! Policy files: what is accepted, and each rule of the format broken once.

use glassbloom_spec::{
    note::NoteSigner,
    policy::{DEFAULT_CHECKPOINT_AGE, Policy, PolicyProblem},
};

use crate::support::{ORIGIN, log_key, log_pq_key, policy, policy_text, witness};

/// The generator of P-256, compressed.
const KEY: &str = "A2sX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKW";

fn problem(text: &str) -> (usize, PolicyProblem) {
    let error = Policy::parse(text).unwrap_err();
    (error.line, error.problem)
}

/// The problem of the first rule after the lines of [`policy_text`], which are six.
fn rule_problem(rules: &str) -> PolicyProblem {
    problem(&policy_text(rules)).1
}

#[test]
fn a_whole_policy_round_trips() {
    let text = format!(
        "# who to believe\n\n\t log {}  https://log.example/registry \nlog {}\n\
         witness one {} https://w1.example\nwitness two {}\nwitness three {}\n\
         group inner any two three\ngroup outer all one inner\n  # half\nquorum outer\n\
         coordinator {KEY}\nrelease {KEY}\naccept app-attest tdx\naccept sev-snp\ncheckpoint-age 15m",
        log_key().vkey(),
        log_pq_key().vkey(),
        witness(1).vkey(),
        witness(2).vkey(),
        witness(3).vkey(),
    );
    let policy = Policy::parse(&text).unwrap();
    assert_eq!((policy.logs().len(), policy.logs()[0].keys.len(), policy.witnesses().len()), (1, 2, 3));
    assert_eq!(policy.log_url(ORIGIN), Some("https://log.example/registry"));
    assert_eq!(policy.log_url("other.example"), None);
    assert_eq!((policy.witness_url("one"), policy.witness_url("two")), (Some("https://w1.example"), None));
    assert_eq!(policy.quorum(), "outer");
    assert_eq!(policy.coordinators(), policy.releases());
    assert_eq!(policy.coordinators()[0].to_string(), KEY);
    assert_eq!(policy.accepted_tiers(), ["app-attest", "tdx", "sev-snp"]);
    assert_eq!(policy.checkpoint_age(), 15 * 60);
    assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
}

#[test]
fn the_least_policy() {
    let policy = Policy::parse("quorum none").unwrap();
    assert_eq!((policy.logs().len(), policy.quorum()), (0, "none"));
    assert_eq!(policy.checkpoint_age(), DEFAULT_CHECKPOINT_AGE);
    assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
}

#[test]
fn thirty_two_of_each_are_accepted() {
    let mut text = String::new();
    for n in 0..32 {
        let log = NoteSigner::ed25519_log(&format!("log{n}.example"), [n; 32]).unwrap();
        let witness = NoteSigner::ed25519_witness(&format!("w{n}.example"), [100 + n; 32]).unwrap();
        text += &format!("log {}\nwitness w{n} {}\ngroup g{n} any w{n}\n", log.vkey(), witness.vkey());
    }
    let names: Vec<String> = (0..32).map(|n| format!("g{n}")).collect();
    text += &format!("group all 20 {}\nquorum all\n", names.join(" "));
    assert_eq!(Policy::parse(&text).unwrap().witnesses().len(), 32);
}

#[test]
fn lines_in_the_wrong_form() {
    for rules in [
        "log",
        "log a b c",
        "witness w",
        "witness w k u more",
        "group g any",
        "group g",
        "quorum",
        "quorum a b",
        "coordinator",
        "coordinator a b",
        "release",
        "accept",
        "checkpoint-age",
        "checkpoint-age 1 2",
    ] {
        assert!(matches!(rule_problem(rules), PolicyProblem::WrongWords(_)), "{rules}");
    }
    assert_eq!(rule_problem("Quorum none"), PolicyProblem::UnknownKeyword("Quorum".into()));
    assert_eq!(rule_problem("quorum\u{a0}none"), PolicyProblem::UnknownKeyword("quorum\u{a0}none".into()));
    assert_eq!(problem("quorum none\r\n"), (1, PolicyProblem::BadCharacter));
    assert_eq!(problem("\n#\u{7f}\nquorum none\n"), (2, PolicyProblem::BadCharacter));
    assert_eq!(problem("# nothing\n"), (3, PolicyProblem::NoQuorum));
    assert_eq!(rule_problem("quorum none\nquorum none\n"), PolicyProblem::DuplicateLine("quorum"));
    assert!(matches!(rule_problem("log nonsense\n"), PolicyProblem::BadKey(_)));
}

#[test]
fn names_are_defined_once_and_before_use() {
    let undefined = |name: &str| PolicyProblem::UnknownName(name.into());
    assert_eq!(problem("quorum later\nwitness later x"), (1, undefined("later")));
    assert_eq!(rule_problem("group g any w1 w9\nquorum g"), undefined("w9"));
    assert_eq!(rule_problem("group g any g\nquorum g"), undefined("g"));
    assert_eq!(rule_problem("group g any none\nquorum g"), undefined("none"));
    let twice = |name: &str| PolicyProblem::DuplicateName(name.into());
    assert_eq!(rule_problem("group w1 any w2\nquorum w1"), twice("w1"));
    assert_eq!(rule_problem("group none any w2\nquorum none"), twice("none"));
    assert_eq!(rule_problem("group g any w1\ngroup g any w2\nquorum g"), twice("g"));
    let spare = NoteSigner::ed25519_witness("spare.example", [50; 32]).unwrap();
    assert_eq!(rule_problem(&format!("witness w1 {}\n", spare.vkey())), twice("w1"));
    assert_eq!(rule_problem(&format!("witness none {}\n", spare.vkey())), twice("none"));
}

#[test]
fn a_member_counts_in_one_way_only() {
    let twice = |name: &str| PolicyProblem::MemberTwice(name.into());
    assert_eq!(rule_problem("group g 2 w1 w1\nquorum g"), twice("w1"));
    assert_eq!(rule_problem("group g any w1\ngroup h any w1\nquorum h"), twice("w1"));
    assert_eq!(rule_problem("group g any w1\ngroup h any g\ngroup i any g\nquorum i"), twice("g"));
}

#[test]
fn thresholds_lie_between_one_and_all() {
    for threshold in ["0", "3", "01", "+1", "-1", "ALL", "99999999999999999999", "1.0"] {
        let rules = format!("group g {threshold} w1 w2\nquorum g");
        assert_eq!(rule_problem(&rules), PolicyProblem::BadThreshold(threshold.into()));
    }
    for threshold in ["any", "all", "1", "2"] {
        policy(&format!("group g {threshold} w1 w2\nquorum g"));
    }
}

#[test]
fn one_key_is_one_party() {
    let duplicate = PolicyProblem::DuplicateKey;
    assert_eq!(rule_problem(&format!("log {}\n", log_key().vkey())), duplicate);
    let renamed = NoteSigner::ed25519_log("renamed.example", [1; 32]).unwrap();
    assert_eq!(rule_problem(&format!("log {}\n", renamed.vkey())), duplicate);
    let renamed = NoteSigner::ed25519_witness("renamed.example", [11; 32]).unwrap();
    assert_eq!(rule_problem(&format!("witness w5 {}\n", renamed.vkey())), duplicate);
    // The log's raw key as a witness's.
    let own = NoteSigner::ed25519_witness("own.example", [1; 32]).unwrap();
    assert_eq!(rule_problem(&format!("witness w5 {}\n", own.vkey())), duplicate);
}

#[test]
fn a_log_is_not_its_own_witness() {
    let own = NoteSigner::ed25519_witness(ORIGIN, [60; 32]).unwrap();
    let problem_is = PolicyProblem::WitnessIsLog(ORIGIN.into());
    assert_eq!(rule_problem(&format!("witness w5 {}\n", own.vkey())), problem_is);
    assert_eq!(problem(&format!("witness w {}\nlog {}\n", own.vkey(), log_key().vkey())), (2, problem_is));
}

#[test]
fn keys_keep_their_roles() {
    let (log, cosigner) = (log_key(), witness(1));
    assert_eq!(problem(&format!("log {}\n", cosigner.vkey())), (1, PolicyProblem::WrongAlgorithm("log")));
    assert_eq!(
        problem(&format!("witness w {}\n", log.vkey())),
        (1, PolicyProblem::WrongAlgorithm("witness"))
    );
    let two_places = format!("log {} https://a\nlog {} https://b\n", log.vkey(), log_pq_key().vkey());
    assert_eq!(problem(&two_places), (2, PolicyProblem::TwoUrls));
}

#[test]
fn our_own_lines() {
    assert_eq!(rule_problem(&format!("coordinator {KEY}\ncoordinator {KEY}\n")), PolicyProblem::DuplicateKey);
    let uncompressed = KEY.replacen('A', "B", 1);
    let off_the_curve = format!("Av{}", "/".repeat(42));
    for key in [&KEY[4..], &uncompressed, "%%%", &off_the_curve, &format!("{KEY}=")] {
        assert_eq!(rule_problem(&format!("release {key}\n")), PolicyProblem::BadStatementKey);
    }
    assert_eq!(rule_problem("accept tdx tdx\n"), PolicyProblem::DuplicateName("tdx".into()));
    for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
        assert_eq!(policy(&format!("quorum none\ncheckpoint-age {text}\n")).checkpoint_age(), seconds);
    }
    for age in ["0", "0d", "h", "1w", "01h", "1hh", "-1s", "1.5h", "18446744073709551615d"] {
        assert_eq!(rule_problem(&format!("checkpoint-age {age}\n")), PolicyProblem::BadAge(age.into()));
    }
    let twice = PolicyProblem::DuplicateLine("checkpoint-age");
    assert_eq!(rule_problem("checkpoint-age 1h\ncheckpoint-age 2h\n"), twice);
}
