//! Keys in a software TPM, checked by the specification's own software, and by the tools that people use with TPMs.

#![expect(clippy::unwrap_used, reason = "what tests share are tests too")]

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use glassbloom_hardware::{
    Device, DeviceError,
    test_support::SoftTpm,
    tpm::{Tcti, TpmConfig, TpmDevice, examine},
};
use glassbloom_spec::{
    cbor::{Fields, Value},
    curve::{DiffieHellman, EcdhSecret, PublicKey, SigningKey},
    evidence::{
        self, Anchor, Bound, Enrolled, Trust,
        endorsement::Endorsement,
        tpm::{self, credential::Seeds},
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Tier},
    seal::hpke,
};
use tempfile::TempDir;

fn open(tpm: &SoftTpm, folder: &TempDir) -> TpmDevice {
    TpmDevice::open(&tpm.config(folder.path().join("tpm"))).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_the_tpm_signs_verifies() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = open(&tpm, &folder);
    let signing = device.signing();
    for length in [0, 1, 31, 32, 33, 5000] {
        let message = vec![7; length];
        let signature = signing.sign(&message).unwrap();
        signing.public_key().verify(&message, &signature).unwrap();
        assert!(signing.public_key().verify(b"another", &signature).is_err());
    }
}

#[test]
fn what_is_sealed_to_the_tpm_opens() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = open(&tpm, &folder);
    let sealing = device.sealing();
    for seed in 0..8 {
        let ours = hpke::derive_key_pair(&[seed; 32]);
        let theirs = sealing.diffie_hellman(&ours.public_key()).unwrap();
        assert_eq!(ours.diffie_hellman(&sealing.public_key()).unwrap(), theirs);
    }
    let (enc, mut sender) = hpke::setup_sender(&sealing.public_key(), b"info", &[9; 32]).unwrap();
    let sealed = sender.seal(b"aad", b"prompt").unwrap();
    let mut receiver = hpke::setup_receiver(&*sealing, &enc, b"info").unwrap();
    assert_eq!(receiver.open(b"aad", &sealed).unwrap(), b"prompt");
    let mut off_curve = sealing.public_key();
    off_curve[64] ^= 1;
    assert!(sealing.diffie_hellman(&off_curve).is_err());
}

