//! Leads the programs and tests that run models to the MLX library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_MLX").is_none() {
        return;
    }
    let here = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        _ => "$ORIGIN",
    };
    // Relative, so that a build does not depend on where the checkout lies. First as installed (`bin/` beside
    // `lib/mlx/`), then from `target/debug`, and from `target/debug/deps` or `target/TRIPLE/debug`.
    for path in
        ["../lib/mlx/lib", "../mlx/dist/mlx/lib", "../../mlx/dist/mlx/lib", "../../../mlx/dist/mlx/lib"]
    {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{here}/{path}");
    }
}
