//! Writes the corpus, always the same one.

use std::process::ExitCode;

fn main() -> ExitCode {
    match glassbloom_fuzz::seeds::write() {
        Ok(written) => {
            println!("{written} seeds written; `git status testdata/fuzz` shows what changed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("seeds: {error}");
            ExitCode::FAILURE
        }
    }
}