#[test]
fn lasting_keys_survive_a_restart_and_the_sealing_key_does_not() {
    let Some(mut tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = open(&tpm, &folder);
    let (signing, sealing) = (device.signing().public_key(), device.sealing().public_key());
    let attestation = device.endorsed().unwrap().request().unwrap();
    drop(device);
    // The process starts again, then the machine.
    let second = open(&tpm, &folder);
    assert_eq!(second.signing().public_key(), signing);
    assert_ne!(second.sealing().public_key(), sealing);
    tpm.restart();
    let third = open(&tpm, &folder);
    assert_eq!(third.signing().public_key(), signing);
    assert_eq!(third.endorsed().unwrap().request().unwrap(), attestation);
    assert_ne!(third.sealing().public_key(), sealing);
    // What was loaded before the machine was restarted is gone, and says so.
    let error = second.signing().sign(b"x").unwrap_err().to_string();
    assert!(error.contains("the TPM was restarted") && error.contains("restart the provider"), "{error}");
    let ours = EcdhSecret::from_bytes(&[1; 32]).unwrap();
    assert!(DiffieHellman::diffie_hellman(&*second.sealing(), &ours.public_key()).is_err());
}

#[test]
fn keys_of_another_tpm_are_refused_and_kept() {
    let (Some(tpm), Some(other)) = (SoftTpm::start(), SoftTpm::start()) else { return };
    let folder = folder();
    drop(open(&tpm, &folder));
    let path = folder.path().join("tpm/signing.tpm");
    let before = fs::read(&path).unwrap();
    let error = TpmDevice::open(&other.config(folder.path().join("tpm"))).err().unwrap().to_string();
    assert!(error.contains("made by another TPM"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::write(&path, b"wibble").unwrap();
    let error = TpmDevice::open(&tpm.config(folder.path().join("tpm"))).err().unwrap().to_string();
    assert!(error.contains("signing.tpm") && error.contains("restore it"), "{error}");
}

#[test]
fn many_threads_share_one_tpm() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = Arc::new(open(&tpm, &folder));
    std::thread::scope(|scope| {
        for thread in 0_u8..4 {
            let device = Arc::clone(&device);
            scope.spawn(move || {
                for round in 0..10 {
                    let message = [thread, round];
                    let signature = device.signing().sign(&message).unwrap();
                    device.signing().public_key().verify(&message, &signature).unwrap();
                    let ours = hpke::derive_key_pair(&[thread * 10 + round + 1; 32]);
                    let theirs = device.sealing().diffie_hellman(&ours.public_key()).unwrap();
                    assert_eq!(ours.diffie_hellman(&device.sealing().public_key()).unwrap(), theirs);
                }
            });
        }
    });
}

#[test]
fn a_tpm_is_looked_at_before_it_is_used() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let config = tpm.config(folder.path().join("tpm"));
    let found = examine(&config).unwrap();
    assert_eq!((found.maker.as_str(), found.model.contains("SW")), ("IBM", true), "{found}");
    assert!(found.is_usable(), "{found}");
    assert!(!folder.path().join("tpm").exists());
    let tcti = tpm.tcti().to_string();
    let Some(()) = tools(&folder, &["tpm2_changeauth", "-T", &tcti, "-c", "owner", "password"]) else {
        return;
    };
    let found = examine(&config).unwrap();
    assert!(found.owner_has_password && !found.is_usable());
    assert!(found.to_string().contains("no; `tpm2_changeauth -c owner"), "{found}");
    let error = TpmDevice::open(&config).err().unwrap().to_string();
    assert!(
        error.contains("it asks for a password") && error.contains("tpm2_changeauth -c owner"),
        "{error}"
    );
    tools(&folder, &["tpm2_nvundefine", "-T", &tcti, "-C", "p", "0x1c00002"]).unwrap();
    let error = TpmDevice::open(&config).err().unwrap().to_string();
    assert!(error.contains("holds none at 0x1c00002") && error.contains("ask its maker"), "{error}");
    assert!(!examine(&config).unwrap().has_certificate);
}

/// A terminal in raw mode stands for the kernel's device: bytes go in and come out of a file.
#[cfg(target_os = "linux")]
#[test]
fn a_device_file_is_spoken_to() {
    use std::{
        fs::File,
        io::{Read, Write},
        os::unix::{fs::symlink, net::UnixStream},
    };

    use nix::{pty::openpty, sys::termios, unistd::ttyname};

    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let terminal = openpty(None, None).unwrap();
    let mut mode = termios::tcgetattr(&terminal.slave).unwrap();
    termios::cfmakeraw(&mut mode);
    termios::tcsetattr(&terminal.slave, termios::SetArg::TCSANOW, &mode).unwrap();
    let device = folder.path().join("tpmrm0");
    symlink(ttyname(&terminal.slave).unwrap(), &device).unwrap();
    let Tcti::Socket(socket) = tpm.tcti() else { panic!("a socket") };
    // Ends with the process, as the terminal does.
    std::thread::spawn(move || {
        let mut master = File::from(terminal.master);
        let _kept_open = terminal.slave;
        let message = |from: &mut dyn Read| {
            let mut bytes = vec![0; 10];
            from.read_exact(&mut bytes).unwrap();
            bytes.resize(u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize, 0);
            from.read_exact(&mut bytes[10..]).unwrap();
            bytes
        };
        loop {
            let command = message(&mut master);
            let mut tpm = UnixStream::connect(&socket).unwrap();
            tpm.write_all(&command).unwrap();
            master.write_all(&message(&mut tpm)).unwrap();
        }
    });
    let mut config = tpm.config(folder.path().join("tpm"));
    config.tcti = Tcti::Device(device);
    let device = TpmDevice::open(&config).unwrap();
    let signature = device.signing().sign(b"message").unwrap();
    device.signing().public_key().verify(b"message", &signature).unwrap();
    let ours = hpke::derive_key_pair(&[7; 32]);
    let theirs = device.sealing().diffie_hellman(&ours.public_key()).unwrap();
    assert_eq!(ours.diffie_hellman(&device.sealing().public_key()).unwrap(), theirs);
}

#[test]
fn a_missing_tpm_is_named() {
    let folder = folder();
    let mut config = TpmConfig::new(folder.path());
    config.tcti = format!("swtpm:path={}", folder.path().join("none").display()).parse().unwrap();
    let error = TpmDevice::open(&config).err().unwrap().to_string();
    assert!(error.contains("swtpm:path=") && error.contains("check that the software TPM runs"), "{error}");
    config.tcti = format!("device:{}", folder.path().join("none").display()).parse().unwrap();
    let error = TpmDevice::open(&config).err().unwrap().to_string();
    assert!(error.contains("firmware"), "{error}");
    config.more_registers = vec![24];
    assert!(TpmDevice::open(&config).is_err());
}

/// From the maker's root to both keys, as an endorser and everyone who reads the log go through it.
#[test]
fn what_the_tpm_proves_is_verified_by_anyone() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = open(&tpm, &folder);
    let endorser = SigningKey::from_seed(&[3; 32]);
    let anchors = [Anchor { tier: Tier::TpmSoft, key: tpm.root_key(), name: "a software TPM's".to_owned() }];
    let endorsers = [endorser.public_key()];
    let trust = Trust { anchors: &anchors, endorsers: &endorsers, ..Trust::default() };
    let now = UnixSeconds::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let signing = device.signing().public_key();
    let sealing = PublicKey::from_sec1(&device.sealing().public_key()).unwrap();
    let bound =
        |nonce, enrolled| Bound { nonce, signing_key: &signing, sealing_key: &sealing, at: now, enrolled };

    let first = Hash::of(b"first");
    let endorsed = device.endorsed().unwrap();
    assert!(endorsed.is_wanted(first));
    let request = endorsed.request().unwrap();
    let seeds = Seeds { secret: [1; 32], seed: [2; 32], padding: Some([4; 32]) };
    let asked = tpm::ask(&request.certificates, &request.attestation_key, &anchors, now, &seeds).unwrap();
    let challenge = &asked.transcript.challenge;
    let answer = endorsed.activate(&challenge.credential, &challenge.encrypted_secret).unwrap();
    assert_eq!(answer.as_slice(), seeds.secret);
    let says = Endorsement { format: "tpm".to_owned(), subject: asked.subject, nonce: first, device: None };
    let says = says.sign(&endorser).unwrap().bytes().to_vec();
    endorsed.set_enrolment(first, &asked.transcript.to_value().encode(), &[says]).unwrap();

    let evidence = device.evidence(first).unwrap();
    let proven = evidence::verify(device.format(), &evidence, &bound(first, None), &trust).unwrap();
    assert_eq!(proven.tier, Tier::TpmSoft);
    assert!(
        proven.holds_sealing_key && proven.device.is_some() && device.possession(first).unwrap().is_none()
    );
    let lasting = evidence::lasting(device.format(), &evidence);
    device.logged(Hash::of(b"leaf")).unwrap();

    // The next attestation of the same process, and one after both the process and the machine have started again.
    let second = Hash::of(b"second");
    let enrolled = Some(Enrolled { nonce: first, at: now, signing_key: signing });
    let evidence = device.evidence(second).unwrap();
    assert_eq!(evidence::lasting(device.format(), &evidence), lasting);
    let again = evidence::verify(device.format(), &evidence, &bound(second, enrolled), &trust).unwrap();
    assert_eq!(again.device, proven.device);
    let refused = |bytes: &[u8], bound: &Bound, trust: &Trust| {
        evidence::verify("tpm", bytes, bound, trust).unwrap_err().reason
    };
    assert_eq!(refused(&evidence, &bound(first, enrolled), &trust), "tpm-nonce");
    let other = SigningKey::from_seed(&[9; 32]).public_key();
    let stolen = Bound { signing_key: &other, ..bound(second, enrolled) };
    assert_eq!(refused(&evidence, &stolen, &trust), "tpm-key-mismatch");
    assert_eq!(refused(&evidence, &bound(second, None), &trust), "endorsement-mismatch");
    assert_eq!(
        refused(&evidence, &bound(second, enrolled), &Trust { endorsers: &[other], ..trust }),
        "endorser-unknown"
    );
    assert!(
        evidence::verify("tpm", &evidence, &bound(second, enrolled), &Trust { anchors: &[], ..trust })
            .is_err()
    );

    let mut tpm = tpm;
    tpm.restart();
    let device = open(&tpm, &folder);
    assert_eq!(device.enrolment(), Some(Hash::of(b"leaf")));
    let sealing = PublicKey::from_sec1(&device.sealing().public_key()).unwrap();
    let third = Hash::of(b"third");
    let bound = Bound { sealing_key: &sealing, ..bound(third, enrolled) };
    evidence::verify("tpm", &device.evidence(third).unwrap(), &bound, &trust).unwrap();
}

