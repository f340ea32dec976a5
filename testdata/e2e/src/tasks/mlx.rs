//! Sets MLX up for `cargo build --features mlx`, from package registries only.
//!
//! The native library is the one the pinned `mlx-cpu` or `mlx-metal` wheel ships. The C layer that `mlx-rs`
//! speaks to comes with the crates.io package `mlx-sys`; it is compiled here and not by that package's own
//! build script, which knows Apple systems only and clones MLX. A `links` override in
//! `target/mlx/config.toml`, which `.cargo/config.toml` includes when it is there, tells cargo so. Everything
//! lies below `target/mlx`; a build without the `mlx` feature needs none of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::wheel::{Wheel, sha256, succeed};

/// The version of MLX. `mlx-sys` 0.7.0 fits this one and no other: later headers do not compile with it, and
/// what was linked against this library does not load another.
pub const MLX_VERSION: &str = "0.32.2";

const MLX_SYS_VERSION: &str = "0.7.0";

/// Change this when the recipe changes in a way that the stamps below do not see.
const RECIPE: &str = "1";

/// What [`set_up`] made.
#[derive(Clone, Debug)]
pub struct MlxDist {
    /// The unpacked wheel: `mlx/lib`, `mlx/include` and, on Linux, `mlx_cpu.libs`.
    pub dist: PathBuf,
    /// The folder with the MLX library that programs load.
    pub lib: PathBuf,
    /// The folder with the compiled C layer and its Rust declarations.
    pub native: PathBuf,
    /// The cargo configuration that makes `--features mlx` use them.
    pub config: PathBuf,
}

struct Platform {
    triple: &'static str,
    mlx: Wheel,
    libclang: Wheel,
    link: &'static [&'static str],
}

const fn mlx(package: &'static str, platform: &'static str, sha256: &'static str) -> Wheel {
    Wheel { package, version: MLX_VERSION, platform, sha256 }
}

const fn libclang(platform: &'static str, sha256: &'static str) -> Wheel {
    Wheel { package: "libclang", version: "18.1.1", platform, sha256 }
}

const LINUX: &[&str] = &["static=mlxc", "dylib=mlx", "dylib=stdc++"];

const PLATFORMS: [Platform; 3] = [
    Platform {
        triple: "x86_64-unknown-linux-gnu",
        mlx: mlx(
            "mlx-cpu",
            "manylinux_2_35_x86_64",
            "fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878",
        ),
        libclang: libclang(
            "manylinux2010_x86_64",
            "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b",
        ),
        link: LINUX,
    },
    Platform {
        triple: "aarch64-unknown-linux-gnu",
        mlx: mlx(
            "mlx-cpu",
            "manylinux_2_35_aarch64",
            "d0f94625588b51a878786dd51cec5617894ce586cf3c94645ce1b64e24c27c0b",
        ),
        libclang: libclang(
            "manylinux2014_aarch64",
            "54dda940a4a0491a9d1532bf071ea3ef26e6dbaf03b5000ed94dd7174e8f9592",
        ),
        link: LINUX,
    },
    Platform {
        triple: "aarch64-apple-darwin",
        mlx: mlx(
            "mlx-metal",
            "macosx_14_0_arm64",
            "3825fff379dbc107dd3413e564a06caeaa24819910ec49c0439e454c06a1b9b8",
        ),
        libclang: libclang(
            "macosx_11_0_arm64",
            "0b2e143f0fac830156feb56f9231ff8338c20aecfe72b4ffe96f19e5a1dbb69a",
        ),
        link: &[
            "static=mlxc",
            "dylib=mlx",
            "dylib=c++",
            "framework=Metal",
            "framework=Foundation",
            "framework=Accelerate",
        ],
    },
];

