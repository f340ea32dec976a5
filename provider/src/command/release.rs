//! `release` and `approve`: signed statements that a build may serve.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use glassbloom_service::{Clock, ExitCode, SystemClock, durable};
use glassbloom_spec::{
    curve::{PublicKey, SIGNATURE_LEN, Signer, SigningKey},
    hash::Hash,
    leaf::{self, Payload, SignedBy},
    statement::Statement,
};

use crate::{
    keys,
    measure::{self, Build},
};

/// How to sign the release.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// The release key; made if missing
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write the statement
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The source commit that this program was built from
    #[arg(long, required_unless_present = "approved")]
    commit: Option<String>,
    /// The version, for people
    #[arg(long = "version", value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    release_version: String,
    /// What hardware that measures code must see: full SHA-256 of the CodeDirectory, or of a launch measurement
    #[arg(long, value_name = "SHA256")]
    code: Option<Hash>,
    /// A release that was signed before, to sign again with approvals; nothing is measured then
    #[arg(long, value_name = "FILE", requires = "approvals", conflicts_with_all = ["commit", "code"])]
    approved: Option<PathBuf>,
    /// What `approve` printed for that release; may be repeated
    #[arg(long = "approval", value_name = "KEY:SIGNATURE", requires = "approved")]
    approvals: Vec<String>,
}

impl Release {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let key = keys::load_or_create(&self.key)?;
        let release = match &self.approved {
            Some(file) => approved(file, &key, &self.approvals)?,
            None => leaf::Release {
                version: self.release_version,
                build: Build::of_this_process().context("this program cannot be measured")?.hash(),
                platform: measure::platform(),
                commit: self.commit.context("--commit is needed")?,
                not_before: SystemClock.now().seconds(),
                code: self.code,
                approvals: Vec::new(),
            },
        };
        let statement = release.sign(&key)?;
        durable::write(&self.out, statement.bytes()).with_context(|| format!("{}", self.out.display()))?;
        // As a line of a policy file, so that it can be pasted there.
        println!("release {}", Signer::public_key(&key));
        Ok(ExitCode::Ok)
    }
}

/// The release of a file with approvals that hold.
fn approved(file: &Path, key: &SigningKey, texts: &[String]) -> anyhow::Result<leaf::Release> {
    let (statement, mut release) = read(file)?;
    ensure!(
        statement.verify(&key.public_key()).is_ok(),
        "{} is signed by another key than --key: approvals are added by the one who signed it",
        file.display()
    );
    let message = release.approval_message();
    for text in texts {
        let (by, signature) = parse(text)?;
        ensure!(
            by.verify(&message, &signature).is_ok(),
            "the approval by {by} is not of {}: have it made with `glassbloom-provider approve --release FILE`",
            file.display()
        );
        release.approvals.retain(|(known, _)| *known != by);
        release.approvals.push((by, signature));
    }
    Ok(release)
}

/// Whose approval, and of what.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// A release key; made if missing
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The release to stand behind, as another release key signed it
    #[arg(long, value_name = "FILE")]
    release: PathBuf,
}

impl Approve {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let (_, release) = read(&self.release)?;
        let key = keys::load_or_create(&self.key)?;
        let signature = key.sign(&release.approval_message());
        eprintln!("release {} of build {} from commit {}", release.version, release.build, release.commit);
        println!("{}:{}", Signer::public_key(&key), hex::encode(signature));
        Ok(ExitCode::Ok)
    }
}

fn read(file: &Path) -> anyhow::Result<(Statement, leaf::Release)> {
    let named = || file.display().to_string();
    let statement = Statement::parse(&std::fs::read(file).with_context(named)?).with_context(named)?;
    let release = leaf::Release::of(&statement).with_context(named)?;
    Ok((statement, release))
}

fn parse(text: &str) -> anyhow::Result<SignedBy> {
    let bad = || format!("{text:?} is not KEY:SIGNATURE as `glassbloom-provider approve` prints it");
    let (key, signature) = text.split_once(':').with_context(bad)?;
    let key: PublicKey = key.parse().with_context(bad)?;
    let mut bytes = [0; SIGNATURE_LEN];
    hex::decode_to_slice(signature, &mut bytes).ok().with_context(bad)?;
    Ok((key, bytes))
}

#[cfg(test)]
mod tests {
    use glassbloom_spec::id::UnixSeconds;

    use super::*;

    #[test]
    fn two_keys_stand_behind_a_release() {
        let folder = tempfile::tempdir().unwrap();
        let [signer, approver] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
        let release = leaf::Release {
            version: "1".into(),
            build: Hash::of(b"build"),
            platform: "p".into(),
            commit: "c".into(),
            not_before: UnixSeconds::new(7),
            code: None,
            approvals: Vec::new(),
        };
        let file = folder.path().join("release");
        std::fs::write(&file, release.sign(&signer).unwrap().bytes()).unwrap();
        let signature = approver.sign(&release.approval_message());
        let text = format!("{}:{}", approver.public_key(), hex::encode(signature));
        let both = approved(&file, &signer, &[text.clone(), text.clone()]).unwrap();
        let statement = both.sign(&signer).unwrap();
        let keys = [signer.public_key(), approver.public_key()];
        assert_eq!(both.approved_by(&statement, &keys), 2);
        assert_eq!(release.approved_by(&statement, &keys), 1, "approvals are in the payload");
        assert!(
            approved(&file, &approver, std::slice::from_ref(&text)).is_err(),
            "only the signer adds them"
        );
        let other = leaf::Release { version: "2".into(), ..release };
        let wrong =
            format!("{}:{}", approver.public_key(), hex::encode(approver.sign(&other.approval_message())));
        for bad in [wrong.as_str(), "", "a:b", &text[..text.len() - 1]] {
            assert!(approved(&file, &signer, &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
