//! Verifies a file of evidence by itself and explains it field by field.
//!
//! # In scope
//! Statements of ours that carry evidence, evidence in our own maps, and what vendors' hardware writes: App Attest
//! objects and assertions, Managed Device Attestation chains, TPM structures, SEV-SNP reports, TDX quotes, and X.509
//! certificates. The kind is found by content. Everything is decided by `glassbloom-spec`; what stands here tells it.
//!
//! # Out of scope
//! The registry: whether a build is released or a key revoked is what `audit` finds out.

mod apple;
mod certificate;
mod detect;
mod map;
mod show;
mod statement;
mod time;
mod tpm;
mod vm;

use glassbloom_spec::{
    evidence::{Claim, Proven, Refused, Trust, Voucher},
    id::UnixSeconds,
    leaf::Tier,
    policy::Policy,
    verify::{Report, State},
};

use detect::Found;
pub use detect::{Malformed, SUPPORTED};
pub use time::{parse as parse_time, text as time_text};

/// How to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to believe: logs and witnesses, makers of TPMs, endorsers, apps.
    pub policy: Option<Policy>,
    /// The time that evidence must have been valid at.
    pub at: Option<UnixSeconds>,
    /// The time now: the default for the one above, and what "expired since" is measured from.
    pub now: UnixSeconds,
    /// What hardware must have signed, where the file does not say.
    pub nonce: Option<Vec<u8>>,
    /// Show serial numbers.
    pub reveal: bool,
}

impl Options {
    /// Whom to believe.
    fn trust(&self) -> Trust<'_> {
        self.policy.as_ref().map(Policy::trust).unwrap_or_default()
    }

    /// The time to verify at, when the file does not give one.
    fn time(&self) -> UnixSeconds {
        self.at.unwrap_or(self.now)
    }
}

/// One line of what a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which.
    pub name: String,
    /// What it says.
    pub value: String,
    /// Who vouches for it, if all steps hold.
    pub by: Option<Voucher>,
}

/// What a file of evidence says, and what became of each check.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What it is.
    pub kind: String,
    /// The time that it was verified at.
    pub at: UnixSeconds,
    /// Where that time is from.
    pub at_from: &'static str,
    /// Line by line.
    pub fields: Vec<Field>,
    /// The checks.
    pub report: Report,
    /// What was valid at that time and is not now, or will not be.
    pub ends: Option<UnixSeconds>,
    /// How it is backed.
    tier: Option<Tier>,
    /// One line.
    pub does_not_prove: &'static str,
    now: UnixSeconds,
}

impl Explanation {
    fn new(kind: impl Into<String>, options: &Options, does_not_prove: &'static str) -> Self {
        Self {
            kind: kind.into(),
            at: options.time(),
            at_from: if options.at.is_some() { "--at" } else { "now" },
            fields: Vec::new(),
            report: Report::new(),
            ends: None,
            tier: None,
            does_not_prove,
            now: options.now,
        }
    }

    /// Whether something was checked, all that was holds, and the check that the rest leans on is among it.
    pub fn holds(&self) -> bool {
        self.report.state() == State::Verified && !self.is_open(&CORE)
    }

    /// How it is backed, where nothing that the tier's words speak of was left unchecked.
    pub fn proves(&self) -> Option<Tier> {
        self.tier.filter(|_| self.holds() && !self.is_open(&BINDING))
    }

    fn is_open(&self, names: &[&str]) -> bool {
        let open = |name: &str, state| state == State::NotVerifiable && names.contains(&name);
        self.report.steps().iter().any(|step| open(&step.name, step.state))
    }

    fn field(&mut self, name: impl Into<String>, by: Option<Voucher>, value: impl Into<String>) {
        self.fields.push(Field { name: name.into(), value: value.into(), by });
    }

    fn verified(&mut self, name: &str, detail: impl Into<String>) {
        self.report.push(name, State::Verified, detail);
    }