/// Makes `target/mlx` below the repository `root`, or finds that it is made already.
///
/// `progress` is told each step that takes time, as a line without a line end. Safe to call from two
/// processes at once: the second waits.
///
/// # Errors
/// On a platform MLX has no pinned wheel for, without python3, pip or a C++20 compiler, without a network on
/// the first run, and when a downloaded file is not the pinned one. Each names what to do.
pub fn set_up(root: &Path, progress: &dyn Fn(&str)) -> Result<MlxDist> {
    let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
    let platform = platform()?;
    let base = root.join("target/mlx");
    fs::create_dir_all(&base).with_context(|| format!("creating {}", base.display()))?;
    let lock = base.join("lock");
    let lock = File::create(&lock).with_context(|| format!("creating {}", lock.display()))?;
    lock.lock().context("waiting for another set-up of MLX")?;

    let dist = base.join("dist");
    let made = MlxDist {
        lib: dist.join("mlx/lib"),
        native: base.join("nat"),
        config: base.join("config.toml"),
        dist,
    };
    let wheels = base.join("wheels");

    if !made.lib.is_dir() {
        progress(&format!("fetching {} {MLX_VERSION}", platform.mlx.package));
    }
    platform.mlx.unpack(&wheels, &made.dist)?;

    let compat = [root.join("provider/mlx/std_format.h"), root.join("provider/mlx/half_x86.cpp")];
    let mut stamp = format!("{RECIPE} {MLX_SYS_VERSION} {} {}", platform.triple, platform.mlx.sha256);
    for file in &compat {
        stamp += &format!(" {}", sha256(file)?);
    }
    let stamped = made.native.join("stamp");
    if fs::read_to_string(&stamped).is_ok_and(|text| text == stamp) {
        write_config(&made, platform)?;
        return Ok(made);
    }

    progress(&format!("finding mlx-sys {MLX_SYS_VERSION}"));
    let source = mlx_sys(&root, platform.triple)?.join("src/mlx-c");
    if made.native.exists() {
        fs::remove_dir_all(&made.native).with_context(|| format!("removing {}", made.native.display()))?;
    }
    fs::create_dir_all(&made.native).with_context(|| format!("creating {}", made.native.display()))?;
    progress("compiling the C layer of MLX (about a minute on two cores)");
    compile(&source, &made, &compat, platform, &root)?;
    progress("declaring the C layer of MLX to Rust");
    let tools = base.join("tools/libclang");
    declare(&source, &made, platform, &root, &wheels, &tools)?;
    write_config(&made, platform)?;
    // Last, so that a set-up that broke off is done again.
    fs::write(&stamped, stamp).with_context(|| format!("writing {}", stamped.display()))?;
    Ok(made)
}

/// The pinned platform that rustc builds for on this machine.
fn platform() -> Result<&'static Platform> {
    let version = succeed(Command::new("rustc").arg("-vV")).context("asking rustc for its host")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc named no host")?;
    PLATFORMS.iter().find(|platform| platform.triple == host).with_context(|| {
        let known = PLATFORMS.map(|platform| platform.triple).join(", ");
        format!("MLX has no wheel for {host}, only for {known}; build without `--features mlx` here")
    })
}

