//! How bytes reach a TPM: the kernel's device, or the socket of a software TPM.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use zeroize::Zeroizing;

use super::wire::{HEADER, LARGEST};

/// Where the TPM is, written as other TPM software writes it (a "TCTI"): `device:/dev/tpmrm0`,
/// `swtpm:host=127.0.0.1,port=2321` or `swtpm:path=/run/swtpm.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcti {
    /// A device of the kernel. One whose name begins with `tpmrm` shares the TPM with others.
    Device(PathBuf),
    /// A software TPM behind a TCP port.
    Port {
        /// Its host.
        host: String,
        /// The port that takes commands.
        port: u16,
    },
    /// A software TPM behind a Unix socket.
    Socket(PathBuf),
}

impl Default for Tcti {
    fn default() -> Self {
        Self::Device("/dev/tpmrm0".into())
    }
}

impl Tcti {
    /// Whether the kernel keeps apart what different programs load; else what one leaves loaded fills the TPM up for all.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Device(path) if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tpmrm")))
    }

    pub(crate) fn connect(&self) -> io::Result<Connection> {
        Ok(match self {
            Self::Device(path) => Connection::Device(OpenOptions::new().read(true).write(true).open(path)?),
            Self::Port { host, port } => {
                let mut last = io::Error::other("the host name has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                            return Ok(Connection::Port(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                return Err(last);
            }
            Self::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                Connection::Socket(stream)
            }
        })
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Port { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::Socket(path) => write!(f, "swtpm:path={}", path.display()),
        }
    }
}

/// A text that names no TPM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no TPM: write device:/dev/tpmrm0, swtpm:host=HOST,port=PORT or swtpm:path=SOCKET")]
pub struct BadTcti(String);

impl FromStr for Tcti {
    type Err = BadTcti;

    fn from_str(text: &str) -> Result<Self, BadTcti> {
        let bad = || BadTcti(text.to_owned());
        match text.split_once(':') {
            Some(("device", path)) if !path.is_empty() => Ok(Self::Device(path.into())),
            Some(("swtpm", options)) => {
                let (mut host, mut port, mut path) = ("127.0.0.1", 2321, None);
                for option in options.split(',').filter(|option| !option.is_empty()) {
                    match option.split_once('=').ok_or_else(bad)? {
                        ("host", value) => host = value,
                        ("port", value) => port = value.parse().map_err(|_| bad())?,
                        ("path", value) => path = Some(PathBuf::from(value)),
                        _ => return Err(bad()),
                    }
                }
                Ok(path.map_or_else(|| Self::Port { host: host.to_owned(), port }, Self::Socket))
            }
            _ => Err(bad()),
        }
    }
}

/// An open way to the TPM.
pub(crate) enum Connection {
    Device(File),
    Port(TcpStream),
    Socket(UnixStream),
}

impl Connection {
    /// Sends a command and reads its response, both whole. The kernel ends what takes a device too long by itself.
    pub(super) fn exchange(&mut self, command: &[u8], limit: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Device(file) => {
                // A device takes a command in one piece.
                if file.write(command)? != command.len() {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                read_response(file)
            }
            Self::Port(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.write_all(command)?;
                read_response(stream)
            }
            Self::Socket(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.write_all(command)?;
                read_response(stream)
            }
        }
    }
}

/// Reads until there is as much as the response says. Devices answer in one piece as long as there is room for it, sockets
/// in any.
fn read_response(stream: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut response = Zeroizing::new(vec![0; LARGEST]);
    let mut length = 0;
    loop {
        length += match stream.read(&mut response[length..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            read => read?,
        };
        if length < HEADER {
            continue;
        }
        let whole = u32::from_be_bytes([response[2], response[3], response[4], response[5]]) as usize;
        if !(HEADER..=LARGEST).contains(&whole) || length > whole {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there is no TPM"));
        }
        if length == whole {
            response.truncate(length);
            return Ok(response);
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tpms_round_trip() {
        for text in ["device:/dev/tpmrm0", "swtpm:host=::1,port=9", "swtpm:path=/run/x"] {
            assert_eq!(text.parse::<Tcti>().unwrap().to_string(), text);
        }
        assert_eq!("swtpm:port=7".parse(), Ok(Tcti::Port { host: "127.0.0.1".to_owned(), port: 7 }));
        for bad in ["", "device", "device:", "swtpm:port=x", "swtpm:wibble=1", "swtpm:host", "tabrmd:"] {
            assert!(bad.parse::<Tcti>().is_err(), "{bad}");
        }
        assert!(Tcti::default().is_shared());
        assert!(!"device:/dev/tpm0".parse::<Tcti>().unwrap().is_shared());
    }

    #[test]
    fn what_is_no_tpm_is_refused() {
        assert!(read_response(&mut &[0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..]).is_err());
        assert!(read_response(&mut &[0x80, 1, 0, 0, 0, 4, 0, 0, 0, 0][..]).is_err());
        assert!(read_response(&mut &b"HTTP/1.1 400"[..]).is_err());
        assert!(read_response(&mut &[0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0][..]).is_err());
        assert!(read_response(&mut &[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 7][..]).is_err());
        assert!(read_response(&mut std::io::repeat(0)).is_err());
        let ok = [0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0, 7];
        assert_eq!(read_response(&mut &ok[..]).unwrap().as_slice(), ok);
        assert_eq!(read_response(&mut ok[..3].chain(&ok[3..])).unwrap().as_slice(), ok);
    }
}
