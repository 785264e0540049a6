//! CHAP with real initiators: libiscsi's tools and QEMU, and both ways of writing binary values by hand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;
#[path = "common/raw.rs"]
mod raw;

use common::{Target, have};
use raw::{Heard, Raw, names, opcode, pdu};
use stampede_session::{ChapAlgorithm, Secret};
use stampede_wire::text::value::{binary, to_base64, to_hex};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

const SECRET: &str = "rack1-secret-1234";
const OWN_SECRET: &str = "storage-secret-9";
const INITIATOR: &str = "iqn.2026-11.io.example:host";
/// Login statuses (RFC 7143 11.13.5).
const AUTHENTICATION_FAILURE: u16 = 0x0201;

/// A target for users only, an open one, and discovery for users only.
fn start() -> Target {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "discovery-auth = 'chap'\n\
         [[chap]]\nuser = 'rack1'\nsecret-file = 'rack1.secret'\n\
         [[chap]]\nuser = 'other'\nsecret = 'other-secret-1234'\ntargets = ['other']\n\
         [[chap-mutual]]\nuser = 'storage'\nsecret = '{OWN_SECRET}'\n"
    );
    for (name, text) in [("s.toml", config), ("rack1.secret", format!("{SECRET}\n"))] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = folder.path().join("s.toml").to_str().unwrap().to_owned();
    let targets = ["data=disk.img", "other=other.img", "open=open.img,auth=none"];
    Target::start_in(folder, &targets, &["--config", &path], None)
}

fn url(target: &Target, credentials: &str, name: &str) -> String {
    format!("iscsi://{credentials}@{}/iqn.2026-11.io.stampede:{name}/0", target.address())
}

/// Runs a client, which may prove the target too.
fn client(arguments: &[&str], target_secret: Option<&str>) -> Output {
    let mut command = Command::new("timeout");
    command.arg("60").args(arguments).stdin(Stdio::null());
    if let Some(secret) = target_secret {
        command.env("LIBISCSI_CHAP_TARGET_USERNAME", "storage").env("LIBISCSI_CHAP_TARGET_PASSWORD", secret);
    }
    command.output().unwrap()
}

fn works(arguments: &[&str], target_secret: Option<&str>) -> String {
    let output = client(arguments, target_secret);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}: {text}", output.status);
    text
}

#[test]
fn libiscsi_proves_itself_and_others_stay_out() {
    if !have("iscsi-inq") || !have("iscsi-ls") {
        return;
    }
    let target = start();
    let right = format!("rack1%{SECRET}");
    assert!(works(&["iscsi-inq", &url(&target, &right, "data")], None).contains("STAMPEDE"));
    assert!(works(&["iscsi-inq", &target.url("open")], None).contains("STAMPEDE"));
    let list = works(&["iscsi-ls", &format!("iscsi://{right}@{}", target.address())], None);
    assert_eq!(list.matches("iqn.2026-11.io.stampede:").count(), 3, "{list}");
    for wrong in [
        url(&target, "rack1%not-the-secret-1", "data"),
        url(&target, "nobody%rack1-secret-1234", "data"),
        url(&target, "other%other-secret-1234", "data"),
        target.url("data"),
    ] {
        assert!(!client(&["iscsi-inq", &wrong], None).status.success(), "{wrong}");
    }
    for list in ["", "rack1%not-the-secret-1@", "other%other-secret-1234@"] {
        let url = format!("iscsi://{list}{}", target.address());
        let output = client(&["iscsi-ls", &url], None);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("iqn.2026-11.io.stampede"), "{url}");
    }
    let log = target.log();
    assert!(log.contains("login refused") && log.contains("nobody"), "{log}");
    assert!(!log.contains("secret-1"), "no secret in the log");
    target.stop();
}

#[test]
fn the_target_proves_itself_too() {
    if !have("iscsi-inq") {
        return;
    }
    let target = start();
    let url = url(&target, &format!("rack1%{SECRET}"), "data");
    assert!(works(&["iscsi-inq", &url], Some(OWN_SECRET)).contains("STAMPEDE"));
    assert!(
        !client(&["iscsi-inq", &url], Some("another-secret-1")).status.success(),
        "libiscsi must not believe us"
    );
    target.stop();
}

