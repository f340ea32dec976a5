//! Compiles the pages and writes the four files of the site.
//!
//! Uses cargo and the crate `wasm-bindgen-cli-support`, whose version the lock file ties to that of `wasm-bindgen`;
//! no tool is downloaded.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use flate2::{Compression, write::GzEncoder};
use wasm_bindgen_cli_support::Bindgen;

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "wasm-release";
/// The module's name in the site: `app.js` and `app_bg.wasm`.
const MODULE: &str = "app";

/// Started from the module itself, because the content security policy forbids a script in the page.
const START: &str = r#"
__wbg_init().catch((error) => {
    console.error(error);
    document.getElementById("boot")?.setAttribute("data-failed", "");
});
"#;

/// Builds the site into `out` and returns the files it wrote.
///
/// # Errors
/// When the WebAssembly target is missing and cannot be installed, or the pages do not compile.
pub fn build(out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let root = workspace_root()?;
    ensure_target()?;
    let target_dir = root.join("target/web");
    step("compiling the explorer to WebAssembly (some minutes the first time)");
    compile(&root, &target_dir)?;
    step("binding it to the browser");
    let staging = target_dir.join("site");
    bind(&target_dir.join(TARGET).join(PROFILE).join("glassbloom_web.wasm"), &staging)?;
    let files = write_site(&root.join("web"), &staging, out)?;
    step(&format!("wrote {}", out.display()));
    for file in &files {
        report(file)?;
    }
    Ok(files)
}

/// The folder of the workspace this is run in.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let output = cargo()
        .args(["locate-project", "--workspace", "--message-format", "plain"])
        .output()
        .context("cannot run cargo")?;
    let manifest = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let root = manifest.parent().filter(|root| root.join("web/index.html").is_file());
    Ok(root
        .context("run this inside the Glassbloom repository: the explorer's sources are compiled from it")?
        .to_owned())
}

/// Installs the compiler's WebAssembly target unless it is there.
fn ensure_target() -> anyhow::Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout)?.trim());
    if sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    step(&format!("installing the compiler target {TARGET}"));
    match Command::new("rustup").args(["target", "add", TARGET]).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => {
            bail!("`rustup target add {TARGET}` failed: check the network, run it by hand, then try again")
        }
        Err(_) => bail!(
            "the Rust compiler has no target {TARGET} and rustup is not installed: install rustup, or the package \
             of your distribution that holds this target (Debian: libstd-rust-dev-wasm32), then try again"
        ),
    }
}

fn compile(root: &Path, target_dir: &Path) -> anyhow::Result<()> {
    // A target folder of its own: this often runs under another cargo, which holds the lock of the usual one.
    // As cdylib from here only, so that native builds and tests link no shared library.
    let status = cargo()
        .current_dir(root)
        .args(["rustc", "--package", "glassbloom-web", "--lib", "--crate-type", "cdylib", "--locked"])
        .args(["--target", TARGET, "--profile", PROFILE, "--target-dir"])
        .arg(target_dir)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths(root))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the explorer does not compile: see the messages above");
    Ok(())
}

/// Compiler flags that keep folder names of this machine out of the files, so that every machine builds the same ones.
fn remapped_paths(root: &Path) -> String {
    let home = std::env::home_dir().unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let flag = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // Cargo separates flags with this character, so that folder names may have spaces.
    [flag(&cargo_home, "cargo"), flag(root, ".")].join("\u{1f}")
}

fn bind(wasm: &Path, staging: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(staging)?;
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(false)
        // Without it the page fails: the module must know the path of its own WebAssembly.
        .omit_default_module_path(false)
        .out_name(MODULE)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(staging)
        .context("wasm-bindgen failed")
}

fn write_site(sources: &Path, staging: &Path, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let script = fs::read_to_string(staging.join("app.js"))? + START;
    let contents = [
        ("app_bg.wasm", fs::read(staging.join("app_bg.wasm"))?),
        ("app.js", script.into_bytes()),
        ("style.css", fs::read(sources.join("style.css"))?),
        // Last, so that a page never names a file that is not there yet.
        ("index.html", fs::read(sources.join("index.html"))?),
    ];
    let write = |(name, bytes): (&str, Vec<u8>)| {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    contents.into_iter().map(write).collect()
}

fn report(file: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(file)?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&bytes)?;
    let kilobytes = |length: usize| format!("{:.1} kB", length as f64 / 1000.0);
    eprintln!(
        "      {:<28} {:>10}  {:>10} gzip",
        file.display(),
        kilobytes(bytes.len()),
        kilobytes(gzip.finish()?.len())
    );
    Ok(())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn step(what: &str) {
    eprintln!("  web {what}");
}