    fn failed(&mut self, name: &str, detail: impl Into<String>) {
        self.report.push(name, State::Failed, detail);
    }

    fn open(&mut self, name: &str, detail: impl Into<String>) {
        self.report.push(name, State::NotVerifiable, detail);
    }

    /// A failed step, with the command that helps where the time is what is wrong.
    fn refused(&mut self, name: &str, refused: &Refused) {
        let out_of_time = refused.reason.ends_with("-expired") || refused.reason.ends_with("-not-yet-valid");
        let hint = if out_of_time && self.at_from == "now" {
            "; with --at TIME it is verified as of when it was made"
        } else {
            ""
        };
        self.failed(name, format!("{refused}{hint}"));
    }

    /// A step, and the value where it holds.
    fn step<T>(&mut self, name: &str, result: Result<T, Refused>, holds: impl Into<String>) -> Option<T> {
        match result {
            Ok(value) => {
                self.verified(name, holds);
                Some(value)
            }
            Err(refused) => {
                self.refused(name, &refused);
                None
            }
        }
    }

    /// Takes over what evidence proves.
    fn proven(&mut self, proven: &Proven) {
        for Claim { name, value, by } in &proven.claims {
            self.field(*name, Some(*by), value.to_string());
        }
        if let Some(device) = proven.device
            && !proven.claims.iter().any(|claim| claim.name == "device")
        {
            self.field("device", None, device.to_string());
        }
        if let Some(code) = &proven.code {
            self.field("code that a release must name", None, code.digest().to_string());
        }
        self.ends_by(proven.expires);
        self.tier = Some(proven.tier);
        self.does_not_prove = proven.tier.does_not_prove();
    }

    /// The first end counts.
    fn ends_by(&mut self, end: Option<UnixSeconds>) {
        self.ends = match (self.ends, end) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Explains a file, with the files that belong to it: certificates, a signature, collateral.
///
/// # Errors
/// When it is of no supported kind, or not whole.
pub fn explain(file: &[u8], with: &[Vec<u8>], options: &Options) -> Result<Explanation, Malformed> {
    let found = detect::detect(file)?;
    let with: Vec<Found> = with.iter().filter_map(|bytes| detect::detect(bytes).ok()).collect();
    match found {
        Found::Statement(statement) => Ok(statement::explain(&statement, &with, options)),
        Found::Certificates(chain) => certificate::explain(&chain, &with, options),
        Found::Captures(captures) => apple::captures(&captures, &with, options),
        Found::Map(format, bytes) => Ok(map::explain(format, &bytes, options)),
        Found::Mda(chain) => apple::mda(&chain, &with, options),
        Found::TpmAttest(attest) => tpm::attest(&attest, &with, options),
        Found::TpmPublic(public) => tpm::public(&public, options),
        Found::TpmSignature(signature) => tpm::signature(&signature, options),
        Found::SnpReport(report) => Ok(vm::snp(&report, &with, options)),
        Found::TdxQuote(quote) => Ok(vm::tdx(&quote, &with, options)),
        Found::TdxCollateral(_) => Err(Malformed(
            "this is what Intel says about TDX machines: give the quote itself, and this file with --with"
                .to_owned(),
        )),
    }
}

/// Steps without which the others say nothing.
const CORE: [&str; 9] =
    ["assertion", "chain", "collateral", "enrolment", "evidence", "object", "quote", "report", "signature"];
/// Steps that tie hardware to keys and to a time.
const BINDING: [&str; 3] = ["beacon", "keys", "nonce"];

/// Bytes in hexadecimal, the first of them where they are many.
fn hex_text(bytes: &[u8]) -> String {
    match bytes.split_at_checked(48) {
        Some((start, rest)) if !rest.is_empty() => {
            format!("{}… ({} bytes)", hex::encode(start), bytes.len())
        }
        _ => hex::encode(bytes),
    }
}
