//! What a TPM says when it refuses, in words. [TPM 2.0 part 2 §6.6]

use std::{fmt, io};

use super::{transport::Tcti, wire::Garbled};
use crate::DeviceError;

/// A command that the TPM did not carry out.
#[derive(Debug, thiserror::Error)]
pub(super) enum TpmError {
    #[error("{0}")]
    Code(Code),
    #[error(transparent)]
    Garbled(#[from] Garbled),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl TpmError {
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Code(code) => Some(*code),
            _ => None,
        }
    }

    /// With what was being done, and what to do next.
    pub(super) fn during(self, action: &str, tcti: &Tcti) -> DeviceError {
        let next = match &self {
            Self::Code(code) => code.next(),
            Self::Io(error) => match (tcti, error.kind()) {
                (Tcti::Device(_), io::ErrorKind::NotFound) => {
                    "check that the machine has a TPM 2.0 and that it is switched on in the firmware's settings"
                        .to_owned()
                }
                (Tcti::Device(path), io::ErrorKind::PermissionDenied) => format!(
                    "let this user use the TPM: `usermod -aG tss USER` and log in again (see `ls -l {}`)",
                    path.display()
                ),
                (Tcti::Device(_), io::ErrorKind::ResourceBusy) => {
                    "another program holds the TPM: use device:/dev/tpmrm0, which several can share".to_owned()
                }
                (Tcti::Device(_), _) => "see `dmesg | grep -i tpm`".to_owned(),
                _ => "check that the software TPM runs: start it with `swtpm socket --tpm2`".to_owned(),
            },
            Self::Garbled(_) => format!("check that {tcti} is a TPM 2.0"),
        };
        DeviceError::failed(format!("{action} with the TPM at {tcti}"), self, next)
    }
}

/// A response code other than success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub(super) u32);

impl Code {
    pub(super) const AUTH_FAIL: u32 = 0x08e;
    pub(super) const BAD_AUTH: u32 = 0x0a2;
    pub(super) const FAILURE: u32 = 0x101;
    pub(super) const HANDLE: u32 = 0x08b;
    pub(super) const INITIALIZE: u32 = 0x100;
    pub(super) const INTEGRITY: u32 = 0x09f;
    pub(super) const LOCKOUT: u32 = 0x921;
    pub(super) const OBJECT_MEMORY: u32 = 0x902;
    pub(super) const REFERENCE_H0: u32 = 0x910;
    pub(super) const SESSION_MEMORY: u32 = 0x903;
    pub(super) const VALUE: u32 = 0x084;

    /// The code without the number of the parameter, handle or session that it is about.
    pub(super) const fn kind(self) -> u32 {
        if self.0 & 0x80 == 0 { self.0 & 0xfff } else { self.0 & 0xbf }
    }

    /// Whether the same command will do a little later.
    pub(super) const fn is_later(self) -> bool {
        // YIELDED, TESTING, RETRY
        matches!(self.0, 0x908 | 0x90a | 0x922)
    }

    const fn words(self) -> &'static str {
        match self.kind() {
            Self::AUTH_FAIL | Self::BAD_AUTH => "it asks for a password",
            Self::FAILURE => "it is in failure mode",
            Self::HANDLE => "there is no such object",
            Self::INITIALIZE => "it was not started up",
            Self::INTEGRITY => "this was made by another TPM, or before this one was cleared",
            Self::LOCKOUT => "it is locked after too many wrong passwords",
            Self::OBJECT_MEMORY => "no room for another loaded key",
            Self::REFERENCE_H0 => "what was loaded is gone: the TPM was restarted",
            Self::SESSION_MEMORY => "no room for another session",
            Self::VALUE => "a value is out of range",
            _ => "it refused",
        }
    }

    fn next(self) -> String {
        match self.kind() {
            Self::AUTH_FAIL | Self::BAD_AUTH => {
                "remove the password of the owner and endorsement hierarchies: `tpm2_changeauth -c owner -p OLD`, \
                 `tpm2_changeauth -c endorsement -p OLD`"
            }
            Self::FAILURE | Self::INITIALIZE => {
                "restart the machine; a software TPM needs its state folder and `--flags startup-clear`"
            }
            Self::INTEGRITY => {
                "put the TPM or the data folder back as it was, or start as a new provider with a new data folder"
            }
            Self::LOCKOUT => "wait, or unlock it: `tpm2_dictionarylockout --clear-lockout`",
            Self::OBJECT_MEMORY | Self::SESSION_MEMORY => {
                "use device:/dev/tpmrm0, or make room: `tpm2_flushcontext --transient-object`, \
                 `tpm2_flushcontext --loaded-session`"
            }
            Self::REFERENCE_H0 => "restart the provider",
            code => return format!("see `tpm2_rc_decode {code:#x}`"),
        }
        .to_owned()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (TPM response code {:#05x})", self.words(), self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lose_the_number_of_their_parameter() {
        assert_eq!(Code(0x1df).kind(), Code::INTEGRITY);
        assert_eq!(Code(0x902).kind(), Code::OBJECT_MEMORY);
        assert_eq!(Code(0x9a2).kind(), Code::BAD_AUTH);
        assert_eq!(Code(0x98e).kind(), Code::AUTH_FAIL);
    }

    #[test]
    fn a_refusal_names_cause_and_next_command() {
        let error = TpmError::Code(Code(0x921)).during("signing", &Tcti::default()).to_string();
        assert_eq!(
            error,
            "signing with the TPM at device:/dev/tpmrm0: it is locked after too many wrong passwords (TPM response \
             code 0x921); wait, or unlock it: `tpm2_dictionarylockout --clear-lockout`"
        );
        let missing = TpmError::Io(io::ErrorKind::NotFound.into()).during("x", &Tcti::default());
        assert!(missing.to_string().contains("TPM 2.0"));
    }
}
