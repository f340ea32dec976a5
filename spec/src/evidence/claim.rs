//! What evidence proves, claim by claim, with who vouches for each.

use core::fmt;

use crate::{hash::Hash, id::UnixSeconds, leaf::Tier};

/// Who vouches for a claim. Never merged into one badge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Voucher {
    /// The provider alone.
    Own,
    /// A device management server, through a genuine device.
    Mdm,
    /// Apple.
    Apple,
    /// A TPM.
    Tpm,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
    /// An auditor who saw what the public does not.
    Endorser,
}

impl Voucher {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Mdm => "mdm",
            Self::Apple => "apple",
            Self::Tpm => "tpm",
            Self::Amd => "amd",
            Self::Intel => "intel",
            Self::Endorser => "endorser",
        }
    }
}

impl fmt::Display for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Present, absent or redacted: three states, so that leaving something out never passes for having it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The evidence does not say, or says nothing with a blank.
    Absent,
    /// The evidence says so.
    Present(String),
    /// The evidence holds a salted commitment to it.
    Redacted(Hash),
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("unknown"),
            Self::Present(value) => f.write_str(value),
            Self::Redacted(commitment) => write!(f, "redacted ({commitment:.16})"),
        }
    }
}

/// One thing that evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Stable name, such as `secure-boot`.
    pub name: &'static str,
    /// What is known of it.
    pub value: Known,
    /// Who vouches for it.
    pub by: Voucher,
}

/// What code hardware says runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// Full SHA-256 of the CodeDirectory that made the signature; a release must name it.
    CodeDirectory(Hash),
    /// The launch measurement of a confidential virtual machine, to the byte; a release must name its SHA-256.
    Launch(Vec<u8>),
}

impl Code {
    /// What a release names.
    pub fn digest(&self) -> Hash {
        match self {
            Self::CodeDirectory(hash) => *hash,
            Self::Launch(measurement) => Hash::of(measurement),
        }
    }
}

/// What evidence proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// How the keys are backed.
    pub tier: Tier,
    /// In the order in which people should read them.
    pub claims: Vec<Claim>,
    /// Names the device without telling which it is: the same for every key of one device, and hard to guess.
    pub device: Option<Hash>,
    /// What hardware says runs; `None` where only the provider says so.
    pub code: Option<Code>,
    /// Whether the evidence shows that the sealing key is in the hands of whoever signs: else the attestation must.
    pub holds_sealing_key: bool,
    /// When the evidence's certificates end; what was valid at its time and is not now is shown apart.
    pub expires: Option<UnixSeconds>,
    /// The counter of a device that counts its signatures.
    pub counter: Option<u32>,
}

impl Proven {
    /// Nothing but the tier.
    pub const fn new(tier: Tier) -> Self {
        Self {
            tier,
            claims: Vec::new(),
            device: None,
            code: None,
            holds_sealing_key: false,
            expires: None,
            counter: None,
        }
    }

    /// Adds a claim.
    pub fn claim(&mut self, name: &'static str, by: Voucher, value: impl Into<String>) {
        self.claims.push(Claim { name, value: Known::Present(value.into()), by });
    }
}

/// Evidence that proves nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// Stable and machine-readable: the reason in a verdict.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
}

impl Refused {
    /// A reason with its detail.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// The bytes are not of the format.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new("evidence-malformed", detail)
    }
}
