//! `glassbloom-log status`.

use std::time::Duration;

use glassbloom_service::{Clock, ExitCode, SystemClock, http_client, read_bounded};
use glassbloom_spec::{
    checkpoint::{Checkpoint, TreeHead},
    hash::Hash,
    id::LeafIndex,
    merkle,
    note::{Algorithm, MAX_NOTE, SignedNote, VerifierKey},
    policy::{Policy, Witness},
    succession::Succeeded,
    tile::{TilePath, decode_bundle},
};

use super::target::{Resolved, Target, report, worse};
use crate::fsck::{FsckError, Source};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Seconds between the two looks that the rate is taken from; 0 looks once.
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    over: u64,
    /// Do not ask the witnesses how far they are.
    #[arg(long)]
    no_witnesses: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Resolved { policy, logs, .. } = match args.target.resolve().await? {
        Ok(resolved) => resolved,
        Err(error) => return Ok(report(&error)),
    };
    let mut before = Vec::new();
    for (origin, source) in &logs {
        before.push(open(&policy, origin, source).await);
    }
    if args.over > 0 && before.iter().any(Result::is_ok) {
        tokio::time::sleep(Duration::from_secs(args.over)).await;
    }
    let mut code = ExitCode::Ok;
    for ((origin, source), before) in logs.iter().zip(before) {
        let one = match before {
            Err(error) => report(&error),
            Ok(before) if args.over == 0 => show(&policy, &before, None, &logs, args).await,
            Ok(before) => match open(&policy, origin, source).await {
                Err(error) => report(&error),
                Ok(now) => {
                    let more = now.size().get().saturating_sub(before.size().get());
                    show(&policy, &now, Some(more as f64 / args.over as f64), &logs, args).await
                }
            },
        };
        code = worse(code, one);
    }
    Ok(code)
}

async fn open(policy: &Policy, origin: &str, source: &Source) -> Result<Checkpoint, FsckError> {
    let note = source.get("checkpoint").await?;
    let note = note.ok_or_else(|| FsckError::NoCheckpoint(origin.to_owned()))?;
    Ok(policy.open(Some(origin), &note)?)
}

async fn show(
    policy: &Policy,
    checkpoint: &Checkpoint,
    rate: Option<f64>,
    logs: &[(String, Source)],
    args: &Args,
) -> ExitCode {
    let now = SystemClock.now().seconds().get();
    let (origin, size) = (checkpoint.origin(), checkpoint.size());
    let rate = rate.map(|rate| format!(", {rate:.1} entries/s")).unwrap_or_default();
    println!("{origin}: {size} entries{rate}, root {}", checkpoint.root());
    for (key, signs) in keys(policy, checkpoint) {
        let kind = if key.algorithm() == Algorithm::MlDsa44 { "ML-DSA-44" } else { "Ed25519" };
        let signs = if signs { "signs" } else { "in the policy, does not sign the newest checkpoint" };
        println!("  key {} {kind}: {signs}", hex(key.key_id()));
    }
    for witness in policy.witnesses() {
        let cosigned = checkpoint.cosignatures().iter().find(|(name, _)| *name == witness.name);
        let age = match cosigned {
            Some((_, time)) => format!("cosigned {} s ago", now.saturating_sub(time.get())),
            None => "has not cosigned the newest checkpoint".to_owned(),
        };
        let lag = match &witness.url {
            Some(url) if !args.no_witnesses => lag(witness, url, checkpoint.head()).await,
            _ => String::new(),
        };
        println!("  witness {}: {age}{lag}", witness.name);
    }
    let cosigned_at = checkpoint.cosigned_at().get();
    let age = now.saturating_sub(cosigned_at);
    if cosigned_at > 0 && age > policy.checkpoint_age() {
        if let Some(next) = next(policy, logs, checkpoint.head()).await {
            println!("  closed for good; {next} goes on");
            return ExitCode::Ok;
        }
        println!(
            "  too old: the quorum cosigned {age} s ago, the policy allows {} s; is the log running, and are its \
             witnesses?",
            policy.checkpoint_age()
        );
        return ExitCode::Stale;
    }
    ExitCode::Ok
}

/// The log of the same service whose first entry names this head as the end of its predecessor.
async fn next(policy: &Policy, logs: &[(String, Source)], end: &TreeHead) -> Option<String> {
    for (origin, source) in logs.iter().filter(|(origin, _)| *origin != end.origin) {
        let Ok(checkpoint) = open(policy, origin, source).await else { continue };
        if let Ok(Some(succeeded)) = succession(policy, &checkpoint, source).await
            && succeeded.predecessor().head() == end
        {
            return Some(origin.clone());
        }
    }
    None
}

async fn succession(
    policy: &Policy,
    checkpoint: &Checkpoint,
    source: &Source,
) -> Result<Option<Succeeded>, FsckError> {
    let (index, size) = (LeafIndex::new(0), checkpoint.size());
    let (Some(path), Ok(nodes)) = (TilePath::entries(0, size), merkle::inclusion_nodes(index, size)) else {
        return Ok(None);
    };
    let (bundle, nodes) = (source.tile(path).await?, source.nodes(&nodes, size).await?);
    let logged = bundle.and_then(|(path, bytes)| {
        let first = decode_bundle(&bytes, path.width())?.first()?.to_vec();
        let proof = merkle::prove_inclusion(index, size, &nodes).ok()?;
        checkpoint.includes(first, index, &proof).ok()
    });
    Ok(logged.and_then(|logged| policy.open_succession(&logged).ok()))
}

/// The keys of the log in the policy, and whether each signed this checkpoint.
fn keys<'a>(policy: &'a Policy, checkpoint: &Checkpoint) -> Vec<(&'a VerifierKey, bool)> {
    let lines = SignedNote::parse(checkpoint.note_bytes()).map(|note| note.signatures).unwrap_or_default();
    let log = policy.log(checkpoint.origin()).into_iter().flat_map(|log| &log.keys);
    log.map(|key| (key, lines.iter().any(|line| key.claims(line)))).collect()
}

fn hex(bytes: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(bytes))
}

/// How far the witness is behind, from what it serves to monitors. `[c2sp.org/tlog-witness]`
async fn lag(witness: &Witness, url: &str, head: &TreeHead) -> String {
    let url = format!("{}/{}/checkpoint", url.trim_end_matches('/'), Hash::of(head.origin.as_bytes()));
    let sent = http_client().get(&url).timeout(Duration::from_secs(3)).send().await;
    let response = match sent {
        Ok(response) if response.status().is_success() => response,
        Ok(response) => return format!(", does not say how far it is ({})", response.status().as_u16()),
        Err(_) => return ", cannot be reached".to_owned(),
    };
    let note = read_bounded(response, MAX_NOTE).await.ok().and_then(|body| SignedNote::parse(&body).ok());
    let seen = note.and_then(|note| {
        let seen = TreeHead::parse(&note.text).ok().filter(|seen| seen.origin == head.origin)?;
        // Only what the witness signed is what the witness says.
        note.signatures.iter().any(|line| witness.key.verify(&seen, line).is_ok()).then_some(seen)
    });
    match seen {
        None => ", shows no checkpoint that it signed".to_owned(),
        Some(seen) if seen.size == head.size && seen.root != head.root => {
            ", SHOWS ANOTHER TREE OF THE SAME SIZE: keep both checkpoints, this proves a fork".to_owned()
        }
        Some(seen) if seen.size > head.size => {
            format!(", knows a larger tree of {} entries", seen.size)
        }
        Some(seen) => format!(", {} entries behind", head.size.get() - seen.size.get()),
    }
}
