//! `glassbloom providers`: who serves, by what evidence, as this client's own policy sees it.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use glassbloom_service::{Clock, ExitCode, SystemClock};
use glassbloom_spec::{bundle::utc, id::UnixSeconds, policy::OpenError};

use super::complain;
use crate::{
    config,
    providers::{self, By, Listed, Shown, State},
    store::Store,
    trust::{self, TrustError},
};

/// Which providers, and under which policy.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Whom to believe; by default the policy that proxy.toml names.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Only those that serve this model.
    #[arg(long, value_name = "ALIAS")]
    model: Option<String>,
    /// Those whose time is over, too.
    #[arg(long)]
    all: bool,
    /// As JSON, everything in full.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(data: &Path, arguments: &Arguments) -> ExitCode {
    let policy = match &arguments.policy {
        Some(file) => config::read_policy(file),
        None => config::Config::load(data).map(|config| config.policy),
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => return complain(&error, ExitCode::Usage),
    };
    // What this client has seen before, if it has seen anything: without it there is nothing to compare with.
    let database = data.join("receipts.db");
    let store = match database.exists() {
        true => match Store::open(&database).await {
            Ok(store) => Some(store),
            Err(error) => return complain(&error, ExitCode::Usage),
        },
        false => None,
    };
    let now = SystemClock.now().seconds();
    let registry = match trust::follow_registry(&policy, store.as_ref(), now).await {
        Ok(registry) => registry,
        Err(error) => {
            let code = code(&error);
            return complain(&error.into(), code);
        }
    };
    let mut listed = providers::list(&registry, &policy, arguments.model.as_deref(), now);
    let before = listed.len();
    if !arguments.all {
        listed.retain(|it| it.state != State::Expired);
    }
    if arguments.json {
        let json = serde_json::json!({"registry": registry.head(), "providers": listed});
        println!("{json:#}");
    } else {
        print!("{}", text(&listed, now));
        match before - listed.len() {
            0 => {}
            expired => println!("{expired} more whose time is over: `glassbloom providers --all`"),
        }
        println!("{} at size {}", registry.origin(), registry.size());
    }
    ExitCode::Ok
}

fn code(error: &TrustError) -> ExitCode {
    match error {
        TrustError::Checkpoint(OpenError::Malformed(_)) => ExitCode::Malformed,
        TrustError::Aged { .. } | TrustError::Checkpoint(OpenError::Quorum { .. }) => ExitCode::Stale,
        TrustError::Older { .. } => ExitCode::Stale,
        TrustError::Checkpoint(_) | TrustError::Fork { .. } | TrustError::Rejected(_) => ExitCode::Rejected,
        TrustError::Fetch(_) | TrustError::Sync(_) | TrustError::Upstream(_) => ExitCode::Unreachable,
        TrustError::Policy(_) | TrustError::Store(_) => ExitCode::Usage,
    }
}

/// The list for people.
fn text(listed: &[Listed], now: UnixSeconds) -> String {
    let mut out = String::new();
    for it in listed {
        one(&mut out, it, now);
        out.push('\n');
    }
    if listed.is_empty() {
        out.push_str("no provider\n");
    }
    out
}

