//! Our tools on logs that others made.

use glassbloom_service::ExitCode;
use glassbloom_spec::note::NoteSigner;
use glassbloom_testdata::{shared_vectors, skipped};

use crate::bed::log_command;

/// The key in Tessera's own test data, which is public.
const TESSERA_KEY: &str =
    "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg";

#[tokio::test]
async fn fsck_passes_tesseras_log_at_every_size() {
    let Some(vectors) = shared_vectors() else {
        skipped("the vectors that others wrote are not beside the checkout");
        return;
    };
    let tessera = vectors.join("tlog/tessera-testdata-log");
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy"), folder.path().join("log"));
    let key: NoteSigner = TESSERA_KEY.parse().unwrap();
    std::fs::write(&policy, format!("log {}\nquorum none\n", key.vkey())).unwrap();
    copy(&tessera.join("tile"), &log.join("tile"));
    let fsck = async || {
        let arguments = ["fsck".as_ref(), log.as_os_str(), "--policy".as_ref(), policy.as_os_str()];
        log_command(&arguments).await
    };
    for size in 0..=15 {
        std::fs::copy(tessera.join(format!("checkpoint.{size}")), log.join("checkpoint")).unwrap();
        assert_eq!(fsck().await, ExitCode::Ok, "size {size}");
    }
    let stranger = NoteSigner::ed25519_log("example.com/log/testdata", [7; 32]).unwrap();
    std::fs::write(&policy, format!("log {}\nquorum none\n", stranger.vkey())).unwrap();
    assert_eq!(fsck().await, ExitCode::Rejected);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}
