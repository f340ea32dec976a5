//! App Attest: a key of the Secure Enclave that only signs for this very program, and Apple's word for it.

use std::{sync::mpsc, time::Duration};

use block2::RcBlock;
use glassbloom_spec::hash::Hash;
use objc2::rc::{Retained, autoreleasepool};
use objc2_device_check::DCAppAttestService;
use objc2_foundation::{NSData, NSError, NSString};

use crate::DeviceError;

/// The service, where this Mac has it.
pub(super) struct AppAttest(());

impl AppAttest {
    pub(super) fn of_this_mac() -> Result<Self, DeviceError> {
        if is_supported() {
            return Ok(Self(()));
        }
        Err(DeviceError::failed(
            "asking for App Attest",
            "this Mac does not offer it to this program",
            "use macOS 27 or later on Apple silicon, outside a virtual machine, and the signed release of the provider",
        ))
    }

    /// Makes a key: its name.
    pub(super) fn generate_key(&self) -> Result<String, DeviceError> {
        let answer = call("making an App Attest key", |sender| {
            let handler = RcBlock::new(move |key: *mut NSString, error: *mut NSError| {
                send(&sender, text(key).ok_or_else(|| words(error)));
            });
            with_service(|service| generate_key(service, &handler));
        })?;
        Ok(answer)
    }

    /// Has Apple vouch for a key, over a nonce: the attestation object.
    pub(super) fn attest(&self, key: &str, nonce: Hash) -> Result<Vec<u8>, DeviceError> {
        call("having Apple vouch for the App Attest key", |sender| {
            let handler = data_handler(sender);
            with_service(|service| attest(service, key, nonce, &handler));
        })
    }

    /// Has a key sign over a nonce: the assertion.
    pub(super) fn assert(&self, key: &str, nonce: Hash) -> Result<Vec<u8>, DeviceError> {
        call("signing with the App Attest key", |sender| {
            let handler = data_handler(sender);
            with_service(|service| assert(service, key, nonce, &handler));
        })
    }
}

type Answer<T> = Result<T, String>;
type DataHandler = RcBlock<dyn Fn(*mut NSData, *mut NSError)>;

/// Waits for a handler that the service calls on a thread of its own.
fn call<T>(action: &str, start: impl FnOnce(mpsc::Sender<Answer<T>>)) -> Result<T, DeviceError> {
    let (sender, answer) = mpsc::channel();
    autoreleasepool(|_| start(sender));
    let failed = |cause: String| {
        DeviceError::failed(
            action,
            cause,
            "check that the Mac is online, in Full Security with System Integrity Protection (`csrutil status`), and \
             that the program is a signed release; then try again",
        )
    };
    match answer.recv_timeout(TIMEOUT) {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed("no answer".to_owned())),
    }
}

fn data_handler(sender: mpsc::Sender<Answer<Vec<u8>>>) -> DataHandler {
    RcBlock::new(move |data: *mut NSData, error: *mut NSError| {
        send(&sender, bytes(data).ok_or_else(|| words(error)));
    })
}

fn send<T>(sender: &mpsc::Sender<T>, answer: T) {
    // Whoever waited may have given up by now.
    let _ = sender.send(answer);
}

fn with_service(work: impl FnOnce(&DCAppAttestService)) {
    work(&shared());
}

#[expect(unsafe_code, reason = "declared from Objective-C, which does not say that it is safe")]
fn shared() -> Retained<DCAppAttestService> {
    // SAFETY: a class method without arguments that returns the one object of its class, from macOS 11 on.
    unsafe { DCAppAttestService::sharedService() }
}

#[expect(unsafe_code, reason = "declared from Objective-C, which does not say that it is safe")]
pub(super) fn is_supported() -> bool {
    // SAFETY: reads a property of a live object.
    unsafe { shared().isSupported() }
}

#[expect(unsafe_code, reason = "declared from Objective-C, which does not say that it is safe")]
fn generate_key(service: &DCAppAttestService, handler: &RcBlock<dyn Fn(*mut NSString, *mut NSError)>) {
    // SAFETY: the service copies the handler, whose arguments have the declared types; what it holds may be used on any
    // thread.
    unsafe { service.generateKeyWithCompletionHandler(handler) }
}

#[expect(unsafe_code, reason = "declared from Objective-C, which does not say that it is safe")]
fn attest(service: &DCAppAttestService, key: &str, nonce: Hash, handler: &DataHandler) {
    let (key, nonce) = (NSString::from_str(key), NSData::with_bytes(nonce.as_ref()));
    // SAFETY: as for `generate_key`; both arguments live during the call, and the service keeps its own references.
    unsafe { service.attestKey_clientDataHash_completionHandler(&key, &nonce, handler) }
}

#[expect(unsafe_code, reason = "declared from Objective-C, which does not say that it is safe")]
fn assert(service: &DCAppAttestService, key: &str, nonce: Hash, handler: &DataHandler) {
    let (key, nonce) = (NSString::from_str(key), NSData::with_bytes(nonce.as_ref()));
    // SAFETY: as for `attest`.
    unsafe { service.generateAssertion_clientDataHash_completionHandler(&key, &nonce, handler) }
}

#[expect(unsafe_code, reason = "handlers get plain pointers")]
fn text(pointer: *mut NSString) -> Option<String> {
    // SAFETY: null, or an object that lives as long as the handler runs.
    unsafe { pointer.as_ref() }.map(ToString::to_string)
}

#[expect(unsafe_code, reason = "handlers get plain pointers")]
fn bytes(pointer: *mut NSData) -> Option<Vec<u8>> {
    // SAFETY: as for `text`.
    unsafe { pointer.as_ref() }.map(NSData::to_vec)
}

#[expect(unsafe_code, reason = "handlers get plain pointers")]
fn words(pointer: *mut NSError) -> String {
    // SAFETY: as for `text`.
    let error = unsafe { pointer.as_ref() };
    error.map_or_else(
        || "neither an answer nor an error".to_owned(),
        |error| format!("{} ({} {})", error.localizedDescription(), error.domain(), error.code()),
    )
}

/// Apple's servers answer an attestation.
const TIMEOUT: Duration = Duration::from_secs(60);