fn one(out: &mut String, it: &Listed, now: UnixSeconds) {
    let (state, why) = match &it.state {
        State::Expired => ("expired", None),
        State::MayServe => ("may serve", None),
        State::NotJudged => ("not judged yet", None),
        State::Revoked { reason } => ("revoked", Some(reason.clone())),
        State::Refused { by, reasons } => {
            let by = match by {
                By::Log => "by the log",
                By::Policy => "by your policy",
                By::Rules => "by the coordinator's rules",
            };
            ("refused", Some(format!("{by}: {}", reasons.join(", "))))
        }
    };
    let tier = it.tier.unwrap_or("nothing proven");
    let _ = writeln!(out, "provider {:.16}  {tier}  {state}", it.provider.0.to_string());
    let mut line = |label: &str, text: &str| wrap(out, label, text);
    line("why", &why.unwrap_or_default());
    if let Some(rules) = it.tier_by_rules.filter(|rules| Some(*rules) != it.tier) {
        line(
            "rules",
            &format!("{rules} by the coordinator's rules, which believe others than your policy does"),
        );
    }
    line(
        "age",
        &format!(
            "first seen {}, this key since {}, until {}",
            ago(it.first_seen, now),
            ago(it.key_since, now),
            date(it.not_after)
        ),
    );
    if let Some(end) = it.certificates_end.filter(|end| *end < now) {
        line("certificates", &format!("valid when the evidence was made; expired since {}", date(end)));
    }
    let build = it.build.to_string();
    line(
        "build",
        &match &it.release {
            None => format!("{build:.16}, which no logged release covers"),
            Some(release) => format!(
                "{} for {} ({build:.16}, commit {:.12})",
                release.version, release.platform, release.commit
            ),
        },
    );
    line("models", &it.models.join(", "));
    for claim in &it.claims {
        line("claim", &said(claim));
    }
    let continuity = &it.continuity;
    line(
        "continuity",
        &format!(
            "{}, {}, {}",
            count(continuity.attestations, "attestation"),
            count(continuity.rotations, "rotation"),
            continuity.discontinuity.as_deref().map_or_else(
                || "no discontinuity".to_owned(),
                |why| format!("began with a discontinuity: {why}")
            )
        ),
    );
    for provider in &continuity.claimed_by {
        let provider = provider.0.to_string();
        line("continuity", &format!("provider {provider:.16} claims to go on from here and does not"));
    }
    for conflict in &continuity.conflicts {
        line("conflict", conflict);
    }
    line("not proven:", it.not_proven);
}

fn said(claim: &Shown) -> String {
    let value = match (claim.known, claim.value.as_deref()) {
        ("redacted", Some(commitment)) => format!("redacted ({commitment:.16})"),
        (_, Some(value)) => value.to_owned(),
        (_, None) => "unknown".to_owned(),
    };
    let believed = match (claim.by_policy, claim.by_rules) {
        (true, true) => "",
        (true, false) => "; by your policy only",
        (false, _) => "; by the coordinator's rules only",
    };
    format!("{}: {value} ({}{believed})", claim.name, claim.by)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn date(at: UnixSeconds) -> String {
    format!("{} UTC", utc(at.get() / 60))
}

fn ago(at: UnixSeconds, now: UnixSeconds) -> String {
    let seconds = now.get().saturating_sub(at.get());
    let age = match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    };
    format!("{} ({age})", date(at))
}

/// Writes a labelled paragraph; nothing for an empty one.
fn wrap(out: &mut String, label: &str, text: &str) {
    let (mut lead, mut line) = (format!("  {label:<LABEL$}"), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && lead.chars().count() + line.chars().count() + 1 + word.chars().count() > WIDTH
        {
            let _ = writeln!(out, "{lead}{line}");
            (lead, line) = (" ".repeat(LABEL + 2), String::new());
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(out, "{lead}{line}");
    }
}

const LABEL: usize = 13;
const WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use glassbloom_testdata::world::{NOW, Plan, World};

    use super::*;
    use crate::providers::tests::{of_a_mac, registry};

    fn shown(world: &World, now: u64) -> String {
        let now = UnixSeconds::new(now);
        text(&providers::list(&registry(world), &world.policy(), None, now), now)
    }

    #[test]
    fn a_provider_is_shown_with_what_is_not_proven() {
        let world = World::of(Plan::default());
        let text = shown(&world, NOW + 3 * 3600);
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.starts_with("provider ") && first.ends_with("  self-signed  may serve"), "{text}");
        for line in [
            "  age          first seen 2026-11-20 17:23 UTC (3 h), this key since 2026-11-20 17:23 UTC (3 h),\n",
            "  build        0.1.0 for aarch64-macos (",
            "  models       bloom-tiny",
            "  continuity   1 attestation, 0 rotations, no discontinuity",
            "  not proven:  that the keys live in hardware, that the machine is genuine, that the stated build is\n",
        ] {
            assert!(rest.contains(line), "{line:?} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(shown(&world, NOW + 13 * 3600).contains("  expired\n"));
    }

    #[test]
    fn each_claim_is_shown_with_who_vouches_and_who_believes_them() {
        let text = shown(&of_a_mac(), NOW);
        for line in [
            "  nothing proven  refused\n",
            "  why          by your policy: endorser-unknown\n",
            "  rules        mda by the coordinator's rules, which believe others than your policy does\n",
            "  claim        secure-boot: Full Security (apple; by the coordinator's rules only)\n",
            "  claim        serial: redacted (",
            "  not proven:  anything: this policy does not believe the evidence\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }
}
