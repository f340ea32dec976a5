//! The receipt bundle: one file that proves, offline and years later, who answered what.
//!
//! Deterministic CBOR; see `spec/bundle.md`. It holds the salts of the exchange: whoever has the file and the text can
//! prove the text, so it belongs to the user alone.

use zeroize::Zeroizing;

use crate::{
    cbor::{FieldError, Fields, Value},
    hash::Hash,
    id::{UnixMillis, UnixSeconds},
    leaf::{LeafError, Model, Payload},
    policy::Policy,
    proof::TlogProof,
    receipt::{
        CommitmentTree, LoggedReceipt, Receipt, ReceiptSecret, Usage, amounts, is_receipts, references,
        request_commitment,
    },
    record::ProviderRecord,
    statement::Statement,
    verify::{Continuity, Known, Report, RevocationState, State, VerifiedProvider},
};

/// First field of every bundle.
pub const MAGIC: &str = "glassbloom receipt bundle v1";

/// Largest bundle that is read, in bytes.
pub const MAX_BUNDLE: usize = 16 << 20;

/// Everything that verifies one exchange.
#[derive(Clone, Debug)]
pub struct ReceiptBundle {
    /// What the registry said about the provider.
    pub record: ProviderRecord,
    /// The signed receipt.
    pub receipt: Vec<u8>,
    /// Its `tlog-proof`.
    pub proof: Vec<u8>,
    /// The secret of the exchange.
    pub secret: ReceiptSecret,
    /// The tokens that the receipt's commitments open to.
    pub usage: Usage,
    /// The request body, when the user chose to keep it.
    pub request: Option<Vec<u8>>,
    /// The chunks of the answer, when the user chose to keep them.
    pub response: Option<Vec<Vec<u8>>>,
}

/// What verifying a bundle gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every check, in order.
    pub report: Report,
    /// What holds, in one sentence; `None` when something failed.
    pub sentence: Option<String>,
}

impl ReceiptBundle {
    /// A bundle for an exchange, without its text.
    pub fn new(provider: &VerifiedProvider, logged: &LoggedReceipt) -> Self {
        Self {
            record: provider.record().clone(),
            receipt: logged.receipt().statement().bytes().to_vec(),
            proof: logged.proof().to_vec(),
            secret: logged.receipt().secret().clone(),
            usage: logged.receipt().usage(),
            request: None,
            response: None,
        }
    }

    /// Names the receipt: its leaf hash.
    pub fn id(&self) -> Hash {
        Hash::leaf(&self.receipt)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut fields = vec![
            (1, MAGIC.into()),
            (2, self.record.to_value()),
            (3, self.receipt.as_slice().into()),
            (4, self.proof.as_slice().into()),
            (5, self.secret.to_bytes().as_slice().into()),
            (6, Value::Array(vec![self.usage.prompt.into(), self.usage.completion.into()])),
        ];
        fields.extend(self.request.as_deref().map(|request| (128, request.into())));
        let chunks = |chunks: &Vec<Vec<u8>>| {
            Value::Array(chunks.iter().map(|chunk| chunk.as_slice().into()).collect())
        };
        fields.extend(self.response.as_ref().map(|response| (129, chunks(response))));
        Zeroizing::new(
            Value::Map(fields.into_iter().map(|(key, value)| (key.into(), value)).collect()).encode(),
        )
    }

