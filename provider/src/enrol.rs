//! Has an auditor vouch for what the public cannot see: that a TPM's attestation key lives beside its certified one.

use std::time::Duration;

use anyhow::{Context, bail};
use glassbloom_hardware::{Device, Endorsed};
use glassbloom_service::http_client;
use glassbloom_spec::{
    evidence::exchange::{self, Activated, Activation, Answer, Bytes},
    hash::Hash,
};
use reqwest::Url;
use serde::{Serialize, de::DeserializeOwned};

/// Makes sure that evidence over `nonce` can be made. What was vouched for and not logged since was for another nonce,
/// so it is asked for anew.
///
/// # Errors
/// When the device or the endorser fails, or none is named and one is needed.
pub(crate) async fn ensure(device: &dyn Device, endorser: Option<&Url>, nonce: Hash) -> anyhow::Result<()> {
    let Some(endorsed) = device.endorsed().filter(|endorsed| endorsed.is_wanted(nonce)) else {
        return Ok(());
    };
    let endorser = endorser.context(
        "nobody vouches for this TPM's attestation key: name an auditor's endorser in provider.toml, under [keys] \
         (`endorser = \"https://HOST\"`)",
    )?;
    activate(endorsed, endorser, nonce)
        .await
        .with_context(|| format!("the endorser at {endorser} did not vouch for this TPM"))
}

async fn activate(device: &dyn Endorsed, endorser: &Url, nonce: Hash) -> anyhow::Result<()> {
    let request = device.request()?;
    let activation = Activation {
        ek_chain: request.certificates.into_iter().map(Bytes).collect(),
        ak: Bytes(request.attestation_key),
        nonce,
    };
    let challenge: exchange::Challenge = post(endorser, exchange::path::TPM_CHALLENGE, &activation).await?;
    let secret = device.activate(&challenge.credential_blob.0, &challenge.encrypted_secret.0)?;
    let answer = Answer { id: challenge.id, secret: Bytes(secret.to_vec()) };
    let activated: Activated = post(endorser, exchange::path::TPM_ANSWER, &answer).await?;
    Ok(device.set_enrolment(nonce, &activated.transcript.0, &[activated.endorsement.0])?)
}

async fn post<T: DeserializeOwned>(base: &Url, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
    let url = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let response = http_client()
        .post(&url)
        .timeout(TIMEOUT)
        .json(body)
        .send()
        .await
        .context("it cannot be reached; see `endorser` under [keys] in provider.toml")?;
    let status = response.status();
    let bytes = response.bytes().await?;
    if !status.is_success() {
        let detail = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
        bail!("it answered {status}{}", detail.map(|detail| format!(": {detail}")).unwrap_or_default());
    }
    serde_json::from_slice(&bytes).with_context(|| format!("it answered {url} with something else"))
}

/// A slow TPM at the other end of a slow line.
const TIMEOUT: Duration = Duration::from_secs(60);
