//! Writes the Rust declarations of `mlx-c`: `glassbloom-bindings SOURCE OUTPUT [clang argument…]`.
//!
//! A program of its own because libclang is found through the environment it starts with, and so that nothing
//! else is built with bindgen.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// `mlx-c` declares its half-precision accessors with C types that only some architectures have. Here they are
/// their sixteen bits on every architecture, in the form that `mlx-rs` wants; the values in registers are
/// never passed, only pointers to them.
const HALF: &str = "#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef unsigned short float16_t;
typedef unsigned short bfloat16_t;
";

const HALF_RUST: &str = "#[repr(transparent)]
#[derive(Debug, Default, Copy, Clone)]
pub struct float16_t(pub u16);
pub type bfloat16_t = u16;";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let source = arguments.next().context("the folder of mlx-c is missing")?;
    let output = arguments.next().context("the file to write is missing")?;

    let folder = source.join("mlx/c");
    let mut headers = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let header = entry?.path();
        if header.extension().is_some_and(|extension| extension == "h") {
            headers.push(header);
        }
    }
    headers.sort();
    let mut text = HALF.to_owned();
    for header in headers {
        let header = header.to_str().context("the path of mlx-c is not UTF-8")?;
        text += &format!("#include \"{header}\"\n");
    }

    bindgen::Builder::default()
        .header_contents("mlx.h", &text)
        .rust_target("1.73.0".parse().expect("a version bindgen knows"))
        .clang_arg(format!("-I{}", source.display()))
        .clang_args(arguments.map(|argument| argument.to_string_lossy().into_owned()))
        .allowlist_file(".*/mlx/c/.*")
        .blocklist_type("b?float16_t")
        .raw_line(HALF_RUST)
        .formatter(bindgen::Formatter::None)
        .generate()
        .context("reading the headers of mlx-c")?
        .write_to_file(&output)
        .with_context(|| format!("writing {}", output.display()))
}
