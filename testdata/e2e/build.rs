//! Leads the tests that link the provider with MLX to its library, as `provider/build.rs` does for the programs.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_MLX").is_none() {
        return;
    }
    let here = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        _ => "$ORIGIN",
    };
    println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{here}/../../mlx/dist/mlx/lib");
    // Where the target folder lies outside the checkout.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for every build script");
    let root = Path::new(&manifest).ancestors().nth(2).expect("two folders below the root");
    println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{}", root.join("target/mlx/dist/mlx/lib").display());
}