/// Makes the challenge with `tpm2_makecredential`, which nobody here wrote, and answers it.
#[test]
fn a_challenge_of_others_is_answered() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = open(&tpm, &folder);
    let endorsed = device.endorsed().unwrap();
    let nonce = Hash::of(b"nonce");
    assert!(endorsed.is_wanted(nonce));
    assert!(matches!(device.evidence(Hash::of(b"n")), Err(DeviceError::NotEnrolled)));
    let request = endorsed.request().unwrap();
    assert_eq!(request.certificates.len(), 3);
    let file = |name: &str| folder.path().join(name);
    let secret = [0x5a; 32];
    fs::write(file("secret"), secret).unwrap();
    fs::write(file("ek.der"), &request.certificates[0]).unwrap();
    let name = Hash::of(&request.attestation_key).to_string();
    let Some(()) = tools(
        &folder,
        &["openssl", "x509", "-in", "ek.der", "-inform", "DER", "-pubkey", "-noout", "-out", "ek.pem"],
    ) else {
        return;
    };
    let make = [
        "tpm2_makecredential",
        "-Q",
        "-T",
        "none",
        "-u",
        "ek.pem",
        "-s",
        "secret",
        "-o",
        "credential",
        "-G",
        "rsa",
    ];
    let name = format!("000b{name}");
    if tools(&folder, &[&make[..], &["-n", &name]].concat()).is_none() {
        return;
    }
    let credential = fs::read(file("credential")).unwrap();
    let rest = credential.strip_prefix(&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1]).unwrap();
    let (credential, rest) = sized(rest);
    let (encrypted_secret, _) = sized(rest);
    assert_eq!(endorsed.activate(&credential, &encrypted_secret).unwrap().as_slice(), secret);
    // Again, with the key made anew instead of the one that the TPM keeps.
    let tcti = tpm.tcti().to_string();
    tools(&folder, &["tpm2_evictcontrol", "-Q", "-T", &tcti, "-C", "o", "-c", "0x81010001"]).unwrap();
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let answer = endorsed.activate(&with_length(&credential), &with_length(&encrypted_secret)).unwrap();
    assert_eq!(answer.as_slice(), secret);
    let mut altered = credential.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert!(endorsed.activate(&altered, &encrypted_secret).is_err());
    let parts = [&credential, &encrypted_secret, &secret[..], &[1; 32], &[2; 32]];
    let fields = (1..).zip(parts).map(|(key, part)| (Value::Unsigned(key), Value::from(part)));
    let transcript = Value::Map(fields.collect()).encode();
    assert!(endorsed.set_enrolment(nonce, &transcript[1..], &[]).is_err());
    endorsed.set_enrolment(nonce, &transcript, &[b"endorsement".to_vec()]).unwrap();
    assert!(!endorsed.is_wanted(nonce) && endorsed.is_wanted(Hash::of(b"n")));
    assert!(matches!(device.evidence(Hash::of(b"n")), Err(DeviceError::NotEnrolled)));
    check_evidence(&tpm, &folder, &device, &request.attestation_key);
    // The enrolment outlives the process, and what it was logged with.
    assert_eq!(device.enrolment(), None);
    device.logged(Hash::of(b"leaf")).unwrap();
    device.logged(Hash::of(b"later leaf")).unwrap();
    drop(device);
    let device = open(&tpm, &folder);
    assert_eq!(device.enrolment(), Some(Hash::of(b"leaf")));
    assert!(device.evidence(Hash::of(b"n")).is_ok());
    device.forget_enrolment().unwrap();
    assert!(device.endorsed().unwrap().is_wanted(nonce) && device.enrolment().is_none());
    assert!(matches!(device.evidence(Hash::of(b"n")), Err(DeviceError::NotEnrolled)));
}

