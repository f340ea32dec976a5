//! What runs and what is served, as hashes: the program with its MLX library, and the files of a model.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use glassbloom_spec::{
    hash::{Hash, Hasher},
    leaf::{Model, ModelFile},
};

use crate::engine;

/// A measured provider program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// SHA-256 of the program's file.
    pub program: Hash,
    /// SHA-256 of the MLX library's file; `None` for a build without an engine.
    pub library: Option<Hash>,
}

impl Build {
    /// Measures this very process: the file it was started from and the MLX library it has mapped.
    ///
    /// # Errors
    /// When a file cannot be read, or a build with an engine does not find its library.
    pub fn of_this_process() -> io::Result<Self> {
        let library = mlx_library()?.map(|path| hash_file(&path)).transpose()?;
        Ok(Self { program: hash_file(&program()?)?, library })
    }

    /// What attestations and `release` statements name:
    /// SHA-256("glassbloom/build/v1\0" || u32 length || program || u32 length || library), the library's length being
    /// 0 where there is none.
    pub fn hash(&self) -> Hash {
        let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
        let library = self.library.as_ref().map_or(&[][..], |hash| hash.as_bytes());
        Hash::of_parts(&[
            b"glassbloom/build/v1\0",
            &length(self.program.as_bytes()),
            self.program.as_bytes(),
            &length(library),
            library,
        ])
    }
}

/// The target triple that this build is for, as `release` statements name platforms.
pub fn platform() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The digest by which attestations and manifests name a model: over the files that decide what it answers.
///
/// # Errors
/// When the folder or a file in it cannot be read, or none counts.
pub fn model_digest(folder: &Path) -> io::Result<Hash> {
    let files = engine::manifest(folder).map_err(|error| named(folder, &error))?;
    if files.is_empty() {
        return Err(named(folder, &io::Error::new(io::ErrorKind::NotFound, "no model files")));
    }
    let files: Vec<_> = files
        .into_iter()
        .map(|file| ModelFile { name: file.name, size: file.size, sha256: file.sha256 })
        .collect();
    Ok(Model::digest_of(&files))
}

fn hash_file(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path).map_err(|error| named(path, &error))?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(named(path, &error)),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(target_os = "linux")]
fn program() -> io::Result<PathBuf> {
    // The file that runs, also when another has taken its name since.
    Ok(PathBuf::from("/proc/self/exe"))
}

#[cfg(not(target_os = "linux"))]
fn program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

#[cfg(not(feature = "mlx"))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as with an engine")]
const fn mlx_library() -> io::Result<Option<PathBuf>> {
    Ok(None)
}

#[cfg(all(feature = "mlx", target_os = "linux"))]
fn mlx_library() -> io::Result<Option<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    mapped_library(&maps).map(Some).ok_or_else(|| {
        io::Error::other("this build has an engine, but libmlx.so is not among its mapped files")
    })
}

#[cfg(all(feature = "mlx", not(target_os = "linux")))]
fn mlx_library() -> io::Result<Option<PathBuf>> {
    // The places where the loader looks: beside the program when shipped, the build's own folder otherwise.
    let beside = std::env::current_exe()?.parent().map(|folder| folder.join("../lib/mlx/lib/libmlx.dylib"));
    let built = option_env!("GLASSBLOOM_MLX_LIB_DIR").map(|folder| Path::new(folder).join("libmlx.dylib"));
    beside
        .into_iter()
        .chain(built)
        .find(|path| path.is_file())
        .map(Some)
        .ok_or_else(|| io::Error::other("this build has an engine, but its libmlx.dylib was not found"))
}

#[cfg(any(test, all(feature = "mlx", target_os = "linux")))]
fn mapped_library(maps: &str) -> Option<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let mut libraries = paths.filter(|path| path.file_name().is_some_and(|name| name == "libmlx.so"));
    libraries.next().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_this_test_program() {
        let build = Build::of_this_process().unwrap();
        assert_eq!(build, Build::of_this_process().unwrap());
        assert_eq!(build.library.is_some(), cfg!(feature = "mlx"));
    }

    #[test]
    fn the_library_is_part_of_the_build() {
        let program = Hash::of(b"program");
        let with = |library: Option<&[u8]>| Build { program, library: library.map(Hash::of) }.hash();
        assert_ne!(with(None), with(Some(b"a")));
        assert_ne!(with(Some(b"a")), with(Some(b"b")));
    }

    #[test]
    fn finds_the_mapped_library() {
        let maps = "55-56 r-xp 00 fd:01 1  /usr/bin/x\n7f-80 r-xp 00 fd:01 2   /opt/a b/libmlx.so\n80-81 rw-p 0 0 0\n";
        assert_eq!(mapped_library(maps), Some(PathBuf::from("/opt/a b/libmlx.so")));
        assert_eq!(mapped_library("7f-80 r-xp 00 fd:01 2   /opt/libmlxc.so\n"), None);
    }

    #[test]
    fn a_changed_file_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        assert!(model_digest(folder.path()).is_err());
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        let before = model_digest(folder.path()).unwrap();
        std::fs::write(folder.path().join("config.json"), "{ }").unwrap();
        assert_ne!(model_digest(folder.path()).unwrap(), before);
    }
}