    /// Parses a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(FieldError::Field { key: 0, expected: "a file of at most 16 MiB" });
        }
        let mut fields = Fields::decode(bytes)?;
        let bytes_of = |value| match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        };
        if fields.text(1)? != MAGIC {
            return Err(FieldError::Field { key: 1, expected: MAGIC });
        }
        let bundle = Self {
            record: ProviderRecord::from_value(fields.value(2, "a provider record")?)?,
            receipt: fields.bytes(3)?,
            proof: fields.bytes(4)?,
            secret: ReceiptSecret::new(Zeroizing::new(fields.fixed(5)?)),
            usage: match fields.array(6)?.as_slice() {
                [Value::Unsigned(prompt), Value::Unsigned(completion)] => {
                    Usage { prompt: *prompt, completion: *completion }
                }
                _ => return Err(FieldError::Field { key: 6, expected: "two token counts" }),
            },
            request: fields.has(128).then(|| fields.bytes(128)).transpose()?,
            response: match fields.has(129) {
                true => Some(
                    fields
                        .array(129)?
                        .into_iter()
                        .map(bytes_of)
                        .collect::<Option<_>>()
                        .ok_or(FieldError::Field { key: 129, expected: "an array of byte strings" })?,
                ),
                false => None,
            },
        };
        fields.finish()?;
        Ok(bundle)
    }

    /// Verifies the bundle under a policy, offline.
    ///
    /// Everything is judged as of the time at which witnesses saw the receipt in the log; `now` only says what has
    /// expired since.
    pub fn verify(&self, policy: &Policy, now: UnixMillis) -> Outcome {
        let mut report = Report::new();
        let sentence = self.steps(policy, now, &mut report);
        let sentence = sentence.filter(|_| report.state() != State::Failed);
        Outcome { report, sentence }
    }

    fn steps(&self, policy: &Policy, now: UnixMillis, report: &mut Report) -> Option<String> {
        let opened = TlogProof::parse(&self.proof)
            .map_err(|error| error.to_string())
            .and_then(|proof| proof.open(policy, &self.receipt).map_err(|error| error.to_string()));
        let logged = match opened {
            Ok(logged) if is_receipts(&logged.checkpoint().origin) => logged,
            Ok(logged) => {
                report.push(
                    "receipt logged",
                    State::Failed,
                    format!("{} is not a receipts log", logged.checkpoint().origin),
                );
                return None;
            }
            Err(error) => {
                report.push("receipt logged", State::Failed, error);
                return None;
            }
        };
        let seen = logged.cosigned_at();
        let head = logged.checkpoint();
        let detail = format!(
            "index {} of {}, in the checkpoint of size {} that witnesses saw",
            logged.index(),
            head.origin,
            head.size
        );
        report.push("receipt logged", State::Verified, detail);

        // Read ahead of its proof, which `Policy::verify` checks, only to know which model to ask for.
        let model = Statement::parse(&self.record.model.leaf)
            .map_err(LeafError::from)
            .and_then(|model| Model::of(&model));
        let alias = match model {
            Ok(model) => model.alias,
            Err(error) => {
                report.push("build and model", State::Failed, format!("the model leaf: {error}"));
                return None;
            }
        };
        let at = UnixMillis::new(seen.get().saturating_mul(1000));
        let known =
            Known { now: at, continuity: Continuity::NotChecked, revocation: RevocationState::NotChecked };
        let provider = policy.verify(&self.record, &alias, &known, report).ok()?;

        let receipt = match self.receipt_of(&provider) {
            Ok(receipt) => receipt,
            Err(error) => {
                report.push("receipt", State::Failed, error);
                return None;
            }
        };
        report.push(
            "receipt",
            State::Verified,
            "signed by the attested key; names this attestation, model, policy, prices and registry",
        );
        if let Err(error) = amounts(&receipt, &provider, &self.secret, self.usage) {
            report.push("usage and charge", State::Failed, error.to_string());
            return None;
        }
        let usage = format!(
            "{} prompt and {} answer tokens at the logged price",
            self.usage.prompt, self.usage.completion
        );
        report.push("usage and charge", State::Verified, usage);
        times_step(&receipt, policy, &self.record, seen, report);
        self.text_steps(&receipt, report);
        let expired =
            (now.seconds() >= provider.attestation().not_after).then_some("; its keys have expired since");
        Some(format!(
            "Between {} and {} UTC the holder of key {} ({}{}) answered one request with {alias}; the signed receipt is entry {} of {}.",
            utc(receipt.times[0].get()),
            utc(receipt.times[1].get()),
            &crate::statement::key_id(&provider.attestation().signing_key).to_string()[..16],
            provider.tier(),
            expired.unwrap_or_default(),
            logged.index(),
            head.origin,
        ))
    }

    fn receipt_of(&self, provider: &VerifiedProvider) -> Result<Receipt, String> {
        let statement = Statement::parse(&self.receipt).map_err(|error| error.to_string())?;
        let receipt = Receipt::of(&statement).map_err(|error| error.to_string())?;
        statement.verify(&provider.attestation().signing_key).map_err(|error| error.to_string())?;
        references(&receipt, provider).map_err(|error| error.to_string())?;
        if receipt.charge_matches(provider.price()) {
            Ok(receipt)
        } else {
            Err("the charge is not the logged price".to_owned())
        }
    }

    /// The text, where the bundle discloses it.
    fn text_steps(&self, receipt: &Receipt, report: &mut Report) {
        let mut step = |name, holds: Option<bool>, what: &str| match holds {
            None => report.push(name, State::NotVerifiable, format!("this bundle does not disclose {what}")),
            Some(true) => {
                report.push(name, State::Verified, format!("{what} is what the provider signed for"))
            }
            Some(false) => {
                report.push(name, State::Failed, format!("{what} is not what the provider signed for"))
            }
        };
        let request =
            self.request.as_ref().map(|body| request_commitment(&self.secret, body) == receipt.request);
        step("request text", request, "the request");
        let response = self.response.as_ref().map(|chunks| {
            let mut tree = CommitmentTree::chunks(self.secret.clone());
            chunks.iter().for_each(|chunk| tree.push(chunk));
            tree.len() == receipt.chunks && tree.root() == receipt.response
        });
        step("answer text", response, "the answer");
    }
}

/// The times that the provider states, held against those at which witnesses signed.
fn times_step(
    receipt: &Receipt,
    policy: &Policy,
    record: &ProviderRecord,
    seen: UnixSeconds,
    report: &mut Report,
) {
    let Ok(relied_on) = policy.open(None, &record.checkpoint) else { return };
    let minutes = |time: UnixSeconds| time.get() / 60;
    let earliest = minutes(relied_on.cosigned_at()).saturating_sub(CLOCK_SLACK);
    let latest = minutes(seen).saturating_add(CLOCK_SLACK);
    let [start, end] = receipt.times.map(crate::id::UnixMinutes::get);
    match earliest <= start && end <= latest {
        true => report.push(
            "times",
            State::Verified,
            "between the witnessing of the registry and that of the receipt",
        ),
        false => report.push(
            "times",
            State::Failed,
            format!(
                "the receipt says {} to {}, but witnesses saw it between {} and {}",
                utc(start),
                utc(end),
                utc(earliest),
                utc(latest)
            ),
        ),
    }
}

/// How far the clocks of providers and witnesses may be apart, in minutes.
const CLOCK_SLACK: u64 = crate::verify::CLOCK_SLACK / 60;

/// Minutes since 1970 as `2026-11-20 17:23`.
pub fn utc(minutes: u64) -> String {
    let (days, minute) = (minutes / 1440, minutes % 1440);
    // Days to civil date, counting years from March so that the leap day is last.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, year) =
        if month < 10 { (month + 3, year + era * 400) } else { (month - 9, year + era * 400 + 1) };
    format!("{year:04}-{month:02}-{day_of_month:02} {:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_read_as_people_write_them() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_795_195_380, "2026-11-20 17:23"),
            (4_107_542_399, "2100-02-28 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(utc(seconds / 60), text);
        }
    }
}
