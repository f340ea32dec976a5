//! `doctor`: why this provider does not serve, or what could be better, in words.

use anyhow::Context;
use glassbloom_hardware::{harden, tpm};
use glassbloom_service::{Clock, ExitCode, SystemClock, http_client};
use glassbloom_spec::{
    api::path,
    leaf::{Payload, Tier},
    statement::Statement,
};

use super::DataFolder;
use crate::{
    config::{Config, KeyDevice},
    keys,
    measure::Build,
    registry::Registry,
    status::{State, Status},
};

/// What was found, worst last.
#[derive(Default)]
struct Findings {
    failed: bool,
}

impl Findings {
    fn good(&self, what: &str, detail: impl std::fmt::Display) {
        println!("ok    {what}: {detail}");
    }

    fn note(&self, what: &str, detail: impl std::fmt::Display) {
        println!("note  {what}: {detail}");
    }

    fn bad(&mut self, what: &str, error: impl std::fmt::Display) {
        self.failed = true;
        println!("bad   {what}: {error}");
    }
}

pub(super) fn run(folder: &DataFolder) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut findings = Findings::default();
    match Config::load(&folder.data) {
        Err(error) => findings.bad("configuration", error),
        Ok(config) => {
            findings.good("configuration", folder.data.display());
            check_keys(&config, &mut findings);
            runtime.block_on(check_network(&config, &mut findings));
        }
    }
    for step in &harden::process().steps {
        match step.outcome {
            harden::Outcome::Done => findings.good("hardening", step),
            harden::Outcome::Refused { .. } => findings.note("hardening", step),
        }
    }
    if let Ok(status) = Status::read(&folder.data) {
        let seconds = SystemClock.now().seconds().get().saturating_sub(status.since.seconds().get());
        let detail = format!("{} for {seconds} s: {}", status.state.name(), status.detail);
        match status.state {
            State::Connected | State::Stopped | State::Starting => findings.good("daemon", detail),
            State::Disconnected | State::Refused | State::Suspended => findings.bad("daemon", detail),
        }
        if let Some(refusal) = &status.last_refusal {
            findings.note("last refusal", refusal);
        }
        if let Some(failure) = &status.last_challenge_failure {
            findings.note("last challenge failure", failure);
        }
    } else {
        findings.note(
            "daemon",
            format!("none has run; `glassbloom-provider serve --data {}`", folder.data.display()),
        );
    }
    Ok(if findings.failed { ExitCode::Rejected } else { ExitCode::Ok })
}

/// What the TPM is, and what keeps it from being used: said also where its keys cannot be opened.
fn check_tpm(config: &Config, findings: &mut Findings) {
    let examined = keys::tpm_config(config).and_then(|config| Ok(tpm::examine(&config)?));
    match examined {
        Ok(tpm) if tpm.is_usable() => {
            findings.good(
                "TPM",
                format!("{} {}, firmware {}.{}", tpm.maker, tpm.model, tpm.firmware.0, tpm.firmware.1),
            );
        }
        Ok(tpm) => {
            let lacks = [
                (!tpm.has_certificate, "it has no certificate of its maker for an RSA-2048 endorsement key"),
                (
                    tpm.owner_has_password,
                    "its owner hierarchy has a password: clear it with `tpm2_changeauth -c owner`",
                ),
                (tpm.endorsement_has_password, "its endorsement hierarchy has a password"),
                (
                    tpm.is_locked,
                    "it is locked after wrong passwords: `tpm2_dictionarylockout --clear-lockout`",
                ),
            ];
            for (_, why) in lacks.iter().filter(|(lacks, _)| *lacks) {
                findings.bad("TPM", format!("{} {}: {why}", tpm.maker, tpm.model));
            }
        }
        Err(error) => findings.bad("TPM", format!("{error:#}")),
    }
}

fn check_keys(config: &Config, findings: &mut Findings) {
    if config.keys.device == KeyDevice::Tpm {
        check_tpm(config, findings);
    }
    let device = match keys::open(config) {
        Ok(device) => device,
        Err(error) => return findings.bad("keys", format!("{error:#}")),
    };
    findings.good("keys", device.describe());
    match device.format().parse::<Tier>() {
        Ok(tier) => findings.note("not proven", tier.does_not_prove()),
        Err(_) => findings.note("not proven", Tier::TpmHw.does_not_prove()),
    }
    if device.endorsed().is_some() {
        match (&config.endorser, device.enrolment()) {
            (_, Some(leaf)) => findings.good("enrolment", format!("logged as attestation {leaf:.16}")),
            (Some(endorser), None) => {
                findings.note("enrolment", format!("at the next start, by the endorser {endorser}"));
            }
            (None, None) => findings.bad(
                "enrolment",
                "nobody vouches for this TPM yet: name an auditor's `endorser` in provider.toml, under [keys]",
            ),
        }
    }
    match crate::attest::previous(&config.data, &device.signing().public_key()) {
        Ok(Some(previous)) => {
            findings.good("identity", format!("continues attestation {:.16}", previous.leaf))
        }
        Ok(None) => findings.note("identity", "new: nothing has been logged yet"),
        Err(error) => findings.bad("identity", error),
    }
}

async fn check_network(config: &Config, findings: &mut Findings) {
    match check_registry(config).await {
        Ok(detail) => findings.good("registry", detail),
        Err(error) => findings.bad("registry", format!("{error:#}")),
    }
    match check_release(config).await {
        Ok(detail) => findings.good("release", detail),
        Err(error) => findings.bad("release", format!("{error:#}")),
    }
    if let Some(endorser) = &config.endorser {
        match http_client().get(endorser.clone()).send().await {
            Ok(_) => findings.good("endorser", format!("{endorser} answers")),
            Err(error) => findings.bad("endorser", format!("{endorser} cannot be reached: {error}")),
        }
    }
}

async fn check_registry(config: &Config) -> anyhow::Result<String> {
    let mut registry = Registry::load(&config.policy, &config.log, &config.data)?;
    let checkpoint = registry.latest(&config.policy, SystemClock.now()).await?;
    Ok(format!("{} at size {}, witnessed and consistent", checkpoint.origin(), checkpoint.size()))
}

async fn check_release(config: &Config) -> anyhow::Result<String> {
    let build = Build::of_this_process().context("this program cannot be measured")?.hash();
    let url = format!("{}{}", config.endpoint(), path::release(&build));
    let response = http_client().get(&url).send().await.context("the coordinator cannot be reached")?;
    anyhow::ensure!(
        response.status().is_success(),
        "the registry has no release of this build ({build:.16}): have it signed with `glassbloom-provider release`, and \
         give the statement to the coordinator"
    );
    let record: glassbloom_spec::api::ReleaseRecord = response.json().await?;
    let release = glassbloom_spec::leaf::Release::of(&Statement::parse(&record.release.leaf)?)?;
    anyhow::ensure!(release.build == build, "the coordinator sent the release of another build");
    Ok(format!("build {build:.16} is {}, at index {}", release.version, record.release.index))
}