/// The folder of the crates.io package, as cargo unpacked it.
fn mlx_sys(root: &Path, triple: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = succeed(
        Command::new(cargo)
            .args(["metadata", "--format-version=1", "--all-features", "--filter-platform", triple])
            .current_dir(root),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("reading what `cargo metadata` said")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` named no packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == "mlx-sys")
        .context("Cargo.lock has no mlx-sys: is mlx-rs still a dependency of the provider?")?;
    let version = package["version"].as_str().unwrap_or_default();
    ensure!(
        version == MLX_SYS_VERSION,
        "Cargo.lock has mlx-sys {version}, but MLX {MLX_VERSION} is set up for mlx-sys {MLX_SYS_VERSION}"
    );
    let manifest = package["manifest_path"].as_str().context("`cargo metadata` gave no path of mlx-sys")?;
    Ok(Path::new(manifest).parent().context("mlx-sys lies in no folder")?.to_path_buf())
}

/// Compiles `mlx-c`, as it is, into `libmlxc.a`.
fn compile(
    source: &Path,
    made: &MlxDist,
    compat: &[PathBuf; 2],
    platform: &Platform,
    root: &Path,
) -> Result<()> {
    let include = made.dist.join("mlx/include");
    let folder = source.join("mlx/c");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "cpp") {
            files.push(file);
        }
    }
    ensure!(!files.is_empty(), "{} has no C++ files", folder.display());
    // The order of the archive's members is the order here.
    files.sort();
    let [format, half] = compat;
    files.push(half.clone());

    let objects = made.native.join("obj");
    fs::create_dir_all(&objects).with_context(|| format!("creating {}", objects.display()))?;
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .target(platform.triple)
        .host(platform.triple)
        // The minimum the metal wheel is built for, and std::format's.
        .env("MACOSX_DEPLOYMENT_TARGET", "14.0")
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .cargo_metadata(false)
        .flag("-include")
        .flag(format)
        // Error texts hold source paths; they must not differ between checkouts.
        .flag_if_supported(format!("-ffile-prefix-map={}=mlx-c", source.display()))
        .flag_if_supported(format!("-ffile-prefix-map={}=.", root.display()))
        .include(source)
        .include(include)
        .out_dir(&objects)
        .files(&files)
        .try_compile("mlxc")
        .context(
            "compiling mlx-c needs a C++20 compiler (Debian: apt install g++; macOS: xcode-select --install)",
        )?;
    fs::rename(objects.join("libmlxc.a"), made.native.join("libmlxc.a")).context("keeping libmlxc.a")?;
    fs::remove_dir_all(&objects).with_context(|| format!("removing {}", objects.display()))
}

/// Writes `bindings.rs`, the Rust declarations of `mlx-c`, with the program that has bindgen in it.
fn declare(
    source: &Path,
    made: &MlxDist,
    platform: &Platform,
    root: &Path,
    wheels: &Path,
    tools: &Path,
) -> Result<()> {
    let clang = match std::env::var_os("LIBCLANG_PATH") {
        Some(own) => PathBuf::from(own),
        None => {
            platform.libclang.unpack(wheels, tools)?;
            let found = ["clang/native", "libclang-18.1.1.data/platlib/clang/native"];
            found
                .iter()
                .map(|folder| tools.join(folder))
                .find(|folder| folder.is_dir())
                .with_context(|| format!("{} has no libclang in it", tools.display()))?
        }
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--package", "glassbloom-e2e", "--features", "bindings"])
        .args(["--bin", "glassbloom-bindings", "--"])
        .arg(source)
        .arg(made.native.join("bindings.rs"))
        .current_dir(root)
        .env("LIBCLANG_PATH", clang);
    for argument in builtin_headers(platform.triple)? {
        command.arg(argument);
    }
    succeed(&mut command).context("declaring mlx-c to Rust")?;
    Ok(())
}

/// Arguments that lead libclang to the compiler's own headers, which its wheel does not bring.
fn builtin_headers(triple: &str) -> Result<Vec<String>> {
    if triple.ends_with("darwin") {
        let sdk = succeed(Command::new("xcrun").args(["--sdk", "macosx", "--show-sdk-path"]))
            .context("finding the macOS SDK needs the command line tools: xcode-select --install")?;
        let own = succeed(Command::new("xcrun").args(["clang", "-print-resource-dir"]))?;
        return Ok(vec![
            "-isysroot".to_owned(),
            sdk.trim().to_owned(),
            "-isystem".to_owned(),
            format!("{}/include", own.trim()),
        ]);
    }
    let folder = succeed(Command::new("cc").arg("-print-file-name=include"))
        .context("finding the compiler's headers needs a C compiler (Debian: apt install gcc)")?;
    let folder = folder.trim();
    if !Path::new(folder).is_dir() {
        bail!("cc names {folder:?} as the folder of its headers, which is none");
    }
    Ok(vec!["-isystem".to_owned(), folder.to_owned()])
}

/// Writes the `links` override. Cargo wants absolute paths there, so a moved checkout gets a new file.
fn write_config(made: &MlxDist, platform: &Platform) -> Result<()> {
    // JSON strings and lists of them are TOML as well.
    let path = |folder: &Path| -> Result<String> {
        Ok(folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?.to_owned())
    };
    let (native, lib) = (path(&made.native)?, path(&made.lib)?);
    let search = serde_json::to_string(&[format!("native={native}"), format!("native={lib}")])?;
    let link = serde_json::to_string(platform.link)?;
    let out = serde_json::to_string(&native)?;
    let text = format!(
        "# Made by `cargo up` and `cargo ci`: mlx-sys is linked with what lies here, its build script never runs.\n\
         [target.{}.mlx]\n\
         rustc-link-search = {search}\n\
         rustc-link-lib = {link}\n\
         rustc-env = {{ OUT_DIR = {out} }}\n",
        platform.triple
    );
    // Left alone when it is right, because cargo rebuilds after a change.
    if fs::read_to_string(&made.config).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(&made.config, text).with_context(|| format!("writing {}", made.config.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_override_follows_the_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let made = |root: &str| MlxDist {
            dist: format!("{root}/dist").into(),
            lib: format!("{root}/dist/mlx/lib").into(),
            native: format!("{root}/nat").into(),
            config: folder.path().join("config.toml"),
        };
        let platform = &PLATFORMS[0];
        for root in ["/home/a", "/home/b \"quoted\""] {
            let made = made(root);
            write_config(&made, platform).unwrap();
            let text = fs::read_to_string(&made.config).unwrap();
            assert!(text.contains("[target.x86_64-unknown-linux-gnu.mlx]"), "{text}");
            let native = serde_json::to_string(&format!("{root}/nat")).unwrap();
            assert!(text.contains(&format!("rustc-env = {{ OUT_DIR = {native} }}")), "{text}");

            let written = fs::metadata(&made.config).unwrap().modified().unwrap();
            write_config(&made, platform).unwrap();
            assert_eq!(fs::metadata(&made.config).unwrap().modified().unwrap(), written);
        }
    }
}