/// Has `tpm2_checkquote` check the quote, and OpenSSL the certificates of the keys.
fn check_evidence(tpm: &SoftTpm, folder: &TempDir, device: &TpmDevice, attestation_key: &[u8]) {
    let nonce = Hash::of(b"nonce");
    let evidence = device.evidence(nonce).unwrap();
    let mut fields = Fields::decode(&evidence).unwrap();
    for key in 1..=4 {
        fields.value(key, "").unwrap();
    }
    let pcrs = fields.array(7).unwrap();
    assert_eq!(pcrs.len(), 8);
    assert_eq!(pcrs[3], Value::Array(vec![Value::Unsigned(3), Value::Bytes(vec![0; 32])]));
    let file = |name: &str| folder.path().join(name);
    // An elliptic-curve key ends with its two coordinates.
    let point = |public: &[u8]| {
        let (x, y) = (&public[public.len() - 66..public.len() - 34], &public[public.len() - 32..]);
        PublicKey::from_sec1(&[&[4], x, y].concat()).unwrap()
    };
    let prefix = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let spki = [&hex::decode(prefix).unwrap()[..], &point(attestation_key).to_uncompressed()].concat();
    fs::write(file("ak.der"), spki).unwrap();
    tools(folder, &["openssl", "pkey", "-pubin", "-inform", "DER", "-in", "ak.der", "-out", "ak.pem"])
        .unwrap();
    let (quote, signature) = (fields.bytes(5).unwrap(), fields.bytes(6).unwrap());
    fs::write(file("quote"), &quote).unwrap();
    fs::write(file("signature"), &signature).unwrap();
    let check = ["tpm2_checkquote", "-Q", "-u", "ak.pem", "-m", "quote", "-s", "signature", "-q"];
    tools(folder, &[&check[..], &[&nonce.to_string()]].concat()).unwrap();
    assert!(failed(folder, &[&check[..], &[&Hash::of(b"other").to_string()]].concat()));
    let signing = device.signing().public_key();
    let sealing = PublicKey::from_sec1(&device.sealing().public_key()).unwrap();
    for (first, key) in [(8, signing), (11, sealing)] {
        let public = fields.bytes(first).unwrap();
        assert_eq!(point(&public), key);
        let (statement, signature) = (fields.bytes(first + 1).unwrap(), fields.bytes(first + 2).unwrap());
        // A quote and a certificate are signed alike.
        let name = [&[0, 0x0b][..], Hash::of(&public).as_ref()].concat();
        assert!(statement.windows(name.len()).any(|window| window == name));
        assert!(statement.windows(32).any(|window| window == nonce.as_ref()));
        verify_signature(attestation_key, &point, &statement, &signature);
    }
    fields.finish().unwrap();
    let _ = tpm;
}

