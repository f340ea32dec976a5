//! Certificates from files.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{DeviceError, files};

/// The certificates of a PEM or DER file, in order.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, DeviceError> {
    let malformed = |what: &str| DeviceError::Malformed {
        path: path.to_path_buf(),
        what: what.to_owned(),
        next: "name a file with certificates in PEM or DER",
    };
    let bytes = files::read(path)?.ok_or_else(|| malformed("there is no such file"))?;
    let certificates = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains(BEGIN) => decode(text).ok_or_else(|| malformed("not well-formed PEM"))?,
        _ => vec![bytes.to_vec()],
    };
    for certificate in &certificates {
        if first_of_der(certificate) != Some(certificate) {
            return Err(malformed("not a certificate"));
        }
    }
    Ok(certificates)
}

fn decode(text: &str) -> Option<Vec<Vec<u8>>> {
    text.split(BEGIN)
        .skip(1)
        .map(|part| {
            let (body, _) = part.split_once(END)?;
            let body: String = body.split_ascii_whitespace().collect();
            BASE64_STANDARD.decode(body).ok()
        })
        .collect()
}

/// The DER sequence that the bytes begin with: what a TPM holds is often filled up behind it.
pub(super) fn first_of_der(bytes: &[u8]) -> Option<&[u8]> {
    let (&[0x30, first], rest) = bytes.split_first_chunk::<2>()? else { return None };
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81 => usize::from(*rest.first()?) + 1,
        0x82 => usize::from(u16::from_be_bytes(*rest.first_chunk()?)) + 2,
        _ => return None,
    };
    bytes.get(..2 + length)
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_ends_where_it_says() {
        assert_eq!(first_of_der(&[0x30, 1, 5, 0xff, 0xff]), Some(&[0x30, 1, 5][..]));
        assert_eq!(first_of_der(&[0x30, 0x81, 1, 5, 0]), Some(&[0x30, 0x81, 1, 5][..]));
        assert_eq!(first_of_der(&[0x30, 0x82, 0, 1, 5, 0]), Some(&[0x30, 0x82, 0, 1, 5][..]));
        for bad in [&[][..], &[0x30], &[0x30, 2, 1], &[0x31, 0], &[0x30, 0x82, 0], &[0x30, 0x84, 0, 0, 0, 0]]
        {
            assert_eq!(first_of_der(bad), None);
        }
    }

    #[test]
    fn reads_pem_and_der() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let pem = format!("text\n{BEGIN}\nMAEF\n{END}\n{BEGIN}\r\nMAEG\r\n{END}\n");
        std::fs::write(&path, pem).unwrap();
        assert_eq!(read_certificates(&path).unwrap(), [[0x30, 1, 5], [0x30, 1, 6]]);
        std::fs::write(&path, [0x30, 1, 5]).unwrap();
        assert_eq!(read_certificates(&path).unwrap(), [[0x30, 1, 5]]);
        for bad in [&b""[..], b"x", b"-----BEGIN CERTIFICATE-----\nMAEF", &[0x30, 1, 5, 5]] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_certificates(&path).is_err());
        }
        assert!(read_certificates(&folder.path().join("none")).is_err());
    }
}
