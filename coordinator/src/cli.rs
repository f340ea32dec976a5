//! The command line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};
use glassbloom_service::{Clock, ExitCode, FetchError, Shutdown, SystemClock, durable, on_signals};
use glassbloom_spec::{
    curve::SigningKey,
    hash::Hash,
    id::KeyId,
    leaf::{Payload, Revocation},
    policy::Policy,
};
use tokio::net::TcpListener;

use crate::{
    DEFAULT_REASON,
    app::App,
    bootstrap,
    config::{Api, Config, LivenessConfig, LogConfig, ModelConfig, Rules},
    logs::LogError,
    operator::{self, Approval, Change},
    store::{ByHand, Store},
};

/// Connects clients and providers of a Glassbloom network; reads nothing that is sealed, and is trusted by nobody.
#[derive(Debug, Parser)]
#[command(name = "glassbloom-coordinator", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes, lists and revokes the keys that users send. The registry says that it was done, and not whose keys they are.
    #[command(subcommand)]
    ApiKey(ApiKey),
    /// Approves a change by hand with a key of one's own; prints what `operator-action --approval` takes.
    Approve(Approve),
    /// Makes key, database and configuration; run again, it keeps the first two and writes the configuration anew. What the
    /// configuration decides for others stands in the registry when it serves: as rules, prices, models and releases.
    Init(Init),
    /// Logs that state was changed by hand in a way that no other statement explains, and who approved it.
    OperatorAction(Action),
    /// Makes the tokens that providers send. The registry says that it was done, and not for whom.
    #[command(subcommand)]
    ProviderToken(ProviderToken),
    /// Logs that a provider's key is dead from now on. The revocation says why; there is no operator-action beside it.
    Revoke(Revoke),
    /// Serves until it is told to stop.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Place {
    /// Folder with the key, database and configuration.
    #[arg(long, value_name = "DIR", default_value = "data/coordinator")]
    data: PathBuf,
    /// Configuration, when it is not DIR/coordinator.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn load(&self) -> anyhow::Result<Config> {
        let data = std::path::absolute(&self.data)?;
        let file = self.config.clone().unwrap_or_else(|| Config::file(&data));
        Config::load(&file, &data)
    }
}

