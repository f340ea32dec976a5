//! The policy file.

use std::collections::HashSet;

use core::str::FromStr;

use super::{DEFAULT_CHECKPOINT_AGE, Group, Log, Member, Policy, Quorum, Witness};
use crate::{
    curve::PublicKey,
    evidence::Anchor,
    id::parse_decimal,
    leaf::Tier,
    note::{KeyError, VerifierKey},
};

/// A policy that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}: {problem}")]
pub struct PolicyError {
    /// Counted from 1; one past the last for what is missing.
    pub line: usize,
    /// What is wrong with it.
    pub problem: PolicyProblem,
}

/// What is wrong with a policy's line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// Not a tier of TPMs with the hash of a key.
    #[error(
        "{0:?} is not `tpm-hw` or `tpm-soft` with 64 hexadecimal digits: the SHA-256 of the root's public key"
    )]
    BadAnchor(String),
    /// Control characters, as from a file with Windows line ends.
    #[error("control characters other than tab are not allowed; save the file with plain newlines")]
    BadCharacter,
    /// Not a positive number with s, m, h or d.
    #[error("{0:?} is not an age such as 90s, 15m, 24h or 7d")]
    BadAge(String),
    /// Not a usable vkey.
    #[error("{0}")]
    BadKey(#[from] KeyError),
    /// Not base64 of a compressed P-256 point.
    #[error("not base64 of a 33-byte compressed P-256 point")]
    BadStatementKey,
    /// Not `any`, `all` or a number from 1 to that of the members.
    #[error("{0:?} is not a threshold: use any, all, or a number from 1 to that of the members")]
    BadThreshold(String),
    /// The key, or one that cannot be told from it, is on an earlier line.
    #[error("the same key is on an earlier line")]
    DuplicateKey,
    /// The name is taken, or predefined.
    #[error("the name {0:?} is already defined")]
    DuplicateName(String),
    /// There may be only one such line.
    #[error("a second {0} line")]
    DuplicateLine(&'static str),
    /// Each name may contribute to a quorum in one way only.
    #[error("{0:?} is already a member of a group")]
    MemberTwice(String),
    /// No quorum line at all.
    #[error("there is no quorum line; add `quorum NAME`, or `quorum none` to trust the log alone")]
    NoQuorum,
    /// The lines of one log name two places.
    #[error("the log has another URL on an earlier line")]
    TwoUrls,
    /// Not a keyword of a policy.
    #[error("{0:?} is not a policy keyword")]
    UnknownKeyword(String),
    /// Names are used after the line that defines them.
    #[error("{0:?} is not defined on a line above")]
    UnknownName(String),
    /// A log cannot vouch for itself.
    #[error("{0:?} names both a log and a witness key: a log cannot be its own witness")]
    WitnessIsLog(String),
    /// The algorithm does not fit the role.
    #[error("a key of this type cannot sign as a {0}")]
    WrongAlgorithm(&'static str),
    /// Too few or too many words.
    #[error("expected: {0}")]
    WrongWords(&'static str),
}

impl Policy {
    /// Parses a policy file.
    ///
    /// # Errors
    /// At the first line that breaks a rule of `[c2sp.org/tlog-policy]` or of our extra lines.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut draft = Draft::default();
        let mut count = 0;
        for (at, line) in text.split('\n').enumerate() {
            draft.line(line).map_err(|problem| PolicyError { line: at + 1, problem })?;
            count = at + 1;
        }
        draft.finish().map_err(|problem| PolicyError { line: count + 1, problem })
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text)
    }
}

/// A policy of which some lines have been read.
#[derive(Default)]
struct Draft {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Quorum>,
    coordinators: Vec<PublicKey>,
    releases: Vec<PublicKey>,
    release_threshold: Option<usize>,
    accepted_tiers: Vec<String>,
    anchors: Vec<Anchor>,
    endorsers: Vec<PublicKey>,
    apps: Vec<String>,
    checkpoint_age: Option<u64>,
    /// Raw public keys, whatever their names: one key is one party.
    raw_keys: HashSet<Vec<u8>>,
    /// How keys are found in notes: two keys with the same pair could not be told apart.
    claims: HashSet<(String, [u8; 4])>,
    grouped: HashSet<String>,
}

impl Draft {
    fn line(&mut self, line: &str) -> Result<(), PolicyProblem> {
        if line.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return Err(PolicyProblem::BadCharacter);
        }
        // Only these two separate: other Unicode spaces are part of a name.
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(key, None),
            ["log", key, url] => self.log(key, Some(url)),
            ["log", ..] => Err(PolicyProblem::WrongWords("log VKEY [URL]")),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["witness", ..] => Err(PolicyProblem::WrongWords("witness NAME VKEY [URL]")),
            ["group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            ["group", ..] => Err(PolicyProblem::WrongWords("group NAME any|all|K MEMBER...")),
            ["quorum", name] => self.quorum(name),
            ["quorum", ..] => Err(PolicyProblem::WrongWords("quorum NAME|none")),
            ["coordinator", key] => add_statement_key(&mut self.coordinators, key),
            ["coordinator", ..] => Err(PolicyProblem::WrongWords("coordinator KEY")),
            ["release", key] => add_statement_key(&mut self.releases, key),
            ["release", ..] => Err(PolicyProblem::WrongWords("release KEY")),
            ["release-threshold", number] => self.threshold(number),
            ["release-threshold", ..] => Err(PolicyProblem::WrongWords("release-threshold K")),
            ["anchor", tier, key, name @ ..] if !name.is_empty() => self.anchor(tier, key, &name.join(" ")),
            ["anchor", ..] => Err(PolicyProblem::WrongWords("anchor tpm-hw|tpm-soft SHA256-OF-ITS-KEY NAME")),
            ["endorser", key] => add_statement_key(&mut self.endorsers, key),
            ["endorser", ..] => Err(PolicyProblem::WrongWords("endorser KEY")),
            ["app", app] => self.app(app),
            ["app", ..] => Err(PolicyProblem::WrongWords("app TEAM.BUNDLE")),
            ["accept", tiers @ ..] if !tiers.is_empty() => self.accept(tiers),
            ["accept", ..] => Err(PolicyProblem::WrongWords("accept TIER...")),
            ["checkpoint-age", age] => self.age(age),
            ["checkpoint-age", ..] => Err(PolicyProblem::WrongWords("checkpoint-age N[smhd]")),
            [keyword, ..] => Err(PolicyProblem::UnknownKeyword((*keyword).to_owned())),
        }
    }

    fn log(&mut self, key: &str, url: Option<&str>) -> Result<(), PolicyProblem> {
        let key: VerifierKey = key.parse()?;
        if !key.algorithm().is_for_logs() {
            return Err(PolicyProblem::WrongAlgorithm("log"));
        }
        if self.witnesses.iter().any(|witness| witness.key.name() == key.name()) {
            return Err(PolicyProblem::WitnessIsLog(key.name().to_owned()));
        }
        self.claim(&key)?;
        let url = url.map(str::to_owned);
        match self.logs.iter_mut().find(|log| log.origin == key.name()) {
            None => self.logs.push(Log { origin: key.name().to_owned(), keys: vec![key], url }),
            Some(log) => {
                if log.url.is_some() && url.is_some() && log.url != url {
                    return Err(PolicyProblem::TwoUrls);
                }
                log.url = log.url.take().or(url);
                log.keys.push(key);
            }
        }
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyProblem> {
        self.define(name)?;
        let key: VerifierKey = key.parse()?;
        if !key.algorithm().is_for_witnesses() {
            return Err(PolicyProblem::WrongAlgorithm("witness"));
        }
        if self.logs.iter().any(|log| log.origin == key.name()) {
            return Err(PolicyProblem::WitnessIsLog(key.name().to_owned()));
        }
        self.claim(&key)?;
        self.witnesses.push(Witness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, names: &[&str]) -> Result<(), PolicyProblem> {
        self.define(name)?;
        let mut members = Vec::with_capacity(names.len());
        for &member in names {
            let found = self.find(member).ok_or_else(|| PolicyProblem::UnknownName(member.to_owned()))?;
            if !self.grouped.insert(member.to_owned()) {
                return Err(PolicyProblem::MemberTwice(member.to_owned()));
            }
            members.push(found);
        }
        let number = match threshold {
            "any" => Some(1),
            "all" => Some(members.len()),
            number => parse_decimal(number).ok().and_then(|number| usize::try_from(number).ok()),
        };
        let threshold = number
            .filter(|number| (1..=members.len()).contains(number))
            .ok_or_else(|| PolicyProblem::BadThreshold(threshold.to_owned()))?;
        self.groups.push(Group { name: name.to_owned(), threshold, members });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), PolicyProblem> {
        if self.quorum.is_some() {
            return Err(PolicyProblem::DuplicateLine("quorum"));
        }
        self.quorum = Some(match name {
            NONE => None,
            name => Some(self.find(name).ok_or_else(|| PolicyProblem::UnknownName(name.to_owned()))?),
        });
        Ok(())
    }

    fn accept(&mut self, tiers: &[&str]) -> Result<(), PolicyProblem> {
        for &tier in tiers {
            if self.accepted_tiers.iter().any(|known| known == tier) {
                return Err(PolicyProblem::DuplicateName(tier.to_owned()));
            }
            self.accepted_tiers.push(tier.to_owned());
        }
        Ok(())
    }

    fn threshold(&mut self, number: &str) -> Result<(), PolicyProblem> {
        if self.release_threshold.is_some() {
            return Err(PolicyProblem::DuplicateLine("release-threshold"));
        }
        let threshold = parse_decimal(number).ok().and_then(|number| usize::try_from(number).ok());
        self.release_threshold = Some(
            threshold
                .filter(|&threshold| threshold > 0)
                .ok_or_else(|| PolicyProblem::BadThreshold(number.to_owned()))?,
        );
        Ok(())
    }

    fn anchor(&mut self, tier: &str, key: &str, name: &str) -> Result<(), PolicyProblem> {
        let bad = || PolicyProblem::BadAnchor(format!("{tier} {key}"));
        let tier: Tier = tier.parse().map_err(|_| bad())?;
        if !matches!(tier, Tier::TpmHw | Tier::TpmSoft) {
            return Err(bad());
        }
        let key = key.parse().map_err(|_| bad())?;
        if self.anchors.iter().any(|anchor| anchor.key == key) {
            return Err(PolicyProblem::DuplicateKey);
        }
        self.anchors.push(Anchor { tier, key, name: name.to_owned() });
        Ok(())
    }

    fn app(&mut self, app: &str) -> Result<(), PolicyProblem> {
        if self.apps.iter().any(|known| known == app) {
            return Err(PolicyProblem::DuplicateName(app.to_owned()));
        }
        self.apps.push(app.to_owned());
        Ok(())
    }

    fn age(&mut self, age: &str) -> Result<(), PolicyProblem> {
        if self.checkpoint_age.is_some() {
            return Err(PolicyProblem::DuplicateLine("checkpoint-age"));
        }
        let seconds = parse_age(age).ok_or_else(|| PolicyProblem::BadAge(age.to_owned()))?;
        self.checkpoint_age = Some(seconds);
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Member> {
        let witness = self.witnesses.iter().position(|witness| witness.name == name).map(Member::Witness);
        witness.or_else(|| self.groups.iter().position(|group| group.name == name).map(Member::Group))
    }

    fn define(&self, name: &str) -> Result<(), PolicyProblem> {
        if name == NONE || self.find(name).is_some() {
            return Err(PolicyProblem::DuplicateName(name.to_owned()));
        }
        Ok(())
    }

    fn claim(&mut self, key: &VerifierKey) -> Result<(), PolicyProblem> {
        let new = self.raw_keys.insert(key.public_bytes().to_vec());
        if !new || !self.claims.insert((key.name().to_owned(), key.key_id())) {
            return Err(PolicyProblem::DuplicateKey);
        }
        Ok(())
    }

    fn finish(self) -> Result<Policy, PolicyProblem> {
        let release_threshold = self.release_threshold.unwrap_or(1);
        // More than there are keys would mean that nothing ever serves: a slip, told at once.
        if self.release_threshold.is_some_and(|threshold| threshold > self.releases.len()) {
            return Err(PolicyProblem::BadThreshold(release_threshold.to_string()));
        }
        Ok(Policy {
            logs: self.logs,
            witnesses: self.witnesses,
            groups: self.groups,
            quorum: self.quorum.ok_or(PolicyProblem::NoQuorum)?,
            coordinators: self.coordinators,
            releases: self.releases,
            release_threshold,
            accepted_tiers: self.accepted_tiers,
            anchors: self.anchors,
            endorsers: self.endorsers,
            apps: self.apps,
            checkpoint_age: self.checkpoint_age.unwrap_or(DEFAULT_CHECKPOINT_AGE),
        })
    }
}

fn add_statement_key(keys: &mut Vec<PublicKey>, text: &str) -> Result<(), PolicyProblem> {
    let key = text.parse().map_err(|_| PolicyProblem::BadStatementKey)?;
    if keys.contains(&key) {
        return Err(PolicyProblem::DuplicateKey);
    }
    keys.push(key);
    Ok(())
}

/// Seconds, minutes, hours or days; seconds when there is no unit.
fn parse_age(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    parse_decimal(digits).ok()?.checked_mul(unit).filter(|&seconds| seconds > 0)
}

const NONE: &str = "none";
