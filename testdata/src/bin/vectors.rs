//! `cargo vectors`: writes Glassbloom's own test vectors, always the same ones.

use std::{path::Path, process::ExitCode};

use glassbloom_testdata::{vectors, world::World};

fn main() -> ExitCode {
    match vectors::write(&World::new(), Path::new(env!("CARGO_MANIFEST_DIR"))) {
        Ok(written) => {
            println!("{written} vectors written; `git status testdata` shows what changed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vectors: {error}");
            ExitCode::FAILURE
        }
    }
}