#[test]
fn qemu_reads_and_writes_as_a_user() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let target = start();
    let url = url(&target, &format!("rack1%{SECRET}"), "data");
    works(&["qemu-io", "-f", "raw", "-c", "write -P 7 0 64k", "-c", "read -P 7 0 64k", &url], None);
    let image = |secret: &str| {
        format!(
            "driver=iscsi,transport=tcp,portal={},target=iqn.2026-11.io.stampede:data,lun=0,user=rack1,\
             password-secret={secret},initiator-name={INITIATOR}",
            target.address()
        )
    };
    let good = format!("secret,id=good,data={SECRET}");
    let bad = "secret,id=bad,data=not-the-secret-1";
    let info = |secret: &str| {
        client(
            &["qemu-img", "info", "--object", &good, "--object", bad, "--image-opts", &image(secret)],
            None,
        )
    };
    assert!(info("good").status.success());
    assert!(!info("bad").status.success());
    target.stop();
}

/// One login by hand; the status of its last response, and CHAP_R of the target if it was asked.
fn login(
    target: &Target,
    algorithm: ChapAlgorithm,
    form: fn(&[u8]) -> String,
    secret: &str,
) -> (u16, Option<Vec<u8>>) {
    let mut raw = Raw::connect(target.address());
    let mut step = |keys: &[u8], flags: u8| {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x43, flags]);
        header[8..14].copy_from_slice(&[0, 2, 0x3d, 0, 0, 1]);
        raw.send(&pdu(header, keys));
        assert_eq!(raw.hear(), Heard::Pdu(opcode::LOGIN));
        let status = u16::from_be_bytes([raw.header[36], raw.header[37]]);
        (status, String::from_utf8(raw.data.clone()).unwrap())
    };
    let value = |text: &str, key: &str| {
        let mut pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
    };
    let names = [&names(INITIATOR, "data")[..], b"AuthMethod=CHAP,None\0"].concat();
    let (status, text) = step(&names, 0);
    assert_eq!((status, value(&text, "AuthMethod").as_deref()), (0, Some("CHAP")));
    let (status, text) = step(format!("CHAP_A={}\0", algorithm.number()).as_bytes(), 0);
    assert_eq!(status, 0);
    let challenge = binary(&value(&text, "CHAP_C").unwrap(), 1024).unwrap();
    let identifier = value(&text, "CHAP_I").unwrap().parse().unwrap();
    let respond = |secret: &str, identifier, challenge: &[u8]| {
        let secret = Secret::new(secret.as_bytes()).unwrap();
        algorithm.respond(identifier, &secret, challenge).bytes().to_vec()
    };
    let ours = [0x5a; 24];
    let keys = format!(
        "CHAP_N=rack1\0CHAP_R={}\0CHAP_I=77\0CHAP_C={}\0",
        form(&respond(secret, identifier, &challenge)),
        form(&ours)
    );
    // T, from the security stage into the full-feature phase.
    let (status, text) = step(keys.as_bytes(), 0x83);
    let proof = value(&text, "CHAP_R").map(|text| binary(&text, 1024).unwrap());
    if let Some(proof) = &proof {
        assert_eq!(*proof, respond(OWN_SECRET, 77, &ours));
    }
    (status, proof)
}

/// As the Windows Hardware Certification Kit does: right and wrong responses, hexadecimal and base64.
#[test]
fn every_algorithm_in_hex_and_base64() {
    let target = start();
    for algorithm in ChapAlgorithm::ALL {
        for form in [to_hex as fn(&[u8]) -> String, to_base64] {
            let (status, proof) = login(&target, algorithm, form, SECRET);
            assert!(status == 0 && proof.is_some(), "{algorithm:?}: {status:04x}");
            let (status, proof) = login(&target, algorithm, form, "not-the-secret-1");
            assert_eq!((status, proof), (AUTHENTICATION_FAILURE, None), "{algorithm:?}");
        }
    }
    target.stop();
}
