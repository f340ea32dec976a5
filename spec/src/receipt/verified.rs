//! From a stream and a signature to a receipt that holds, and on to one that is logged.

use super::{Receipt, ReceiptSecret, SealedBy, Usage, charge};
use crate::{
    checkpoint::TreeHead,
    hash::Hash,
    id::LeafIndex,
    leaf::{LeafError, Payload},
    policy::Policy,
    promise::Promised,
    proof::TlogProof,
    statement::Statement,
    verify::VerifiedProvider,
};

/// What a client saw of an exchange with its own eyes.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Commitment to the request that it sealed.
    pub request: Hash,
    /// Root over the chunks that it opened, and how many.
    pub response: (Hash, u64),
    /// The sampling parameters that it asked for, canonically; `None` when they are not known here.
    pub sampling: Option<Vec<u8>>,
    /// Which attempt this was.
    pub attempt: u64,
    /// Who sealed it.
    pub sealed_by: SealedBy,
    /// The secret of the exchange.
    pub secret: ReceiptSecret,
}

/// Why a receipt does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not a receipt statement, or not signed by the provider that was sealed to.
    #[error("the receipt is not signed by the provider that the request was sealed to: {0}")]
    Leaf(#[from] LeafError),
    /// The receipt says something else than what the client saw.
    #[error("the receipt does not match what was sealed and opened here: {0}")]
    Mismatch(&'static str),
    /// The answer ended without a receipt.
    #[error("the answer ended without a receipt")]
    Missing,
    /// The log's proof is not one under the policy.
    #[error("the receipt is not proven to be in the log: {0}")]
    NotLogged(String),
    /// What should be the log's promise is not one under the policy.
    #[error("the log's promise for the receipt does not hold: {0}")]
    NotPromised(String),
}

/// A receipt signed by the provider sealed to, for exactly what the client sent and saw.
#[derive(Clone, Debug)]
pub struct VerifiedReceipt {
    statement: Statement,
    receipt: Receipt,
    usage: Usage,
    secret: ReceiptSecret,
}

impl VerifiedReceipt {
    /// Checks a receipt against the provider and the transcript.
    pub fn check(
        statement: &[u8],
        provider: &VerifiedProvider,
        transcript: &Transcript,
        usage: Usage,
    ) -> Result<Self, ReceiptError> {
        let statement = Statement::parse(statement).map_err(LeafError::from)?;
        let receipt = Receipt::of(&statement)?;
        statement.verify(&provider.attestation().signing_key).map_err(LeafError::from)?;
        references(&receipt, provider)?;
        let holds = |holds: bool, what| if holds { Ok(()) } else { Err(ReceiptError::Mismatch(what)) };
        holds(receipt.request == transcript.request, "the request")?;
        holds(receipt.chunks == transcript.response.1, "the number of chunks")?;
        holds(receipt.response == transcript.response.0, "the answer")?;
        holds(receipt.attempt == transcript.attempt, "the attempt")?;
        holds(receipt.sealed_by == transcript.sealed_by, "who sealed it")?;
        if let Some(sampling) = &transcript.sampling {
            holds(
                receipt.sampling == transcript.secret.commit(super::Purpose::Sampling, sampling),
                "the sampling parameters",
            )?;
        }
        amounts(&receipt, provider, &transcript.secret, usage)?;
        Ok(Self { statement, receipt, usage, secret: transcript.secret.clone() })
    }

    /// The signed statement.
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// What it says.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The tokens that its commitments open to.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// The secret of the exchange.
    pub const fn secret(&self) -> &ReceiptSecret {
        &self.secret
    }

    /// Checks that a receipts log of the policy promises to prove this receipt. That is no proof: the receipt is not
    /// [`logged`](Self::logged) until there is one.
    ///
    /// # Errors
    /// [`ReceiptError::NotPromised`] with what is wrong.
    pub fn promised(&self, policy: &Policy, note: &[u8]) -> Result<Promised, ReceiptError> {
        let refuse = ReceiptError::NotPromised;
        let promised = policy.open_promise(None, note).map_err(|error| refuse(error.to_string()))?;
        let origin = &promised.promise().origin;
        if !is_receipts(origin) {
            return Err(refuse(format!("{origin} is not a receipts log")));
        }
        if !promised.is_about(self.statement.bytes()) {
            return Err(refuse("it is about another entry".to_owned()));
        }
        Ok(promised)
    }

    /// Checks that the receipt is in a receipts log of the policy.
    pub fn logged(self, policy: &Policy, proof: &[u8]) -> Result<LoggedReceipt, ReceiptError> {
        let refuse = |why: String| ReceiptError::NotLogged(why);
        let parsed = TlogProof::parse(proof).map_err(|error| refuse(error.to_string()))?;
        let logged =
            parsed.open(policy, self.statement.bytes()).map_err(|error| refuse(error.to_string()))?;
        if !is_receipts(&logged.checkpoint().origin) {
            return Err(refuse(format!("{} is not a receipts log", logged.checkpoint().origin)));
        }
        Ok(LoggedReceipt {
            receipt: self,
            index: logged.index(),
            head: logged.checkpoint().clone(),
            proof: proof.to_vec(),
        })
    }
}

/// A receipt that is in the log, with the proof.
#[derive(Clone, Debug)]
pub struct LoggedReceipt {
    receipt: VerifiedReceipt,
    index: LeafIndex,
    head: TreeHead,
    proof: Vec<u8>,
}

impl LoggedReceipt {
    /// The receipt.
    pub const fn receipt(&self) -> &VerifiedReceipt {
        &self.receipt
    }

    /// Where it stands in the log.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// The tree that it was shown to be in.
    pub const fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The `tlog-proof`, to the byte.
    pub fn proof(&self) -> &[u8] {
        &self.proof
    }
}

/// Whether an origin is that of a receipts log: `…/receipts` or `…/receipts/<part>`.
pub fn is_receipts(origin: &str) -> bool {
    origin.split('/').skip(1).any(|part| part == "receipts")
}

/// Checks that a receipt refers to the leaves that a provider was verified from.
pub(crate) fn references(receipt: &Receipt, provider: &VerifiedProvider) -> Result<(), ReceiptError> {
    for (holds, what) in [
        (receipt.attestation == provider.attestation_hash(), "the provider's attestation"),
        (receipt.model == provider.model_hash(), "the model"),
        (receipt.policy == provider.policy_hash(), "the policy"),
        (receipt.prices == provider.prices_hash(), "the prices"),
        (receipt.registry == provider.registry(), "the registry checkpoint"),
    ] {
        if !holds {
            return Err(ReceiptError::Mismatch(what));
        }
    }
    Ok(())
}

/// Checks that usage and charge open to these tokens at the logged price.
pub(crate) fn amounts(
    receipt: &Receipt,
    provider: &VerifiedProvider,
    secret: &ReceiptSecret,
    usage: Usage,
) -> Result<(), ReceiptError> {
    let openings = secret.usage(usage);
    if openings.each_ref().map(super::Opening::commitment) != receipt.usage {
        return Err(ReceiptError::Mismatch("the token counts"));
    }
    let charged = charge(&openings, provider.price()).map_err(|_| ReceiptError::Mismatch("the charge"))?;
    if charged.commitment() == receipt.charge { Ok(()) } else { Err(ReceiptError::Mismatch("the charge")) }
}
