//! What Apple's interfaces answer, read. Apart from the calls themselves, so that it is tested on every system.

/// Bits of the code-signing status of a process. [xnu bsd/sys/codesign.h]
mod status {
    pub(crate) const VALID: u32 = 0x1;
    pub(crate) const GET_TASK_ALLOW: u32 = 0x4;
    pub(crate) const HARD: u32 = 0x100;
    pub(crate) const KILL: u32 = 0x200;
    pub(crate) const REQUIRE_LIBRARY_VALIDATION: u32 = 0x2000;
    pub(crate) const RUNTIME: u32 = 0x1_0000;
    pub(crate) const DEBUGGED: u32 = 0x1000_0000;
}

/// What a code-signing status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeSigning {
    /// The pages that run are those that were signed, and the process ends when they are not.
    pub(crate) enforced: bool,
    /// Other programs of the same user may take hold of the process.
    pub(crate) debuggable: bool,
    /// Libraries of others cannot be loaded.
    pub(crate) library_validation: bool,
    /// Signed with the hardened runtime.
    pub(crate) hardened_runtime: bool,
}

impl CodeSigning {
    pub(crate) fn of(flags: u32) -> Self {
        let has = |bits| flags & bits == bits;
        Self {
            enforced: has(status::VALID | status::HARD | status::KILL),
            debuggable: flags & (status::GET_TASK_ALLOW | status::DEBUGGED) != 0,
            library_validation: has(status::REQUIRE_LIBRARY_VALIDATION),
            hardened_runtime: has(status::RUNTIME),
        }
    }
}

/// The team identifier out of what csops returns: four zeros, a length that counts all, and text that ends with a zero.
pub(crate) fn team(blob: &[u8]) -> Option<String> {
    let (head, rest) = blob.split_at_checked(8)?;
    let length = usize::try_from(u32::from_be_bytes(head[4..].try_into().ok()?)).ok()?;
    let text = rest.get(..length.checked_sub(9)?)?;
    let is_team = !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric);
    is_team.then(|| String::from_utf8_lossy(text).into_owned())
}

/// Whether `rdma_ctl status` says that other machines cannot write into the memory over Thunderbolt. Any other answer than
/// the expected one counts as the dangerous one.
pub(crate) fn rdma_is_off(output: &str) -> bool {
    let words: Vec<_> = output.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    words.iter().any(|word| word.trim_end_matches('.') == "disabled")
        && !words.iter().any(|word| word.contains("enabled"))
}

/// r || s of an ECDSA signature in DER.
pub(crate) fn raw_signature(der: &[u8]) -> Option<[u8; 64]> {
    let &[0x30, length, ref rest @ ..] = der else { return None };
    if usize::from(length) != rest.len() || length >= 0x80 {
        return None;
    }
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    let mut both = [0; 64];
    both[..32].copy_from_slice(&r);
    both[32..].copy_from_slice(&s);
    rest.is_empty().then_some(both)
}

fn integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let &[2, length, ref rest @ ..] = der else { return None };
    let (bytes, rest) = rest.split_at_checked(length.into())?;
    let bytes = match bytes {
        [0, positive @ ..] if positive.first().is_some_and(|byte| byte & 0x80 != 0) => positive,
        [0] => bytes,
        [1..=0x7f, ..] => bytes,
        _ => return None,
    };
    let mut number = [0; 32];
    number[32_usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_signing_status_is_read_bit_by_bit() {
        // A notarised program with the hardened runtime and library validation.
        let good = CodeSigning::of(0x2201_2b01 | 0x200 | 0x100);
        assert!(good.enforced && good.library_validation && good.hardened_runtime && !good.debuggable);
        assert!(CodeSigning::of(0x2201_2b05).debuggable);
        assert!(CodeSigning::of(0x1000_0000).debuggable);
        let none = CodeSigning::of(0);
        assert!(!none.enforced && !none.library_validation && !none.hardened_runtime);
    }

    #[test]
    fn teams_are_read_out_of_their_blob() {
        let blob = |length: u32, text: &[u8]| [&[0; 4][..], &length.to_be_bytes(), text].concat();
        assert_eq!(team(&blob(19, b"ABCDE12345\0\0\0")).as_deref(), Some("ABCDE12345"));
        for bad in [blob(0, b"ABC"), blob(9, b"\0"), blob(99, b"ABC\0"), blob(12, b"A C\0"), vec![0; 7]] {
            assert_eq!(team(&bad), None);
        }
    }

    #[test]
    fn only_a_clear_answer_means_that_rdma_is_off() {
        assert!(rdma_is_off("disabled\n"));
        assert!(rdma_is_off("RDMA is disabled."));
        for dangerous in ["", "enabled", "unknown", "not enabled, disabled?", "disabled; was enabled"] {
            assert!(!rdma_is_off(dangerous), "{dangerous}");
        }
    }

    #[test]
    fn signatures_lose_their_der() {
        let der = |r: &[u8], s: &[u8]| {
            let part = |number: &[u8]| [&[2, number.len() as u8], number].concat();
            let body = [part(r), part(s)].concat();
            [&[0x30, body.len() as u8][..], &body].concat()
        };
        let high = [&[0][..], &[0xff; 32]].concat();
        let raw = raw_signature(&der(&high, &[1])).unwrap();
        assert_eq!((&raw[..32], &raw[62..]), (&[0xff; 32][..], &[0, 1][..]));
        let long = [1; 33];
        for bad in [
            der(&[], &[1]),
            der(&[0x80], &[1]),
            der(&[0, 1], &[1]),
            der(&long, &[1]),
            [der(&[1], &[1]), vec![0]].concat(),
            der(&[1], &[1])[..5].to_vec(),
            vec![],
        ] {
            assert_eq!(raw_signature(&bad), None, "{bad:?}");
        }
    }
}
