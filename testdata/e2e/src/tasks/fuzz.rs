//! `cargo fuzz-short`: each fuzz target for a few seconds, on stable Rust.
//!
//! cargo-fuzz asks for a nightly compiler to have sanitizers. What guides libFuzzer is branch coverage, though, which the
//! stable compiler gives too; `testdata/fuzz/coverage` asks it for that, for the packages of this workspace alone, so
//! that everything else is taken from the builds that are there.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use super::build::{cargo, programs};

/// Which targets, and how long.
#[derive(clap::Args)]
pub struct Fuzz {
    /// Seconds per target
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Targets; all of them when none is named
    targets: Vec<String>,
}

impl Fuzz {
    /// Builds the targets and runs one after the other.
    ///
    /// # Errors
    /// When one cannot be built, or finds an input that breaks a rule.
    pub fn run(&self, root: &Path, progress: &dyn Fn(&str)) -> Result<()> {
        let folder = root.join("testdata/fuzz");
        let all = names(&folder.join("fuzz_targets"))?;
        let unknown = self.targets.iter().find(|name| !all.contains(name));
        if let Some(unknown) = unknown {
            bail!("no fuzz target {unknown}; there are: {}", all.join(", "));
        }
        let targets = if self.targets.is_empty() { &all } else { &self.targets };
        progress("building the fuzz targets");
        let mut build = cargo(root);
        build.env("RUSTC_WORKSPACE_WRAPPER", folder.join("coverage"));
        // With and without coverage, a package's incremental builds would get into each other's way.
        build.env("CARGO_INCREMENTAL", "0");
        build.args(["build", "--quiet", "--package", "glassbloom-fuzz", "--features", "libfuzzer"]);
        targets.iter().for_each(|name| {
            build.args(["--bin", name]);
        });
        ensure!(build.status().context("starting cargo")?.success(), "the fuzz targets could not be built");
        for name in targets {
            self.one(root, &folder, name, progress)?;
        }
        Ok(())
    }

    fn one(&self, root: &Path, folder: &Path, name: &str, progress: &dyn Fn(&str)) -> Result<()> {
        let grown = root.join("target/fuzz/corpus").join(name);
        fs::create_dir_all(&grown).with_context(|| format!("making {}", grown.display()))?;
        let artifacts = root.join("target/fuzz/artifacts").join(name);
        fs::create_dir_all(&artifacts).with_context(|| format!("making {}", artifacts.display()))?;
        let mut fuzz = Command::new(programs()?.join(name));
        // A folder of vectors has the name that its check reads it by, with dashes.
        let vectors = root.join("testdata").join(name.replace('_', "-"));
        fuzz.arg(&grown).arg(folder.join("corpus").join(name));
        if vectors.is_dir() {
            fuzz.arg(vectors);
        }
        let dictionary = folder.join("dictionaries").join(format!("{name}.dict"));
        if dictionary.is_file() {
            fuzz.arg(format!("-dict={}", dictionary.display()));
        }
        fuzz.arg(format!("-max_total_time={}", self.seconds));
        fuzz.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-use_value_profile=1"]);
        fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
        let ran = fuzz.output().with_context(|| format!("starting the fuzz target {name}"))?;
        let words = String::from_utf8_lossy(&ran.stderr);
        if !ran.status.success() {
            let lines: Vec<&str> = words.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            bail!(
                "{name} found an input that breaks a rule; it is in {}\nkeep it: copy it to {} as found-WHAT, and `cargo test -p glassbloom-fuzz` fails until it is mended",
                artifacts.display(),
                folder.join("corpus").join(name).display()
            );
        }
        let runs = words.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units: "));
        progress(&format!("{name}: {} runs", runs.context("libFuzzer printed no statistics")?.trim()));
        Ok(())
    }
}

/// The targets, by the names of their files, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let files = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file.context("reading a folder")?.path();
        if let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|end| end == "rs")) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
