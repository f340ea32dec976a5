//! The commands, one function each, and the life of what they load.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use glassbloom_spec::{evidence::tpm::Signed, hash::Hash};
use zeroize::Zeroizing;

use super::{
    error::{Code, TpmError},
    key::Template,
    transport::{Connection, Tcti},
    wire::{
        Garbled, HASH_CHECK, HEADER, NO_SESSIONS, Reader, SESSIONS, Writer, algorithm, code, handle, scalar,
    },
};
use crate::{DeviceError, os};

/// A TPM, used by one caller at a time.
pub(super) struct Tpm {
    tcti: Tcti,
    turn: Mutex<()>,
}

impl Tpm {
    pub(super) const fn new(tcti: Tcti) -> Self {
        Self { tcti, turn: Mutex::new(()) }
    }

    pub(super) const fn tcti(&self) -> &Tcti {
        &self.tcti
    }

    /// Does some work with the TPM alone. `action` says in words what for.
    ///
    /// Each piece of work has a connection of its own and leaves nothing loaded: a software TPM answers one connection at
    /// a time, so others wait, and the kernel's shared device clears up when it is closed.
    pub(super) fn run<T>(
        &self,
        action: &str,
        work: impl FnOnce(&mut Link) -> Result<T, TpmError>,
    ) -> Result<T, DeviceError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.tcti.connect().map_err(TpmError::from).and_then(|connection| {
            let is_shared = self.tcti.is_shared();
            work(&mut Link { connection, is_shared })
        });
        result.map_err(|error| error.during(action, &self.tcti))
    }
}

/// A key that was loaded once. Kept as the TPM's own encryption of it, in memory alone, and useless once the TPM has been
/// restarted. The kernel's shared device does the same with keys that stay loaded, at every command.
pub(super) struct Object {
    context: Zeroizing<Vec<u8>>,
    /// TPMT_PUBLIC.
    pub(super) public: Vec<u8>,
}

/// A key's two halves as the TPM gives them out: the private one encrypted to its parent.
pub(super) struct Blobs {
    pub(super) public: Vec<u8>,
    pub(super) private: Zeroizing<Vec<u8>>,
}

/// The TPM during some work.
pub(super) struct Link {
    connection: Connection,
    is_shared: bool,
}

impl Link {
    /// Throws out what programs that ended early have left loaded, where the kernel does not see to it.
    pub(super) fn tidy(&mut self) -> Result<(), TpmError> {
        if self.is_shared {
            return Ok(());
        }
        for range in [TRANSIENT, HMAC_SESSIONS, POLICY_SESSIONS] {
            for loaded in self.handles(range)? {
                self.flush(loaded)?;
            }
        }
        Ok(())
    }

    /// TPM2_GetCapability for handles.
    fn handles(&mut self, range: u32) -> Result<Vec<u32>, TpmError> {
        let parameters = Writer::default().u32(CAP_HANDLES).u32(range).u32(64);
        let response = self.execute(code::GET_CAPABILITY, &[], &[], &parameters)?;
        let mut reader = response.parameters();
        reader.u8()?;
        reader.u32()?;
        let count = reader.u32()?;
        (0..count).map(|_| Ok(reader.u32()?)).collect()
    }

    /// TPM2_GetCapability for a property; 0 when the TPM does not have it.
    pub(super) fn property(&mut self, property: u32) -> Result<u32, TpmError> {
        let parameters = Writer::default().u32(CAP_PROPERTIES).u32(property).u32(1);
        let response = self.execute(code::GET_CAPABILITY, &[], &[], &parameters)?;
        let mut reader = response.parameters();
        reader.u8()?;
        reader.u32()?;
        if reader.u32()? != 1 {
            return Ok(0);
        }
        let (found, value) = (reader.u32()?, reader.u32()?);
        // Else it is the next one that the TPM has.
        Ok(if found == property { value } else { 0 })
    }

    /// TPM2_CreatePrimary.
    pub(super) fn create_primary(
        &mut self,
        hierarchy: u32,
        template: Template,
    ) -> Result<(u32, Vec<u8>), TpmError> {
        let response = self.execute(code::CREATE_PRIMARY, &[hierarchy], &[PASSWORD], &creation(template))?;
        Ok((response.handle(), response.parameters().sized()?.to_vec()))
    }

    /// TPM2_Create.
    pub(super) fn create(&mut self, parent: u32, template: Template) -> Result<Blobs, TpmError> {
        let response = self.execute(code::CREATE, &[parent], &[PASSWORD], &creation(template))?;
        let mut reader = response.parameters();
        let private = Zeroizing::new(reader.sized()?.to_vec());
        Ok(Blobs { private, public: reader.sized()?.to_vec() })
    }

