//! What hardening does to a process: measured in one that this test starts, which is itself run again.

#![expect(clippy::unwrap_used, reason = "what tests share are tests too")]

use std::{env, fs, process::Command};

use glassbloom_hardware::harden;

/// Set in the process that is hardened.
const INSIDE: &str = "GLASSBLOOM_TEST_HARDENED";

#[test]
fn a_hardened_process_keeps_to_itself_and_still_works() {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let this = env::current_exe().unwrap();
    let run = Command::new(this)
        .args(["--exact", "a_hardened_process_keeps_to_itself_and_still_works", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("no core dumps: yes"), "{said}");
}

fn inside() {
    let report = harden::process();
    println!("{report}");
    assert!(report.refused().all(|step| step.what.contains("swap")), "{report}");
    // A second time does no harm.
    assert_eq!(harden::process().refused().count(), report.refused().count());
    #[cfg(target_os = "linux")]
    linux();
    // What the daemon does goes on: files, threads, programs, sockets.
    assert!(env::current_exe().is_ok());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || std::net::TcpStream::connect(address).unwrap()).join().unwrap();
    assert!(Command::new("true").status().unwrap().success());
}

#[cfg(target_os = "linux")]
fn linux() {
    use nix::{
        errno::Errno,
        sys::{prctl, resource},
    };

    assert!(!prctl::get_dumpable().unwrap());
    assert!(prctl::get_no_new_privs().unwrap());
    assert_eq!(resource::getrlimit(resource::Resource::RLIMIT_CORE).unwrap(), (0, 0));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(
        fs::read_to_string("/proc/self/maps").unwrap().contains("harden"),
        "the build can still be measured"
    );
    assert!(fs::read("/proc/self/exe").is_ok());
    // Refused even to root, in every thread and in programs that it starts.
    assert_eq!(nix::unistd::chroot("/"), Err(Errno::EPERM));
    assert_eq!(std::thread::spawn(|| nix::unistd::chroot("/")).join().unwrap(), Err(Errno::EPERM));
    let child = Command::new("sh").args(["-c", "grep '^Seccomp:' /proc/self/status"]).output().unwrap();
    assert_eq!(child.stdout, b"Seccomp:\t2\n");
}
