//! How this Mac and this process stand, as the system tells them. Nobody vouches for it: for `doctor`, and for refusing to
//! serve, never for a verdict. What cannot be measured counts as the dangerous case.

use std::{fmt, process::Command};

use super::app_attest;
use crate::apple_format::{self, CodeSigning};

/// The facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// System Integrity Protection is on, without exceptions.
    pub sip: bool,
    /// Pages of code that were not signed end the process.
    pub code_signing_enforced: bool,
    /// Signed with the hardened runtime.
    pub hardened_runtime: bool,
    /// Libraries of others cannot be loaded.
    pub library_validation: bool,
    /// Other programs may take hold of this process.
    pub debuggable: bool,
    /// Other machines cannot write into the memory over Thunderbolt.
    pub rdma_off: bool,
    /// The Mac offers App Attest to this program.
    pub app_attest: bool,
    /// The first 20 bytes of the CodeDirectory's hash.
    pub code_directory: Option<[u8; 20]>,
    /// The team that signed the program.
    pub team: Option<String>,
}

impl Default for Posture {
    /// Nothing is known, so nothing is safe.
    fn default() -> Self {
        Self {
            sip: false,
            code_signing_enforced: false,
            hardened_runtime: false,
            library_validation: false,
            debuggable: true,
            rdma_off: false,
            app_attest: false,
            code_directory: None,
            team: None,
        }
    }
}

impl Posture {
    /// Measures.
    pub fn of_this_mac() -> Self {
        let mut posture = Self {
            sip: sip_is_on(),
            rdma_off: rdma_is_off(),
            app_attest: app_attest::is_supported(),
            code_directory: csops::<20>(CS_OPS_CDHASH),
            team: csops::<256>(CS_OPS_TEAMID).and_then(|blob| apple_format::team(&blob)),
            ..Self::default()
        };
        if let Some(flags) = csops::<4>(CS_OPS_STATUS) {
            let signing = CodeSigning::of(u32::from_ne_bytes(flags));
            posture.code_signing_enforced = signing.enforced;
            posture.hardened_runtime = signing.hardened_runtime;
            posture.library_validation = signing.library_validation;
            posture.debuggable = signing.debuggable;
        }
        posture
    }

    /// Whether nothing is amiss.
    pub const fn is_safe(&self) -> bool {
        self.sip
            && self.code_signing_enforced
            && self.hardened_runtime
            && self.library_validation
            && !self.debuggable
            && self.rdma_off
            && self.app_attest
            && self.code_directory.is_some()
            && self.team.is_some()
    }
}

impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, holds, next) in [
            ("System Integrity Protection is on", self.sip, "start into Recovery and run `csrutil enable`"),
            ("only signed code runs in this process", self.code_signing_enforced, "run the signed release"),
            ("signed with the hardened runtime", self.hardened_runtime, "run the signed release"),
            ("no libraries of others", self.library_validation, "run the signed release"),
            (
                "no other program can take hold of it",
                !self.debuggable,
                "run the signed release, without a debugger",
            ),
            (
                "no access to the memory over Thunderbolt",
                self.rdma_off,
                "start into Recovery and run `rdma_ctl disable`",
            ),
            ("App Attest", self.app_attest, "use macOS 27 or later on Apple silicon"),
        ] {
            if holds {
                writeln!(f, "{what}: yes")?;
            } else {
                writeln!(f, "{what}: no, or unknown; {next}")?;
            }
        }
        match &self.code_directory {
            Some(hash) => {
                f.write_str("code directory: ")?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                writeln!(f)?;
            }
            None => writeln!(f, "code directory: unknown; run the signed release")?,
        }
        writeln!(f, "team: {}", self.team.as_deref().unwrap_or("unknown; run the signed release"))
    }
}

#[expect(unsafe_code, reason = "a C function of the system that no crate declares")]
fn sip_is_on() -> bool {
    let mut config = u32::MAX;
    // SAFETY: writes one integer to the given address, or nothing when it fails.
    let result = unsafe { csr_get_active_config(&mut config) };
    // Each bit allows something that System Integrity Protection forbids.
    result == 0 && config == 0
}

/// What the kernel knows of this process's signature: exactly so many bytes, filled up with zeros where it is shorter.
#[expect(unsafe_code, reason = "a C function of the system that no crate declares")]
fn csops<const N: usize>(operation: u32) -> Option<[u8; N]> {
    let mut answer = [0_u8; N];
    // SAFETY: process 0 is this one, and the kernel writes no more than the given length to the buffer.
    let result = unsafe { csops_of(0, operation, answer.as_mut_ptr().cast(), N) };
    (result == 0).then_some(answer)
}

fn rdma_is_off() -> bool {
    let output = Command::new("/usr/bin/rdma_ctl").arg("status").output();
    output.is_ok_and(|output| {
        output.status.success() && apple_format::rdma_is_off(&String::from_utf8_lossy(&output.stdout))
    })
}

#[expect(unsafe_code, reason = "declarations of the system's C functions")]
unsafe extern "C" {
    fn csr_get_active_config(config: *mut u32) -> libc::c_int;

    #[link_name = "csops"]
    fn csops_of(
        process: libc::pid_t,
        operation: libc::c_uint,
        address: *mut libc::c_void,
        length: libc::size_t,
    ) -> libc::c_int;
}

const CS_OPS_STATUS: u32 = 0;
const CS_OPS_CDHASH: u32 = 5;
const CS_OPS_TEAMID: u32 = 14;
