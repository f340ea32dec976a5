//! `glassbloom-log init`: makes what a new service needs, and leaves alone what is there.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use glassbloom_service::{durable, random};
use glassbloom_spec::{hash::Hash, note::VerifierKey, policy::Policy};

use crate::{
    Log, LogKeys,
    config::{ConfigFile, Layout},
    keyfile,
    places::{HEAD_FROM_VARIABLE, HEAD_VARIABLE, Places, Purpose},
};

/// What to make.
#[derive(Clone, Debug, clap::Args)]
pub struct Init {
    /// Folder for keys, state and tiles.
    #[arg(long, default_value = "data/log")]
    pub data: PathBuf,
    /// Host part of the origins NAME/registry and NAME/receipts; never changes afterwards.
    #[arg(long, default_value = "glassbloom.local")]
    pub name: String,
    /// Address to listen on, written to log.toml.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where the world reaches the service, written to the policy [default: http://LISTEN].
    #[arg(long)]
    pub url: Option<String>,
    /// A witness: its vkey, a space and its submission prefix. Repeat for more; replaces all earlier ones.
    #[arg(long = "witness", value_name = "VKEY URL")]
    pub witnesses: Vec<String>,
    /// Bucket of tiles and staged batches: s3://BUCKET/PREFIX, gs://… or az://… [default: the data folder].
    #[arg(long, value_name = "URL")]
    pub tiles: Option<String>,
    /// Where the head is: postgres://USER@HOST/DATABASE or a bucket [default: SQLite in the data folder, or what
    /// GLASSBLOOM_LOG_HEAD says].
    #[arg(long, value_name = "URL")]
    pub head: Option<String>,
    /// How many witnesses must cosign [default: more than half].
    #[arg(long)]
    pub quorum: Option<usize>,
}

/// Makes keys, token, configuration, policy and the empty heads. May be run again to change witnesses and addresses:
/// keys, token and heads stay.
pub async fn init(args: &Init) -> anyhow::Result<Policy> {
    let layout = Layout::new(&args.data);
    for folder in [layout.keys(), layout.state()] {
        durable::create_folder(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let (config, is_changed) = configure(args, &layout)?;
    let places = Places::of(&config)?;
    let logs = || config.logs.iter().map(|log| log.path.as_str());
    let mut stores = Vec::new();
    for log in logs() {
        let heads = places.heads(&layout, log, Purpose::Init).await?;
        let mut new = None;
        if heads.load(&format!("{}/{log}", args.name)).await?.is_none() {
            let tiles = places.tiles(&layout, log)?;
            // A bucket that cannot be read is found before its address is written down for good.
            tiles.published().await?;
            new = Some(tiles);
        }
        stores.push((heads, new));
    }
    if is_changed {
        durable::write(&layout.config(), toml::to_string(&config)?.as_bytes())?;
    }
    let keys = logs().zip(&stores).map(|(log, (_, new))| make_keys(&layout, &args.name, log, new.is_some()));
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    if !exists(&layout.token())? {
        durable::write_secret(&layout.token(), format!("{}\n", Hash::from_bytes(random())).as_bytes())?;
    }
    let policy = write_policy(args, &layout, &keys, &config)?;
    for (keys, (heads, new)) in keys.iter().zip(stores) {
        if let Some(tiles) = new {
            Log::create(keys, &*tiles, &*heads).await?;
        }
    }
    Ok(policy)
}

fn exists(path: &Path) -> anyhow::Result<bool> {
    path.try_exists().with_context(|| format!("cannot look at {}", path.display()))
}

/// The configuration that follows from what is there and what is asked for, and whether that is another one.
fn configure(args: &Init, layout: &Layout) -> anyhow::Result<(ConfigFile, bool)> {
    let path = layout.config();
    let old = exists(&path)?.then(|| ConfigFile::read(&path)).transpose()?;
    let mut config = old.clone().unwrap_or_else(|| ConfigFile::new(&args.name));
    if config.name != args.name {
        bail!("{} is a log named {}; its name never changes", args.data.display(), config.name);
    }
    config.listen = args.listen.unwrap_or(config.listen);
    if old.is_none() {
        config.tiles = args.tiles.clone();
        let from_variable = || std::env::var_os(HEAD_VARIABLE).map(|_| HEAD_FROM_VARIABLE.to_owned());
        config.head = args.head.clone().or_else(from_variable);
    }
    for (option, asked, there) in
        [("--tiles", &args.tiles, &config.tiles), ("--head", &args.head, &config.head)]
    {
        if asked.is_some() && asked != there {
            bail!(
                "{option}: this log has its bytes elsewhere, and init does not move them: stop the log, copy them, then \
                 change {}",
                path.display()
            );
        }
    }
    let is_changed = old.as_ref() != Some(&config);
    Ok((config, is_changed))
}

pub(crate) fn make_keys(layout: &Layout, name: &str, log: &str, is_new: bool) -> anyhow::Result<LogKeys> {
    let paths = layout.log_keys(log);
    // Only a log without a head may get keys: an existing log with other keys is another log.
    if is_new && !exists(&paths[0])? {
        let keys = LogKeys::from_seeds(&format!("{name}/{log}"), random(), random())
            .with_context(|| format!("{name:?} cannot name a log"))?;
        keyfile::write(layout, log, &keys)?;
    }
    keyfile::read(layout, name, log)
}

fn write_policy(
    args: &Init,
    layout: &Layout,
    keys: &[LogKeys],
    config: &ConfigFile,
) -> anyhow::Result<Policy> {
    let path = layout.policy();
    let old = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(read.with_context(|| format!("cannot read {}", path.display()))?),
    };
    let old_policy =
        old.as_deref().map(Policy::parse).transpose().with_context(|| path.display().to_string())?;
    let unchanged =
        args.witnesses.is_empty() && args.quorum.is_none() && args.url.is_none() && args.listen.is_none();
    if let (Some(policy), true) = (&old_policy, unchanged) {
        return Ok(policy.clone());
    }
    let witnesses = if args.witnesses.is_empty() {
        let kept = old_policy.iter().flat_map(Policy::witnesses);
        kept.map(|witness| (witness.key.clone(), witness.url.clone().unwrap_or_default())).collect()
    } else {
        args.witnesses.iter().map(|text| parse_witness(text)).collect::<anyhow::Result<Vec<_>>>()?
    };
    let base = args.url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    let logs = log_lines(keys, base.trim_end_matches('/'), old_policy.as_ref());
    let mut text = policy_text(&logs, &witnesses, args.quorum)?;
    // What others wrote into it, such as whose statements count, is not ours to drop.
    for line in old.iter().flat_map(|old| old.lines()) {
        if ["coordinator", "release", "accept", "checkpoint-age"]
            .contains(&line.split(' ').next().unwrap_or_default())
        {
            text.push_str(line);
            text.push('\n');
        }
    }
    let policy = Policy::parse(&text).context("the policy that follows from these arguments")?;
    durable::write(&path, text.as_bytes())?;
    Ok(policy)
}

fn parse_witness(text: &str) -> anyhow::Result<(VerifierKey, String)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [key, url] = words[..] else { bail!("--witness takes a vkey, a space and an address, not {text:?}") };
    if reqwest::Url::parse(url).map_or(true, |url| !matches!(url.scheme(), "http" | "https")) {
        bail!("--witness: {url:?} is not an http or https address");
    }
    Ok((key.parse().with_context(|| format!("--witness: {key:?}"))?, url.trim_end_matches('/').to_owned()))
}

