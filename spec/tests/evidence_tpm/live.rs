//! A software TPM that others wrote, asked through tpm2-tools: from its certificate to evidence that holds.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use glassbloom_spec::{
    curve::SigningKey,
    evidence::{
        Anchor, Bound, Proven, Refused, Trust,
        endorsement::Endorsement,
        key::VendorKey,
        tpm::{
            self, Certified, Evidence, Lasting, Signed,
            credential::{Challenge, Seeds, Transcript, subject},
            wire::{Key, Public},
        },
        x509::Certificate,
    },
    hash::Hash,
    id::UnixSeconds,
    leaf::{Payload, Tier},
};

use crate::skipped;

/// Longest that a command of tpm2-tools may take; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// swtpm's certificates begin when they are made and never end.
const AT: UnixSeconds = UnixSeconds::new(32_503_680_000);

const AK: u32 = 0x8101_0101;
const SIGNING: u32 = 0x8101_0102;
const SEALING: u32 = 0x8101_0103;

/// A running swtpm in a folder of its own; both end with the test.
struct SoftTpm {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl SoftTpm {
    fn start() -> Option<Self> {
        for program in ["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_quote"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            if !found.is_ok_and(|found| found.status.success()) {
                skipped(&format!("{program} is not installed: apt-get install swtpm swtpm-tools tpm2-tools"));
                return None;
            }
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("glassbloom-tpm-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("state")).unwrap();
        let mut tpm = Self { folder, port: 0, process: None };
        tpm.manufacture();
        tpm.run_socket();
        Some(tpm)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Has an authority of its own certify the endorsement keys.
    fn manufacture(&self) {
        let path = |name| self.path(name);
        let authority = format!(
            "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            path(""),
            path("issuer.key"),
            path("issuer.pem"),
            path("serial")
        );
        fs::write(path("authority.conf"), authority).unwrap();
        fs::write(path("authority.options"), "").unwrap();
        let tool = Command::new("sh").args(["-c", "command -v swtpm_localca"]).output().unwrap().stdout;
        let setup = format!(
            "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
            String::from_utf8(tool).unwrap().trim(),
            path("authority.conf"),
            path("authority.options")
        );
        fs::write(path("setup.conf"), setup).unwrap();
        let (state, config) = (path("state"), path("setup.conf"));
        self.tool(
            "swtpm_setup",
            &["--tpm2", "--tpmstate", &state, "--create-ek-cert", "--config", &config, "--overwrite"],
        );
    }

    /// Takes the first two neighbouring ports that are still free when swtpm gets to them.
    fn run_socket(&mut self) {
        for _ in 0..20 {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            // tpm2-tools expect the control channel there.
            let Some(other) = port.checked_add(1) else { continue };
            let Ok(control) = TcpListener::bind((Ipv4Addr::LOCALHOST, other)) else { continue };
            drop((server, control));
            let state = format!("dir={}", self.path("state"));
            let mut process = Command::new("swtpm")
                .args(["socket", "--tpm2", "--tpmstate", &state, "--flags", "startup-clear"])
                .args([
                    "--server",
                    &format!("type=tcp,port={port}"),
                    "--ctrl",
                    &format!("type=tcp,port={other}"),
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let since = Instant::now();
            while since.elapsed() < PATIENCE && process.try_wait().unwrap().is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, other)).is_ok() {
                    (self.port, self.process) = (port, Some(process));
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("swtpm does not start");
    }

    /// Runs a program to its end and gives what it prints.
    fn tool(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = fs::File::create(self.path("output")).unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .env("TPM2TOOLS_TCTI", format!("swtpm:host=127.0.0.1,port={}", self.port))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let since = Instant::now();
        loop {
            let printed = || fs::read(self.path("output")).unwrap_or_default();
            match child.try_wait().unwrap() {
                Some(status) if status.success() => return printed(),
                Some(_) => panic!("{program} {arguments:?}: {}", String::from_utf8_lossy(&printed())),
                None if since.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("{program} {arguments:?} does not end");
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// A command of tpm2-tools, split at blanks. There is no resource manager, so what it loaded is put away.
    fn tpm(&self, command: &str) {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        self.tool(program, &words.collect::<Vec<_>>());
        if !["tpm2_startauthsession", "tpm2_policysecret"].contains(&program) {
            self.tool("tpm2_flushcontext", &["-t"]);
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    fn public(&self, name: &str) -> Vec<u8> {
        self.read(name)[2..].to_vec()
    }

    /// Certifies one persistent key with another over a nonce, which `tpm2_certify` does not take.
    fn certify(&self, object: u32, nonce: Hash) -> Signed {
        let password = [0x40, 0, 0, 9, 0, 0, 1, 0, 0];
        let sessions = [password, password].concat();
        let body = [
            &object.to_be_bytes()[..],
            &AK.to_be_bytes(),
            &(sessions.len() as u32).to_be_bytes(),
            &sessions,
            &[0, 32],
            nonce.as_ref(),
            &[0, 0x10],
        ]
        .concat();
        let command =
            [&[0x80, 2][..], &(body.len() as u32 + 10).to_be_bytes(), &[0, 0, 1, 0x48], &body].concat();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&command).unwrap();
        let mut head = [0; 14];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[6..10], [0; 4], "TPM2_Certify failed: {head:02x?}");
        let length = u32::from_be_bytes(head[10..].try_into().unwrap());
        let mut parameters = vec![0; length as usize];
        stream.read_exact(&mut parameters).unwrap();
        let attest = usize::from(u16::from_be_bytes([parameters[0], parameters[1]]));
        Signed { attest: parameters[2..2 + attest].to_vec(), signature: parameters[2 + attest..].to_vec() }
    }

    /// Makes the keys of a provider and keeps them at fixed handles.
    fn make_keys(&self) {
        self.tpm("tpm2_createek -c ek.ctx -G rsa -u ek.pub");
        self.tpm("tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub");
        self.tpm(&format!("tpm2_evictcontrol -C o -c ak.ctx {AK:#x}"));
        self.tpm("tpm2_createprimary -C o -c parent.ctx -G ecc");
        let resident = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth";
        for (name, scheme, usage, handle) in
            [("signing", "ecdsa-sha256", "sign", SIGNING), ("sealing", "ecdh", "decrypt", SEALING)]
        {
            self.tpm(&format!(
                "tpm2_create -C parent.ctx -G ecc256:{scheme} -u {name}.pub -r {name}.priv -a {resident}|{usage}"
            ));
            self.tpm(&format!("tpm2_load -C parent.ctx -u {name}.pub -r {name}.priv -c {name}.ctx"));
            self.tpm(&format!("tpm2_evictcontrol -C o -c {name}.ctx {handle:#x}"));
        }
    }

    /// Has the TPM open a challenge and give back the secret.
    fn activate(&self, challenge: &Challenge, ek: &str) -> Vec<u8> {
        fs::write(self.path("credential"), challenge.to_tools_file()).unwrap();
        self.tpm("tpm2_startauthsession --policy-session -S session.ctx");
        self.tpm("tpm2_policysecret -S session.ctx -c e");
        self.tpm(&format!(
            "tpm2_activatecredential -c {AK:#x} -C {ek} -i credential -o opened -P session:session.ctx"
        ));
        self.tpm("tpm2_flushcontext session.ctx");
        self.read("opened")
    }

    fn quote(&self, nonce: Hash) -> (Signed, Vec<(u8, Hash)>) {
        self.tpm(&format!(
            "tpm2_quote -c {AK:#x} -l sha256:0,1,2,3,4,5,6,7,10 -q {nonce} -m quote.msg -s quote.sig -g sha256"
        ));
        let mut registers = Vec::new();
        for index in [0, 1, 2, 3, 4, 5, 6, 7, 10] {
            self.tpm(&format!("tpm2_pcrread sha256:{index} -o register"));
            registers.push((index, Hash::try_from(self.read("register").as_slice()).unwrap()));
        }
        (Signed { attest: self.read("quote.msg"), signature: self.read("quote.sig") }, registers)
    }

    fn certificates(&self) -> Vec<Vec<u8>> {
        self.tpm("tpm2_nvread 0x1c00002 -o ek.der");
        let pem = |path: &Path| {
            let text = fs::read_to_string(path).unwrap();
            let text: String = text.lines().filter(|line| !line.starts_with('-')).collect();
            BASE64_STANDARD.decode(text).unwrap()
        };
        vec![
            self.read("ek.der"),
            pem(&self.folder.join("issuer.pem")),
            pem(&self.folder.join("swtpm-localca-rootca-cert.pem")),
        ]
    }
}

impl Drop for SoftTpm {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_software_tpm_from_certificate_to_evidence() {
    let Some(tpm) = SoftTpm::start() else { return };
    tpm.make_keys();
    tpm.tpm("tpm2_pcrextend 7:sha256=3fad60dca63753d83faa6e6cae43514252f58712a50057e1096b8b183b22ca6c");
    let chain = tpm.certificates();
    let leaf = Certificate::parse(&chain[0]).unwrap();
    let root = Certificate::parse(&chain[2]).unwrap();
    let nonce = Hash::of(b"the attestation");
    let attestation_key = tpm.public("ak.pub");
    let ak = Public::parse(&attestation_key).unwrap().name();

    // The endorser's side.
    let seeds = Seeds { secret: [7; 32], seed: [8; 32], padding: Some([9; 32]) };
    let activation = Transcript::make(leaf.key(), ak, seeds).unwrap();
    assert_eq!(tpm.activate(&activation.challenge, "ek.ctx"), activation.seeds.secret);
    let endorser = SigningKey::from_seed(b"endorser");
    let says = Endorsement {
        format: tpm::FORMAT.to_owned(),
        subject: subject(leaf.spki(), ak, &activation),
        nonce,
        device: None,
    };
    let endorsements = vec![says.sign(&endorser).unwrap().bytes().to_vec()];

    // The provider's side.
    let (quote, registers) = tpm.quote(nonce);
    let (signing, sealing) = (tpm.public("signing.pub"), tpm.public("sealing.pub"));
    let keys = [&signing, &sealing].map(|key| *Public::parse(key).unwrap().p256().unwrap());
    let anchor = |tier| Anchor { tier, key: Hash::of(root.spki()), name: "swtpm".to_owned() };
    let soft = anchor(Tier::TpmSoft);
    let mut evidence = Evidence {
        lasting: Lasting { chain: chain.clone(), attestation_key, activation, endorsements },
        quote,
        registers,
        signing: Certified { by: tpm.certify(SIGNING, nonce), public: signing },
        sealing: Certified { by: tpm.certify(SEALING, nonce), public: sealing },
    };
    let verify = |evidence: &Evidence, anchor: &Anchor| -> Result<Proven, Refused> {
        let (signing_key, sealing_key) = (&keys[0], &keys[1]);
        let bound = Bound { nonce, signing_key, sealing_key, at: AT, enrolled: None };
        let (anchors, endorsers) = ([anchor.clone()], [endorser.public_key()]);
        let trust = Trust { anchors: &anchors, endorsers: &endorsers, apps: &[] };
        tpm::verify(&evidence.encode(), &bound, &trust)
    };
    let proven = verify(&evidence, &soft).unwrap();
    assert_eq!(proven.tier, Tier::TpmSoft);
    assert!(proven.holds_sealing_key && proven.device.is_some());
    assert_eq!(verify(&evidence, &anchor(Tier::TpmHw)).unwrap_err().reason, "tpm-is-software");

    // A machine that booted something else afterwards quotes other registers.
    tpm.tpm("tpm2_pcrextend 7:sha256=3fad60dca63753d83faa6e6cae43514252f58712a50057e1096b8b183b22ca6c");
    (evidence.quote, _) = tpm.quote(nonce);
    assert_eq!(verify(&evidence, &soft).unwrap_err().reason, "tpm-registers");
    let other = Hash::of(b"another attestation");
    (evidence.quote, evidence.registers) = tpm.quote(nonce);
    assert!(verify(&evidence, &soft).is_ok());
    (evidence.quote, _) = tpm.quote(other);
    assert_eq!(verify(&evidence, &soft).unwrap_err().reason, "tpm-nonce");
}

// swtpm certifies its elliptic-curve key on P-384; the key on P-256 that hardware has is made here without a certificate.
#[test]
fn a_tpm_opens_challenges_for_keys_on_p256() {
    let Some(tpm) = SoftTpm::start() else { return };
    tpm.make_keys();
    tpm.tpm("tpm2_createek -c ecc.ctx -G ecc -u ecc.pub");
    let Key::P256(ek) = Public::parse(&tpm.public("ecc.pub")).unwrap().key else { panic!("not on P-256") };
    let ak = Public::parse(&tpm.public("ak.pub")).unwrap().name();
    let seeds = Seeds { secret: [1; 32], seed: [2; 32], padding: None };
    let transcript = Transcript::make(&VendorKey::P256(ek), ak, seeds).unwrap();
    assert_eq!(tpm.activate(&transcript.challenge, "ecc.ctx"), transcript.seeds.secret);
    assert!(transcript.check(&VendorKey::P256(ek), ak));
}
