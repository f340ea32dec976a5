//! What the coordinator says of itself and its network, in the registry before it serves.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use glassbloom_spec::{
    cbor::Value,
    curve::Signer,
    hash::{Hash, Hasher},
    leaf::{Coordinator, Model, ModelFile, Payload, Price, PriceTable, Release},
    policy::Policy,
    statement::Statement,
};

use crate::{
    config::{Config, ModelConfig},
    logs::Registry,
    view::InForce,
};

/// Logs what is missing: who this coordinator is, its rules, its models and prices, and the releases it was given.
pub(crate) async fn publish(config: &Config, signer: &dyn Signer, registry: &Registry) -> anyhow::Result<()> {
    registry.sync().await.context("the registry cannot be read")?;
    let identity =
        Coordinator { key: signer.public_key(), name: config.name.clone(), build: own_build()?, quote: None };
    registry.ensure(&identity.sign(signer)?).await?;
    let rules = config.rules.leaf(config.api.plaintext)?;
    let latest = registry.view().latest().clone();
    let rules = put_in_force(registry, signer, &rules, latest.rules).await?;
    let mut models = BTreeMap::new();
    for model in &config.models {
        let (model, folder) = (model.clone(), config.path(&model.folder));
        // Hashing weights takes a while and must not hold up other tasks.
        let model = tokio::task::spawn_blocking(move || describe(&model, &folder)).await??;
        let latest = latest.models.get(&model.alias).copied();
        let hash = put_in_force(registry, signer, &model, latest).await?;
        models.insert(model.alias, hash);
    }
    let price = |model: &ModelConfig| Price {
        alias: model.alias.clone(),
        prompt: model.prompt_price,
        completion: model.completion_price,
    };
    let prices = PriceTable { prices: config.models.iter().map(price).collect() };
    let prices = put_in_force(registry, signer, &prices, latest.prices).await?;
    registry.put_in_force(InForce { rules: Some(rules), prices: Some(prices), models });
    publish_releases(config, registry).await
}

/// Makes a statement the newest of its kind; returns its leaf hash.
///
/// The log takes the same bytes once. So going back to what was in force before takes a statement of its own, which
/// differs by the optional field that names the one it replaces.
async fn put_in_force<P: Payload>(
    registry: &Registry,
    signer: &dyn Signer,
    payload: &P,
    latest: Option<Hash>,
) -> anyhow::Result<Hash> {
    let plain = payload.sign(signer)?;
    let statement = match latest {
        // The newest says the same, in these or other bytes.
        Some(latest) if registry.view().says(&latest, &payload.to_value()) => return Ok(latest),
        Some(latest) if registry.view().has(&plain) => replacing(payload, latest, signer)?,
        _ => plain,
    };
    registry.ensure(&statement).await?;
    Ok(statement.leaf_hash())
}

fn replacing<P: Payload>(payload: &P, replaced: Hash, signer: &dyn Signer) -> anyhow::Result<Statement> {
    let mut value = payload.to_value();
    if let Value::Map(fields) = &mut value {
        fields.push((Value::Unsigned(REPLACES), replaced.into()));
    }
    Ok(Statement::sign(P::KIND, &value, signer)?)
}

/// Logs the releases of the folder that are not in the registry. One that the policy has no key for is left out with
/// a warning: it may be of another network, and nothing can rely on it.
pub(crate) async fn publish_releases(config: &Config, registry: &Registry) -> anyhow::Result<()> {
    for file in release_files(&config.releases())? {
        match read_release(&file, registry.policy()) {
            Ok(statement) => registry.ensure(&statement).await?,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "a release is left out"),
        }
    }
    Ok(())
}

/// Reads a signed release and checks that the policy trusts its key.
pub(crate) fn read_release(file: &Path, policy: &Policy) -> anyhow::Result<Statement> {
    let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let statement = Statement::parse(&bytes).with_context(|| format!("{}", file.display()))?;
    let release = Release::of(&statement).with_context(|| format!("{}", file.display()))?;
    ensure!(
        policy.trusts_release(&statement, &release),
        "{} is signed by key {} with {} approvals, and {} of the policy's `release` keys must stand behind it",
        file.display(),
        statement.key_id(),
        release.approvals.len(),
        policy.release_threshold()
    );
    Ok(statement)
}

fn release_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// What a model's folder holds: the files that decide what it answers, in order of their names.
pub(crate) fn describe(model: &ModelConfig, folder: &Path) -> anyhow::Result<Model> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("model {}: the folder {} cannot be read", model.alias, folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        // Follows links: Hugging Face's cache is made of them.
        if counts(&name) && std::fs::metadata(folder.join(&name))?.is_file() {
            names.push(name);
        }
    }
    names.sort();
    ensure!(
        names.iter().any(|name| name.ends_with(".safetensors")),
        "model {}: {} has no .safetensors file; it must be in Hugging Face layout",
        model.alias,
        folder.display()
    );
    let file = |name: String| {
        let path = folder.join(&name);
        let (size, sha256) =
            hash_file(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(ModelFile { name, size, sha256 })
    };
    Ok(Model {
        alias: model.alias.clone(),
        files: names.into_iter().map(file).collect::<anyhow::Result<_>>()?,
        quantisation: model.quantisation.clone(),
        licence: model.licence.clone(),
        source: model.source.clone(),
    })
}

fn hash_file(path: &Path) -> std::io::Result<(u64, Hash)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::default(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hasher.finish()));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

/// SHA-256 of the program that runs.
fn own_build() -> anyhow::Result<Hash> {
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    Ok(hash_file(&program).with_context(|| format!("{} cannot be read", program.display()))?.1)
}

/// Whether a file decides what a model answers: the rule of `spec/leaf.md`, by which providers find the same digest.
fn counts(name: &str) -> bool {
    name.ends_with(".safetensors") || name.starts_with("chat_template.") || MODEL_FILES.contains(&name)
}

/// Optional field of what is in force again: leaf hash of the statement it replaces.
const REPLACES: u64 = glassbloom_spec::cbor::FIRST_OPTIONAL;

const MODEL_FILES: [&str; 9] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn model(folder: &Path) -> ModelConfig {
        ModelConfig {
            alias: "m".to_owned(),
            folder: folder.to_owned(),
            quantisation: "bf16".to_owned(),
            licence: "MIT".to_owned(),
            source: "here".to_owned(),
            prompt_price: 1,
            completion_price: 2,
        }
    }

    #[test]
    fn a_model_is_its_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tokenizer.json", "model.safetensors", "config.json", "README.md", "adapter.safetensors"]
        {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let described = describe(&model(folder.path()), folder.path()).unwrap();
        let names: Vec<&str> = described.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["adapter.safetensors", "config.json", "model.safetensors", "tokenizer.json"]);
        assert_eq!(described.files[1].sha256, Hash::of(b"config.json"));
        assert_eq!(described.files[1].size, 11);
    }

    #[test]
    fn a_folder_without_weights_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = describe(&model(folder.path()), folder.path()).unwrap_err().to_string();
        assert!(error.contains("no .safetensors"), "{error}");
        assert!(describe(&model(folder.path()), &folder.path().join("none")).is_err());
    }
}
