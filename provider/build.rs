//! Leads the programs and tests that run models to the MLX library.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_MLX").is_none() {
        return;
    }
    let here = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        _ => "$ORIGIN",
    };
    // Relative, so that a build does not depend on where the checkout lies. First as installed (`bin/` beside
    // `lib/mlx/`), then from `target/debug`, and from `target/debug/deps` or `target/TRIPLE/debug`.
    let places =
        ["../lib/mlx/lib", "../mlx/dist/mlx/lib", "../../mlx/dist/mlx/lib", "../../../mlx/dist/mlx/lib"];
    for place in places {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{here}/{place}");
    }
    // Only a build outside the checkout needs to know where it is.
    let path = |name| PathBuf::from(env::var_os(name).expect("cargo sets it for every build script"));
    let target =
        path("CARGO_MANIFEST_DIR").parent().map_or_else(PathBuf::new, Path::to_path_buf).join("target");
    // What a program measures of itself includes the library that it runs with.
    println!("cargo::rustc-env=GLASSBLOOM_MLX_LIB_DIR={}", target.join("mlx/dist/mlx/lib").display());
    if !path("OUT_DIR").starts_with(&target) {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", target.join("mlx/dist/mlx/lib").display());
    }
}