/// The lines of the policy that name logs: the keys in force, those that signed once, and logs of others.
fn log_lines(keys: &[LogKeys], base: &str, old: Option<&Policy>) -> String {
    let mut text = String::new();
    let known = |origin: &str| old.and_then(|old| old.log(origin)).map_or(&[][..], |log| &log.keys);
    for keys in keys {
        let origin = keys.origin();
        let path = origin.split_once('/').map_or(origin, |(_, path)| path);
        let retired = known(origin).iter().filter(|key| !keys.vkeys().any(|ours| ours == *key));
        for key in keys.vkeys().chain(retired) {
            text.push_str(&format!("log {key} {base}/{path}\n"));
        }
    }
    for log in old.map_or(&[][..], Policy::logs) {
        if !keys.iter().any(|ours| ours.origin() == log.origin) {
            for key in &log.keys {
                let url = log.url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
                text.push_str(&format!("log {key}{url}\n"));
            }
        }
    }
    text
}

/// The policy with which these logs publish. Keys at one address are one witness, of which any key will do.
fn policy_text(
    logs: &str,
    witnesses: &[(VerifierKey, String)],
    quorum: Option<usize>,
) -> anyhow::Result<String> {
    let mut text = format!("# Whom to believe. Format: c2sp.org/tlog-policy\n{logs}");
    let mut names: Vec<String> = Vec::new();
    let mut urls: Vec<&str> = witnesses.iter().map(|(_, url)| url.as_str()).collect();
    urls.sort_unstable();
    urls.dedup();
    for url in urls {
        let same: Vec<_> = witnesses.iter().filter(|(_, other)| other == url).map(|(key, _)| key).collect();
        let mut name = same[0].name().to_owned();
        if names.contains(&name) {
            name = format!("{name}/{}", names.len());
        }
        if let [key] = same[..] {
            text.push_str(&format!("witness {name} {key} {url}\n"));
        } else {
            let members: Vec<String> = (1..=same.len()).map(|n| format!("{name}/key{n}")).collect();
            for (member, key) in members.iter().zip(same) {
                text.push_str(&format!("witness {member} {key} {url}\n"));
            }
            text.push_str(&format!("group {name} any {}\n", members.join(" ")));
        }
        names.push(name);
    }
    let quorum = quorum.unwrap_or(if names.is_empty() { 0 } else { names.len() / 2 + 1 });
    if quorum > names.len() {
        bail!("--quorum {quorum} needs as many witnesses; {} are known", names.len());
    }
    text.push_str(&match quorum {
        0 => "quorum none\n".to_owned(),
        quorum => format!("group quorum {quorum} {}\nquorum quorum\n", names.join(" ")),
    });
    Ok(text)
}