    /// TPM2_Load.
    pub(super) fn load(&mut self, parent: u32, blobs: &Blobs) -> Result<u32, TpmError> {
        let parameters = Writer::default().sized(&blobs.private).sized(&blobs.public);
        Ok(self.execute(code::LOAD, &[parent], &[PASSWORD], &parameters)?.handle())
    }

    /// Takes charge of a loaded key, so that it can be used later.
    pub(super) fn keep(&mut self, loaded: u32, public: Vec<u8>) -> Result<Object, TpmError> {
        self.during(loaded, |link, loaded| {
            let saved = link.execute(code::CONTEXT_SAVE, &[loaded], &[], &Writer::default())?;
            Ok(Object { context: Zeroizing::new(saved.parameters().0.to_vec()), public })
        })
    }

    /// Works with a key that is loaded for as long as that takes.
    pub(super) fn with<T>(
        &mut self,
        object: &Object,
        work: impl FnOnce(&mut Self, u32) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let parameters = Writer::default().raw(&object.context);
        let response = self.execute(code::CONTEXT_LOAD, &[], &[], &parameters);
        let loaded = response.map_err(|error| match error.code() {
            Some(code) if code.kind() != Code::OBJECT_MEMORY => TpmError::Code(Code(Code::REFERENCE_H0)),
            _ => error,
        })?;
        self.during(loaded.handle(), work)
    }

    /// Works with something that is thrown out afterwards, whatever came of it.
    pub(super) fn during<T>(
        &mut self,
        loaded: u32,
        work: impl FnOnce(&mut Self, u32) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let result = work(self, loaded);
        let flushed = self.flush(loaded);
        let value = result?;
        flushed?;
        Ok(value)
    }

    /// TPM2_FlushContext.
    fn flush(&mut self, loaded: u32) -> Result<(), TpmError> {
        self.execute(code::FLUSH_CONTEXT, &[loaded], &[], &Writer::default()).map(drop)
    }