fn verify_signature(
    attestation_key: &[u8],
    point: &dyn Fn(&[u8]) -> PublicKey,
    statement: &[u8],
    signature: &[u8],
) {
    let rest = signature.strip_prefix(&[0, 0x18, 0, 0x0b]).unwrap();
    let (r, rest) = sized(rest);
    let (s, _) = sized(rest);
    let mut both = [0; 64];
    both[32 - r.len()..32].copy_from_slice(&r);
    both[64 - s.len()..].copy_from_slice(&s);
    let both = glassbloom_spec::curve::low_s(&both).unwrap();
    point(attestation_key).verify(statement, &both).unwrap();
}

fn sized(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (bytes[2..2 + length].to_vec(), &bytes[2 + length..])
}

/// Runs a tool in the folder; `None` when it is not installed and need not be.
fn tools(folder: &TempDir, command: &[&str]) -> Option<()> {
    match Command::new(command[0]).args(&command[1..]).current_dir(folder.path()).output() {
        Err(error) => {
            let required = std::env::var_os("GLASSBLOOM_REQUIRE_ALL").is_some_and(|v| v == "1");
            assert!(!required, "{}: {error}", command[0]);
            eprintln!("skipped: {} is not installed", command[0]);
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
    }
}

fn failed(folder: &TempDir, command: &[&str]) -> bool {
    !Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder.path())
        .output()
        .unwrap()
        .status
        .success()
}

/// How long the two operations of a request take, for the manual.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let Some(tpm) = SoftTpm::start() else { return };
    let folder = folder();
    let device = open(&tpm, &folder);
    let (signing, sealing) = (device.signing(), device.sealing());
    let peer = hpke::derive_key_pair(&[1; 32]).public_key();
    let timed = |name: &str, work: &dyn Fn()| {
        let start = Instant::now();
        for _ in 0..100 {
            work();
        }
        println!("{name}\t{:.2}\tms", start.elapsed().as_secs_f64() * 10.0);
    };
    timed("sign", &|| {
        signing.sign(b"message").unwrap();
    });
    timed("agree", &|| {
        sealing.diffie_hellman(&peer).unwrap();
    });
    let _: &Path = folder.path();
}