#[derive(Debug, Subcommand)]
enum ApiKey {
    /// Makes a key and prints it, this once.
    Create(Named),
    /// Lists the keys by their hashes, with what their accounts have used.
    List(Place),
    /// Revokes a key by the start of its hash, or all keys of an account by its name.
    Revoke {
        #[command(flatten)]
        place: Place,
        /// At least 8 digits of the hash, or the account's name.
        key: String,
        /// Why, for people; public.
        #[arg(long, default_value = DEFAULT_REASON)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
enum ProviderToken {
    /// Makes a token and prints it, this once; an older one of the same name stops working.
    Create(Named),
}

#[derive(Debug, Args)]
struct Named {
    #[command(flatten)]
    place: Place,
    /// What to call its holder.
    #[arg(long)]
    name: String,
    /// Why, for people; public.
    #[arg(long, default_value = DEFAULT_REASON)]
    reason: String,
}

#[derive(Debug, Args)]
struct Action {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    change: Change,
    /// Somebody who approves it, as `approve` prints it; once for each.
    #[arg(long, value_name = "KEY:SIGNATURE")]
    approval: Vec<Approval>,
}

#[derive(Debug, Args)]
struct Approve {
    #[command(flatten)]
    change: Change,
    /// The approver's key: 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, Args)]
struct Init {
    /// Folder to keep everything in.
    #[arg(long, value_name = "DIR", default_value = "data/coordinator")]
    data: PathBuf,
    /// The network's name: its logs have the origins NAME/registry and NAME/receipts.
    #[arg(long, default_value = "glassbloom.local")]
    name: String,
    /// Base URL of the logs.
    #[arg(long, value_name = "URL")]
    log: String,
    /// File with the bearer token for appending.
    #[arg(long, value_name = "FILE")]
    log_token_file: PathBuf,
    /// The policy of the logs: their keys, witnesses and quorum, and the keys that sign releases.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// A model that providers may serve: its alias and its folder in Hugging Face layout.
    #[arg(long, value_name = "ALIAS=DIR")]
    model: Vec<String>,
    /// What a model costs, in pico-dollars (10^-12 USD) per token of prompt and answer.
    #[arg(long, value_name = "ALIAS=PROMPT,COMPLETION")]
    price: Vec<String>,
    /// A signed release of a provider build.
    #[arg(long, value_name = "FILE")]
    release: Vec<PathBuf>,
    /// A tier of evidence that may serve; those that the policy accepts when none is named.
    #[arg(long, value_name = "TIER")]
    tier: Vec<String>,
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8788")]
    listen: String,
    /// Offer no endpoint that takes plain text.
    #[arg(long)]
    no_plaintext: bool,
}

#[derive(Debug, Args)]
struct Revoke {
    #[command(flatten)]
    place: Place,
    /// Identifier of the provider's signing key, in hexadecimal.
    #[arg(long, value_name = "KEYID")]
    key: Hash,
    /// Why, for people; public.
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    place: Place,
    /// Where to listen, when not where the configuration says.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

/// Runs a command; says on standard error what went wrong.
pub async fn run(cli: Cli) -> ExitCode {
    match dispatch(cli.command).await {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::ApiKey(ApiKey::Create(named)) => {
            let (store, signer) = store(&named.place).await?;
            let by = ByHand { signer: &signer, reason: &named.reason };
            println!("{}", store.create_api_key(&named.name, by, SystemClock.now()).await?);
        }
        Command::ApiKey(ApiKey::List(place)) => {
            for row in store(&place).await?.0.api_keys().await? {
                let state = if row.revoked { "revoked" } else { "works" };
                println!(
                    "{}  {state}  {}  {} requests  {} pico-USD",
                    &row.hash[..16],
                    row.account,
                    row.requests,
                    row.charge
                );
            }
        }
        Command::ApiKey(ApiKey::Revoke { place, key, reason }) => {
            let (store, signer) = store(&place).await?;
            let by = ByHand { signer: &signer, reason: &reason };
            let revoked = store.revoke_api_keys(&key, by, SystemClock.now()).await?;
            ensure!(revoked > 0, "no working key has a hash or account {key:?}; `api-key list` shows them");
            println!("revoked {revoked}");
        }
        Command::Approve(args) => println!("{}", operator::approve(&args.change, &args.key)?),
        Command::Init(args) => init(args).await?,
        Command::OperatorAction(args) => {
            let (index, leaf) = operator::log(args.place.load()?, &args.change, &args.approval).await?;
            println!("logged operator-action {leaf}, registry entry {index}");
        }
        Command::ProviderToken(ProviderToken::Create(named)) => {
            let (store, signer) = store(&named.place).await?;
            let by = ByHand { signer: &signer, reason: &named.reason };
            println!("{}", store.create_provider_token(&named.name, by, SystemClock.now()).await?);
        }
        Command::Revoke(args) => revoke(args).await?,
        Command::Serve(args) => serve(args).await?,
    }
    Ok(())
}

/// The database, and the key that signs what is changed there by hand.
async fn store(place: &Place) -> anyhow::Result<(Store, SigningKey)> {
    let config = place.load()?;
    let store = Store::open(&config.database()).await.context("coordinator.db cannot be opened")?;
    Ok((store, Config::read_key(&config.data)?))
}

async fn init(args: Init) -> anyhow::Result<()> {
    let absolute = |path: &Path| -> anyhow::Result<PathBuf> {
        std::path::absolute(path).with_context(|| format!("{}", path.display()))
    };
    let data = absolute(&args.data)?;
    let text = std::fs::read_to_string(&args.policy)
        .with_context(|| format!("the policy {} cannot be read", args.policy.display()))?;
    let policy = Policy::parse(&text).with_context(|| format!("{}", args.policy.display()))?;
    let mut models = Vec::new();
    for model in &args.model {
        let (alias, folder) =
            model.split_once('=').with_context(|| format!("--model {model}: expected ALIAS=DIR"))?;
        models.push(model_config(alias, &absolute(Path::new(folder))?, &args.price)?);
    }
    let tiers = if args.tier.is_empty() { policy.accepted_tiers().to_vec() } else { args.tier };
    if tiers.is_empty() {
        eprintln!("note: no tier may serve; name one with --tier, or in coordinator.toml");
    }
    durable::create_folder(&data.join("releases"))?;
    let key = Config::create_key(&data)?;
    let config = Config {
        name: args.name,
        listen: args.listen,
        log: LogConfig {
            url: args.log,
            token_file: absolute(&args.log_token_file)?,
            policy_file: absolute(&args.policy)?,
        },
        // What its users' policies believe, the rules believe; an operator can change the file.
        rules: Rules { tiers, ..Rules::believing(&policy) },
        api: Api { plaintext: !args.no_plaintext },
        liveness: LivenessConfig::default(),
        models,
        data,
    };
    // What is written can be read: every rule of the file holds for the flags too.
    let config = Config::parse(&toml::to_string_pretty(&config)?, &config.data)?;
    let policy = crate::app::policy(&config, &key)?;
    for file in &args.release {
        let statement = bootstrap::read_release(file, &policy)?;
        let name = format!("{}.cose", statement.leaf_hash());
        durable::write(&config.releases().join(name), statement.bytes())?;
    }
    Store::open(&config.database()).await.context("coordinator.db cannot be made")?.close().await;
    config.save()?;
    println!("coordinator {}", key.public_key());
    Ok(())
}

fn model_config(alias: &str, folder: &Path, prices: &[String]) -> anyhow::Result<ModelConfig> {
    let price = prices.iter().find_map(|price| price.strip_prefix(alias)?.strip_prefix('='));
    let (prompt_price, completion_price) = match price {
        None => DEFAULT_PRICES,
        Some(price) => price
            .split_once(',')
            .and_then(|(prompt, completion)| Some((prompt.parse().ok()?, completion.parse().ok()?)))
            .with_context(|| {
                format!("--price {alias}={price}: expected ALIAS=PROMPT,COMPLETION in pico-dollars")
            })?,
    };
    let model = ModelConfig {
        alias: alias.to_owned(),
        folder: folder.to_owned(),
        quantisation: quantisation(folder),
        licence: "NOASSERTION".to_owned(),
        source: "NOASSERTION".to_owned(),
        prompt_price,
        completion_price,
    };
    // Hashes the files once too often, and finds a wrong folder now rather than at the start.
    bootstrap::describe(&model, folder)?;
    Ok(model)
}

/// How the weights are stored, as far as the model's own configuration says.
fn quantisation(folder: &Path) -> String {
    let config = std::fs::read(folder.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    let bits = config["quantization"]["bits"].as_u64().map(|bits| format!("q{bits}"));
    let kind = ["dtype", "torch_dtype"].iter().find_map(|key| config[key].as_str().map(str::to_owned));
    bits.or(kind).unwrap_or_else(|| "unknown".to_owned())
}

async fn revoke(args: Revoke) -> anyhow::Result<()> {
    let app = App::open(args.place.load()?, Arc::new(SystemClock), Shutdown::new()).await?;
    let revocation =
        Revocation { key: KeyId(args.key), from: app.receipts.size().await?, reason: args.reason };
    app.registry.sync().await?;
    if let Some(known) = app.registry.view().revoked(revocation.key) {
        bail!("key {} is revoked already: {}", known.key, known.reason);
    }
    let index = app.registry.append(&revocation.sign(&app.signer)?).await?;
    println!("revoked {} from receipt {} on, registry entry {index}", revocation.key, revocation.from);
    app.store.close().await;
    Ok(())
}

async fn serve(args: Serve) -> anyhow::Result<()> {
    glassbloom_service::tracing_init();
    let config = args.place.load()?;
    let address = args.listen.unwrap_or_else(|| config.listen.clone());
    let address: SocketAddr =
        address.parse().with_context(|| format!("{address:?} is not an address and port"))?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another with --listen, or stop what uses it")
    })?;
    crate::serve(config, listener, Arc::new(SystemClock), on_signals()).await
}

/// Which of the shared exit codes an error means.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let log = error.chain().find_map(|cause| cause.downcast_ref::<LogError>());
    match log {
        None => ExitCode::Usage,
        Some(
            LogError::Checkpoint(glassbloom_spec::policy::OpenError::Quorum { .. })
            | LogError::Unpublished(_),
        ) => ExitCode::Stale,
        Some(LogError::Fetch(FetchError::Unreachable { .. })) => ExitCode::Unreachable,
        Some(_) => ExitCode::Rejected,
    }
}

/// Half a dollar and a dollar and a half per million tokens.
const DEFAULT_PRICES: (u64, u64) = (500_000, 1_500_000);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let words = "x operator-action --what a --scope b --change c --reason d --approval nonsense";
        let error = Cli::try_parse_from(words.split(' ')).unwrap_err().to_string();
        assert!(error.contains("expected KEY:SIGNATURE"), "{error}");
    }
}