    /// TPM2_ReadPublic: TPMT_PUBLIC of a loaded or persistent key; `None` when there is none.
    pub(super) fn read_public(&mut self, object: u32) -> Result<Option<Vec<u8>>, TpmError> {
        match self.execute(code::READ_PUBLIC, &[object], &[], &Writer::default()) {
            Ok(response) => Ok(Some(response.parameters().sized()?.to_vec())),
            Err(TpmError::Code(code)) if code.kind() == Code::HANDLE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// TPM2_Sign over a SHA-256 digest: r || s.
    pub(super) fn sign(&mut self, key: u32, digest: &[u8; 32]) -> Result<[u8; 64], TpmError> {
        let parameters =
            Writer::default().sized(digest).u16(algorithm::NULL).u16(HASH_CHECK).u32(handle::NULL).sized(&[]);
        let response = self.execute(code::SIGN, &[key], &[PASSWORD], &parameters)?;
        Ok(ecdsa(response.parameters().0)?)
    }

    /// TPM2_ECDH_ZGen: the x-coordinate of the shared point.
    pub(super) fn agree(&mut self, key: u32, x: &[u8], y: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        let point = Writer::default().sized(x).sized(y);
        let parameters = Writer::default().sized(point.bytes());
        let response = self.execute(code::ECDH_ZGEN, &[key], &[PASSWORD], &parameters)?;
        let mut shared = Reader(response.parameters().sized()?);
        Ok(Zeroizing::new(scalar(shared.sized()?)?))
    }

    /// TPM2_Quote over PCRs of the SHA-256 bank.
    pub(super) fn quote(&mut self, key: u32, nonce: &[u8], pcrs: &[u8]) -> Result<Signed, TpmError> {
        let parameters = Writer::default().sized(nonce).u16(algorithm::NULL).raw(selection(pcrs).bytes());
        let response = self.execute(code::QUOTE, &[key], &[PASSWORD], &parameters)?;
        Ok(attested(&response)?)
    }

    /// TPM2_Certify.
    pub(super) fn certify(&mut self, object: u32, key: u32, nonce: &[u8]) -> Result<Signed, TpmError> {
        let parameters = Writer::default().sized(nonce).u16(algorithm::NULL);
        let response = self.execute(code::CERTIFY, &[object, key], &[PASSWORD, PASSWORD], &parameters)?;
        Ok(attested(&response)?)
    }

    /// TPM2_PCR_Read, as often as it takes.
    pub(super) fn read_pcrs(&mut self, pcrs: &[u8]) -> Result<Vec<(u8, Hash)>, TpmError> {
        let mut wanted = pcrs.to_vec();
        let mut values = Vec::new();
        while !wanted.is_empty() {
            let response = self.execute(code::PCR_READ, &[], &[], &selection(&wanted))?;
            let mut reader = response.parameters();
            reader.u32()?;
            let mut got = Vec::new();
            for _ in 0..reader.u32()? {
                reader.u16()?;
                let bits = reader.u8()?;
                for (index, byte) in reader.take(bits.into())?.iter().enumerate() {
                    got.extend((0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| index as u8 * 8 + bit));
                }
            }
            if reader.u32()? as usize != got.len() || got.is_empty() {
                return Err(Garbled.into());
            }
            for index in got {
                values.push((index, Hash::try_from(reader.sized()?).map_err(|_| Garbled)?));
                wanted.retain(|wanted| *wanted != index);
            }
        }
        values.sort_unstable_by_key(|(index, _)| *index);
        Ok(values)
    }

    /// TPM2_NV_Read of a whole index; `None` when there is no such index.
    pub(super) fn read_nv(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
        let response = match self.execute(code::NV_READ_PUBLIC, &[index], &[], &Writer::default()) {
            Err(TpmError::Code(code)) if code.kind() == Code::HANDLE => return Ok(None),
            response => response?,
        };
        let mut public = Reader(response.parameters().sized()?);
        public.u32()?;
        public.u16()?;
        let attributes = public.u32()?;
        public.sized()?;
        let size = public.u16()?;
        let reader = if attributes & NV_AUTH_READ == 0 { handle::OWNER } else { index };
        let mut content = Vec::with_capacity(size.into());
        while content.len() < size.into() {
            let length = (usize::from(size) - content.len()).min(NV_PIECE);
            let parameters = Writer::default().u16(length as u16).u16(content.len() as u16);
            let response = self.execute(code::NV_READ, &[reader, index], &[PASSWORD], &parameters)?;
            let piece = response.parameters().sized()?.to_vec();
            if piece.is_empty() {
                return Err(Garbled.into());
            }
            content.extend(piece);
        }
        Ok(Some(content))
    }

    /// TPM2_ActivateCredential, under a policy session that the endorsement hierarchy's (empty) password opens.
    pub(super) fn activate(
        &mut self,
        key: u32,
        endorsement: u32,
        credential: &[u8],
        encrypted_seed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let nonce =
            os::random::<16>().map_err(|error| TpmError::Io(std::io::Error::other(error.to_string())))?;
        let start =
            Writer::default().sized(&nonce).sized(&[]).u8(POLICY).u16(algorithm::NULL).u16(algorithm::SHA256);
        let session =
            self.execute(code::START_AUTH_SESSION, &[handle::NULL, handle::NULL], &[], &start)?.handle();
        self.during(session, |link, session| {
            let policy = Writer::default().sized(&[]).sized(&[]).sized(&[]).u32(0);
            link.execute(code::POLICY_SECRET, &[handle::ENDORSEMENT, session], &[PASSWORD], &policy)?;
            let parameters = Writer::default().sized(credential).sized(encrypted_seed);
            let sessions = [PASSWORD, session];
            let response =
                link.execute(code::ACTIVATE_CREDENTIAL, &[key, endorsement], &sessions, &parameters)?;
            Ok(Zeroizing::new(response.parameters().sized()?.to_vec()))
        })
    }

    fn execute(
        &mut self,
        command: u32,
        handles: &[u32],
        sessions: &[u32],
        parameters: &Writer,
    ) -> Result<Response, TpmError> {
        let handles = handles.iter().fold(Writer::default(), |writer, handle| writer.u32(*handle));
        // Every session: no nonce, to be kept, no HMAC: all passwords are empty, and a policy needs none.
        let sessions = sessions
            .iter()
            .fold(Writer::default(), |all, handle| all.u32(*handle).sized(&[]).u8(1).sized(&[]));
        let with_sessions = !sessions.bytes().is_empty();
        let authorization = if with_sessions {
            Writer::default().u32(sessions.bytes().len() as u32).raw(sessions.bytes())
        } else {
            Writer::default()
        };
        let length = HEADER + handles.bytes().len() + authorization.bytes().len() + parameters.bytes().len();
        let request = Writer::default()
            .u16(if with_sessions { SESSIONS } else { NO_SESSIONS })
            .u32(length as u32)
            .u32(command)
            .raw(handles.bytes())
            .raw(authorization.bytes())
            .raw(parameters.bytes());
        let limit = if command == code::CREATE_PRIMARY { SLOW } else { QUICK };
        for attempt in 0_u32.. {
            let bytes = self.connection.exchange(request.bytes(), limit)?;
            let mut reader = Reader(&bytes);
            reader.u16()?;
            if reader.u32()? as usize != bytes.len() {
                return Err(Garbled.into());
            }
            match Code(reader.u32()?) {
                Code(0) => return Ok(Response::parse(command, with_sessions, bytes)?),
                code if code.is_later() && attempt < RETRIES => thread::sleep(RETRY_DELAY),
                code => return Err(TpmError::Code(code)),
            }
        }
        Err(Garbled.into())
    }
}

/// What came back, checked for its form.
struct Response {
    bytes: Zeroizing<Vec<u8>>,
    handle: u32,
    parameters: std::ops::Range<usize>,
}

impl Response {
    fn parse(command: u32, with_sessions: bool, bytes: Zeroizing<Vec<u8>>) -> Result<Self, Garbled> {
        let mut reader = Reader(&bytes[HEADER..]);
        let returns_handle = matches!(
            command,
            code::CONTEXT_LOAD | code::CREATE_PRIMARY | code::LOAD | code::START_AUTH_SESSION
        );
        let handle = if returns_handle { reader.u32()? } else { 0 };
        let length = if with_sessions { reader.u32()? as usize } else { reader.0.len() };
        let from = bytes.len() - reader.0.len();
        reader.take(length)?;
        Ok(Self { handle, parameters: from..from + length, bytes })
    }

    const fn handle(&self) -> u32 {
        self.handle
    }

    fn parameters(&self) -> Reader<'_> {
        Reader(&self.bytes[self.parameters.clone()])
    }
}

/// No password and no data for the new key, no outside information, no PCRs.
fn creation(template: Template) -> Writer {
    let sensitive = Writer::default().sized(&[]).sized(&[]);
    Writer::default().sized(sensitive.bytes()).sized(&template.encode()).sized(&[]).u32(0)
}

/// TPML_PCR_SELECTION of the SHA-256 bank.
fn selection(pcrs: &[u8]) -> Writer {
    let mut bits = [0_u8; 3];
    for pcr in pcrs {
        if let Some(byte) = bits.get_mut(usize::from(pcr / 8)) {
            *byte |= 1 << (pcr % 8);
        }
    }
    Writer::default().u32(1).u16(algorithm::SHA256).u8(3).raw(&bits)
}

fn attested(response: &Response) -> Result<Signed, Garbled> {
    let mut reader = response.parameters();
    let attest = reader.sized()?.to_vec();
    ecdsa(reader.0)?;
    Ok(Signed { attest, signature: reader.0.to_vec() })
}

/// r || s of a TPMT_SIGNATURE.
pub(super) fn ecdsa(signature: &[u8]) -> Result<[u8; 64], Garbled> {
    let mut reader = Reader(signature);
    if reader.u16()? != algorithm::ECDSA || reader.u16()? != algorithm::SHA256 {
        return Err(Garbled);
    }
    let (r, s) = (scalar(reader.sized()?)?, scalar(reader.sized()?)?);
    reader.end()?;
    let mut both = [0; 64];
    both[..32].copy_from_slice(&r);
    both[32..].copy_from_slice(&s);
    Ok(both)
}

const PASSWORD: u32 = handle::PASSWORD_SESSION;
/// TPM_SE_POLICY.
const POLICY: u8 = 1;
/// TPM_CAP_TPM_PROPERTIES.
const CAP_PROPERTIES: u32 = 6;
/// TPM_CAP_HANDLES, and the first handle of each range.
const CAP_HANDLES: u32 = 1;
const TRANSIENT: u32 = 0x8000_0000;
const HMAC_SESSIONS: u32 = 0x0200_0000;
const POLICY_SESSIONS: u32 = 0x0300_0000;
/// TPMA_NV_AUTHREAD.
const NV_AUTH_READ: u32 = 1 << 18;
/// Every TPM reads so many bytes at once.
const NV_PIECE: usize = 512;

const QUICK: Duration = Duration::from_secs(30);
/// Making an RSA key can take a small TPM a minute.
const SLOW: Duration = Duration::from_secs(300);
const RETRIES: u32 = 50;
const RETRY_DELAY: Duration = Duration::from_millis(20);
