//! Logins (RFC 7143 6): recorded ones as they were, and all the ways in which one can go wrong.

use std::sync::Arc;

use crate::support::{Event, Harness, INITIATOR, SECOND, Sent, TARGET, Targets, text};
use stampede_session::{
    Admission, Close, DigestPolicy, LoginStage, LoginStatus, Phase, Redirection, SessionKind, Settings,
    ViolationKind,
};
use stampede_wire::{
    Isid, Sn, Tsih,
    pdu::{self, InitiatorSns, LoginStep, NopOut, Stage},
};

/// One recorded Login Request.
struct Recorded {
    pdu: pdu::LoginRequest,
    keys: Vec<String>,
}

fn recorded(file: &str) -> Vec<Recorded> {
    let mut requests: Vec<Recorded> = Vec::new();
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("login ") {
            Some(fields) => requests.push(Recorded { pdu: recorded_header(fields), keys: Vec::new() }),
            None => requests.last_mut().unwrap().keys.push(line.to_owned()),
        }
    }
    requests
}

fn recorded_header(fields: &str) -> pdu::LoginRequest {
    let field = |name: &str| {
        let pair =
            fields.split_whitespace().find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        pair.unwrap().1
    };
    let stage = |name: &str| Stage::try_from(field(name).parse::<u8>().unwrap()).unwrap();
    let step = match (field("T"), field("C")) {
        ("1", _) => LoginStep::Transit(stage("NSG")),
        (_, "1") => LoginStep::Continue,
        _ => LoginStep::Stay,
    };
    let isid = u64::from_str_radix(field("ISID"), 16).unwrap().to_be_bytes();
    let isid = Isid(isid[2..].try_into().unwrap());
    let tsih = Tsih(u16::from_str_radix(field("TSIH"), 16).unwrap());
    let cid = u16::from_str_radix(field("CID"), 16).unwrap();
    let sns = InitiatorSns { cmd_sn: Sn(field("CmdSN").parse().unwrap()), exp_stat_sn: Sn(0) };
    pdu::LoginRequest::new(isid, tsih, cid, 0x5a, stage("CSG"), step, sns)
}

/// Replays a recorded login; each request must be answered as the initiator needs it.
fn replay(file: &str) -> Harness {
    let mut harness = Harness::new();
    for request in recorded(file) {
        let last = request.pdu.next_stage() == Ok(Stage::FullFeature);
        harness.feed(&request.pdu, &text(&request.keys.join(" "))).unwrap();
        if last && harness.connection.phase() == Phase::Deciding {
            harness.admit(0x77);
        }
        let answer = *harness.login_responses().last().unwrap();
        assert_eq!(answer.status(), Ok(LoginStatus::Success));
        assert_eq!(answer.transit(), request.pdu.transit());
        assert_eq!(answer.current_stage(), request.pdu.current_stage());
        assert_eq!(answer.next_stage(), request.pdu.next_stage());
        assert_eq!(answer.isid(), request.pdu.isid());
        assert_eq!(answer.initiator_task_tag(), 0x5a);
        assert_eq!(answer.exp_cmd_sn(), request.pdu.cmd_sn());
        assert_eq!(answer.tsih() == Tsih::NEW, !last, "the last response carries the TSIH");
    }
    assert_eq!(harness.connection.phase(), Phase::FullFeature);
    harness
}

/// Whether every offered key but the declarations was answered once.
fn answered(harness: &Harness, key: &str) -> Option<String> {
    let text = harness.sent_text();
    let mut values = text.split(' ').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == key);
    let value = values.next().map(|(_, value)| value.to_owned());
    assert_eq!(values.next(), None, "{key} is answered once");
    value
}

#[test]
fn ipxe_logs_in_as_firmware() {
    for file in [include_str!("../data/ipxe-1.txt"), include_str!("../data/ipxe-2.txt")] {
        let harness = replay(file);
        let info = harness.connection.info().unwrap();
        assert_eq!((info.stage, info.fingerprint), (LoginStage::Firmware, "ipxe"));
        let agreed = &info.parameters;
        assert_eq!(agreed.initiator_recv_data_segment, 8192);
        assert_eq!((agreed.initial_r2t, agreed.immediate_data), (true, false));
        assert_eq!((agreed.time2wait, agreed.time2retain, agreed.max_outstanding_r2t), (0, 0, 1));
        assert_eq!(answered(&harness, "AuthMethod").as_deref(), Some("None"));
        assert_eq!(answered(&harness, "TargetPortalGroupTag").as_deref(), Some("1"));
        assert_eq!(answered(&harness, "MaxRecvDataSegmentLength").as_deref(), Some("262144"));
        assert_eq!(answered(&harness, "FirstBurstLength").as_deref(), Some("65536"));
        // The first response already has the portal group tag (RFC 7143 13.9).
        let first = harness.out.0.iter().find_map(|event| match event {
            Event::Send(_, Sent::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        });
        assert_eq!(first.unwrap(), b"AuthMethod=None\0TargetPortalGroupTag=1\0");
    }
}

#[test]
fn linux_logs_in_as_an_operating_system() {
    let harness = replay(include_str!("../data/iscsistart.txt"));
    let info = harness.connection.info().unwrap();
    assert_eq!((info.stage, info.fingerprint), (LoginStage::Os, "open-iscsi"));
    assert_eq!(info.alias.as_deref(), Some("diskless"));
    assert_eq!(info.parameters.max_burst, 262_144, "the least of 16776192 and ours");
    assert_eq!(info.parameters.first_burst, 65_536);
    assert_eq!((info.parameters.initial_r2t, info.parameters.immediate_data), (false, true));
    assert_eq!(answered(&harness, "IFMarker").as_deref(), Some("No"));
    for key in ["HeaderDigest", "DataDigest", "ErrorRecoveryLevel", "MaxConnections", "DataPDUInOrder"] {
        assert!(answered(&harness, key).is_some(), "{key}");
    }
}

#[test]
fn iscsid_takes_over_with_digests_offered() {
    let harness = replay(include_str!("../data/iscsid.txt"));
    let info = harness.connection.info().unwrap();
    assert_eq!(info.tsih, 0x77);
    // "None,CRC32C": the initiator's first choice counts.
    assert_eq!((info.parameters.header_digest, info.parameters.data_digest), (false, false));
    assert_eq!(harness.login_responses()[0].exp_cmd_sn(), Sn(1374));
}

#[test]
fn libiscsi_and_qemu_log_in() {
    for file in [include_str!("../data/qemu.txt"), include_str!("../data/iscsi-test-cu.txt")] {
        let harness = replay(file);
        let info = harness.connection.info().unwrap();
        assert_eq!((info.stage, info.fingerprint), (LoginStage::Os, "libiscsi"));
        assert_eq!(info.kind, SessionKind::Normal);
    }
}

#[test]
fn a_discovery_session_needs_no_target_and_no_decision() {
    let harness = replay(include_str!("../data/iscsi-ls.txt"));
    let info = harness.connection.info().unwrap();
    assert_eq!((info.kind, info.target.as_deref()), (SessionKind::Discovery, None));
    assert_ne!(info.tsih, 0);
    assert!(!harness.out.0.iter().any(|event| matches!(event, Event::Admit(_))));
    assert_eq!(answered(&harness, "TargetPortalGroupTag"), None);
}

/// A login in the form that Windows uses: both stages, keys in its order.
#[test]
fn a_windows_like_login() {
    let mut harness = Harness::new();
    let isid = Isid([0x40, 0, 1, 0x37, 0, 0]);
    let sns = InitiatorSns { cmd_sn: Sn(1), exp_stat_sn: Sn(0) };
    let request =
        |stage, next| pdu::LoginRequest::new(isid, Tsih::NEW, 1, 0, stage, LoginStep::Transit(next), sns);
    let names = "InitiatorName=iqn.1991-05.com.microsoft:PC InitiatorAlias=PC SessionType=Normal";
    let security = format!("{names} TargetName={TARGET} AuthMethod=None");
    harness.feed(&request(Stage::Security, Stage::Operational), &text(&security)).unwrap();
    let keys = "HeaderDigest=None,CRC32C DataDigest=None,CRC32C ErrorRecoveryLevel=2 InitialR2T=Yes ImmediateData=Yes \
                MaxRecvDataSegmentLength=65536 MaxBurstLength=262144 FirstBurstLength=65536 MaxConnections=32 \
                DataPDUInOrder=Yes DataSequenceInOrder=Yes DefaultTime2Wait=0 DefaultTime2Retain=60 \
                MaxOutstandingR2T=16 TaskReporting=FastAbort,ResponseFence,RFC3720";
    harness.feed(&request(Stage::Operational, Stage::FullFeature), &text(keys)).unwrap();
    let Some(Event::Admit(asked)) = harness.out.0.last().cloned() else { panic!("a decision is wanted") };
    assert_eq!(asked.initiator, "iqn.1991-05.com.microsoft:pc", "names are compared in lower case");
    assert_eq!((asked.fingerprint, asked.stage, asked.cid), ("windows", LoginStage::Os, 1));
    harness.admit(1);
    let agreed = &harness.connection.info().unwrap().parameters;
    assert!(agreed.fast_abort && agreed.initial_r2t);
    assert_eq!(agreed.max_outstanding_r2t, 4);
    assert_eq!(answered(&harness, "ErrorRecoveryLevel").as_deref(), Some("0"));
    assert_eq!(answered(&harness, "MaxConnections").as_deref(), Some("1"));
    assert_eq!(answered(&harness, "DefaultTime2Retain").as_deref(), Some("0"));
}

#[test]
fn an_edk2_login_is_firmware() {
    let mut harness = Harness::new();
    let sns = InitiatorSns { cmd_sn: Sn(1), exp_stat_sn: Sn(0) };
    let (isid, step) = (Isid([0, 0, 0xaa, 1, 0x5c, 0x11]), LoginStep::Transit(Stage::FullFeature));
    let request = pdu::LoginRequest::new(isid, Tsih::NEW, 0, 1, Stage::Operational, step, sns);
    harness.feed(&request, &text(&format!("InitiatorName={INITIATOR} TargetName={TARGET}"))).unwrap();
    let Some(Event::Admit(asked)) = harness.out.0.last() else { panic!("a decision is wanted") };
    assert_eq!((asked.stage, asked.fingerprint), (LoginStage::Firmware, "edk2"));
}

#[test]
fn the_operators_stage_beats_the_fingerprint() {
    let targets = Targets::default();
    *targets.stage.lock().unwrap() = Some(LoginStage::Firmware);
    let harness = Harness::session_with(Settings::new(Arc::new(targets)), "");
    assert_eq!(harness.connection.info().unwrap().stage, LoginStage::Firmware);
    assert_eq!(harness.connection.info().unwrap().fingerprint, "open-iscsi");
}

/// A login that must fail, and how.
fn refused(stage: Stage, step: LoginStep, keys: &str) -> LoginStatus {
    let mut harness = Harness::new();
    harness.login(stage, step, keys).unwrap();
    refusal(&harness)
}

fn refusal(harness: &Harness) -> LoginStatus {
    let answer = *harness.login_responses().last().expect("a refusal is an answer");
    let status = answer.status().unwrap();
    assert_eq!(harness.closed(), Some(Close::LoginRefused(status)));
    assert!(!answer.transit());
    assert_eq!(harness.connection.phase(), Phase::Closed);
    status
}

const FULL: LoginStep = LoginStep::Transit(Stage::FullFeature);
const NAMES: &str = "InitiatorName=iqn.2026-01.example.boot:guest TargetName=iqn.2026-01.example.boot:disk1";

#[test]
fn refusals_have_their_status() {
    let operational = |keys: &str| refused(Stage::Operational, FULL, keys);
    assert_eq!(operational(""), LoginStatus::MissingParameter);
    assert_eq!(operational(&format!("TargetName={TARGET}")), LoginStatus::MissingParameter);
    assert_eq!(operational(&format!("InitiatorName={INITIATOR}")), LoginStatus::MissingParameter);
    assert_eq!(
        operational("InitiatorName=iqn.2026-01.a:b TargetName=iqn.2026-01.a:c"),
        LoginStatus::NotFound
    );
    assert_eq!(operational(&format!("{NAMES} SessionType=Odd")), LoginStatus::SessionTypeNotSupported);
    assert_eq!(operational(&format!("{NAMES} InitialR2T=Yes InitialR2T=Yes")), LoginStatus::InitiatorError);
    assert_eq!(operational(&format!("{NAMES} {NAMES}")), LoginStatus::InitiatorError);
    assert_eq!(operational(&format!("{NAMES} nonsense")), LoginStatus::InitiatorError);
    assert_eq!(
        operational(&format!("{NAMES} InitiatorAlias={}", "a".repeat(256))),
        LoginStatus::InitiatorError
    );
    let long = format!("InitiatorName=iqn.{} TargetName={TARGET}", "a".repeat(220));
    assert_eq!(operational(&long), LoginStatus::InitiatorError);
    assert_eq!(
        refused(
            Stage::Security,
            LoginStep::Transit(Stage::Operational),
            &format!("{NAMES} AuthMethod=CHAP,SRP")
        ),
        LoginStatus::AuthenticationFailure
    );
    assert_eq!(
        operational(&format!("{NAMES} AuthMethod=None")),
        LoginStatus::InitiatorError,
        "not its stage"
    );
    assert_eq!(
        refused(Stage::Operational, LoginStep::Transit(Stage::Security), NAMES),
        LoginStatus::InitiatorError
    );
    assert_eq!(refused(Stage::FullFeature, LoginStep::Stay, NAMES), LoginStatus::InitiatorError);
}

#[test]
fn a_later_request_must_belong_to_the_same_login() {
    let mut harness = Harness::new();
    harness.login(Stage::Security, LoginStep::Stay, NAMES).unwrap();
    let other = pdu::LoginRequest::new(
        Isid([9; 6]),
        Tsih::NEW,
        0,
        0x11,
        Stage::Security,
        LoginStep::Stay,
        harness.sns(),
    );
    harness.feed(&other, &[]).unwrap();
    assert_eq!(refusal(&harness), LoginStatus::InvalidDuringLogin);

    let mut harness = Harness::new();
    harness.login(Stage::Operational, LoginStep::Stay, NAMES).unwrap();
    harness.login(Stage::Security, LoginStep::Stay, "").unwrap();
    assert_eq!(refusal(&harness), LoginStatus::InvalidDuringLogin, "stages do not go back");
}

#[test]
fn a_newer_protocol_only_is_refused() {
    let mut harness = Harness::new();
    let mut bytes = stampede_wire::Bhs::from(harness.login_request(Stage::Operational, FULL));
    (bytes.0[2], bytes.0[3]) = (2, 1);
    harness.feed_bytes(&bytes.0).unwrap();
    assert_eq!(refusal(&harness), LoginStatus::UnsupportedVersion);
}

#[test]
fn t_and_c_together_are_refused() {
    let mut harness = Harness::new();
    let mut bytes = stampede_wire::Bhs::from(harness.login_request(Stage::Operational, FULL));
    bytes.0[1] |= 0x40;
    harness.feed_bytes(&bytes.0).unwrap();
    assert_eq!(refusal(&harness), LoginStatus::InitiatorError);
}

#[test]
fn text_may_be_cut_anywhere() {
    let keys = text(&format!("{NAMES} MaxBurstLength=65536 ImmediateData=No X-com.example.test=1"));
    for cut in 0..keys.len() {
        let mut harness = Harness::new();
        let first = harness.login_request(Stage::Operational, LoginStep::Continue);
        harness.feed(&first, &keys[..cut]).unwrap();
        let answer = harness.login_responses()[0];
        assert!(!answer.transit() && !answer.continues() && harness.sent_text().is_empty());
        let last = harness.login_request(Stage::Operational, FULL);
        harness.feed(&last, &keys[cut..]).unwrap();
        harness.admit(1);
        assert_eq!(harness.connection.info().unwrap().parameters.max_burst, 65_536);
        assert_eq!(answered(&harness, "X-com.example.test").as_deref(), Some("NotUnderstood"));
    }
}

#[test]
fn one_key_a_pdu_is_a_login_too() {
    let mut harness = Harness::new();
    for keys in [NAMES, "InitialR2T=No", "", "MaxOutstandingR2T=2"] {
        harness.login(Stage::Operational, LoginStep::Stay, keys).unwrap();
    }
    harness.login(Stage::Operational, FULL, "").unwrap();
    harness.admit(3);
    let stat_sns: Vec<_> = harness.login_responses().iter().map(|answer| answer.stat_sn().0).collect();
    assert_eq!(stat_sns, [1, 2, 3, 4, 5]);
    assert_eq!(answered(&harness, "MaxRecvDataSegmentLength").as_deref(), Some("262144"), "declared once");
    assert_eq!(harness.connection.info().unwrap().parameters.max_outstanding_r2t, 2);
}

#[test]
fn a_long_answer_is_cut_with_the_c_bit() {
    let mut harness = Harness::new();
    let keys: String = (0..600).map(|number| format!(" X-com.example.key{number}=1")).collect();
    harness.login(Stage::Operational, FULL, &format!("{NAMES}{keys}")).unwrap();
    let mut parts = 1;
    while harness.connection.phase() == Phase::Login {
        let answer = *harness.login_responses().last().unwrap();
        assert!(answer.continues() && !answer.transit());
        harness.login(Stage::Operational, FULL, "").unwrap();
        parts += 1;
    }
    harness.admit(1);
    assert!(parts > 2 && harness.connection.phase() == Phase::FullFeature);
    assert_eq!(harness.sent_text().matches("NotUnderstood").count(), 600);
}

#[test]
fn text_between_the_parts_of_an_answer_is_refused() {
    let mut harness = Harness::new();
    let keys: String = (0..600).map(|number| format!(" X-com.example.key{number}=1")).collect();
    harness.login(Stage::Operational, FULL, &format!("{NAMES}{keys}")).unwrap();
    harness.login(Stage::Operational, FULL, "InitialR2T=No").unwrap();
    assert_eq!(refusal(&harness), LoginStatus::InitiatorError);
}

#[test]
fn endless_text_is_refused() {
    let mut harness = Harness::new();
    let step = harness.login_request(Stage::Operational, LoginStep::Continue);
    for _ in 0..20 {
        if harness.closed().is_none() {
            harness.feed(&step, &[b'a'; 8192]).unwrap();
        }
    }
    assert_eq!(refusal(&harness), LoginStatus::InitiatorError);
}

#[test]
fn offers_out_of_range_are_rejected_and_the_login_goes_on() {
    let mut harness = Harness::new();
    let keys = "MaxBurstLength=0 FirstBurstLength=511 InitialR2T=Maybe MaxOutstandingR2T=0 ErrorRecoveryLevel=3 \
                DataDigest=MD5 HeaderDigest=MD5,None DefaultTime2Wait=3601 SendTargets=All MaxConnections=0x10";
    harness.login(Stage::Operational, FULL, &format!("{NAMES} {keys}")).unwrap();
    harness.admit(1);
    for key in [
        "MaxBurstLength",
        "FirstBurstLength",
        "InitialR2T",
        "MaxOutstandingR2T",
        "ErrorRecoveryLevel",
        "DataDigest",
        "DefaultTime2Wait",
        "SendTargets",
    ] {
        assert_eq!(answered(&harness, key).as_deref(), Some("Reject"), "{key}");
    }
    assert_eq!(answered(&harness, "HeaderDigest").as_deref(), Some("None"));
    assert_eq!(answered(&harness, "MaxConnections").as_deref(), Some("1"));
    assert_eq!(harness.connection.info().unwrap().parameters.max_burst, 262_144);
}

#[test]
fn first_burst_never_exceeds_max_burst_whichever_comes_first() {
    for keys in ["FirstBurstLength=65536 MaxBurstLength=8192", "MaxBurstLength=8192 FirstBurstLength=65536"] {
        let mut harness = Harness::new();
        harness.login(Stage::Operational, FULL, &format!("{NAMES} {keys}")).unwrap();
        harness.admit(1);
        assert_eq!(answered(&harness, "FirstBurstLength").as_deref(), Some("8192"));
        assert_eq!(harness.connection.info().unwrap().parameters.first_burst, 8192);
    }
}

#[test]
fn digest_policies() {
    let agree = |policy, offer: &str| {
        let mut settings = Settings::new(Arc::new(Targets::default()));
        (settings.header_digest, settings.data_digest) = (policy, policy);
        let mut harness = Harness::with(settings);
        harness
            .login(Stage::Operational, FULL, &format!("{NAMES} HeaderDigest={offer} DataDigest={offer}"))
            .unwrap();
        harness.admit(1);
        let digests = harness.out.0.iter().find_map(|event| match event {
            Event::Digests(header, data) => Some((*header, *data)),
            _ => None,
        });
        (digests, answered(&harness, "DataDigest"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(agree(DigestPolicy::Initiator, "CRC32C,None"), (Some((true, true)), some("CRC32C")));
    assert_eq!(agree(DigestPolicy::Initiator, "None,CRC32C"), (Some((false, false)), some("None")));
    assert_eq!(agree(DigestPolicy::Prefer, "None,CRC32C"), (Some((true, true)), some("CRC32C")));
    assert_eq!(agree(DigestPolicy::Never, "CRC32C,None"), (Some((false, false)), some("None")));
    assert_eq!(agree(DigestPolicy::Never, "CRC32C"), (Some((false, false)), some("Reject")));
    assert_eq!(agree(DigestPolicy::Require, "None"), (None, None), "refused");
}

#[test]
fn digests_begin_after_the_last_login_response() {
    let mut harness = Harness::new();
    harness
        .login(Stage::Operational, FULL, &format!("{NAMES} HeaderDigest=CRC32C DataDigest=CRC32C"))
        .unwrap();
    assert_eq!(harness.connection.phase(), Phase::Deciding);
    harness.take();
    harness.admit(5);
    let events = harness.take();
    assert!(
        matches!(&events[..], [Event::Send(..), Event::Digests(true, true), Event::FullFeature(_)]),
        "{events:?}"
    );
}

#[test]
fn decisions_other_than_yes() {
    let ready = || {
        let mut harness = Harness::new();
        harness.login(Stage::Operational, FULL, NAMES).unwrap();
        harness
    };
    let mut busy = ready();
    busy.connection.admitted(Admission::Refuse { status: LoginStatus::ServiceUnavailable }, 0, &mut busy.out);
    assert_eq!(refusal(&busy), LoginStatus::ServiceUnavailable);

    let mut moved = ready();
    let elsewhere =
        Admission::Redirect(Redirection { address: "192.0.2.9:3260".to_owned(), permanent: false });
    moved.connection.admitted(elsewhere, 0, &mut moved.out);
    assert_eq!(moved.login_responses()[0].status(), Ok(LoginStatus::TargetMovedTemporarily));
    assert_eq!(moved.sent_text(), "TargetAddress=192.0.2.9:3260");
    assert_eq!(moved.closed(), Some(Close::Redirected));

    let mut nonsense = ready();
    nonsense.connection.admitted(Admission::Allow { tsih: 0 }, 0, &mut nonsense.out);
    assert_eq!(refusal(&nonsense), LoginStatus::TargetError);
    // A second decision changes nothing.
    nonsense.take();
    nonsense.admit(1);
    assert!(nonsense.take().is_empty());
}

/// RFC 7143 11.13.5: in the first response, before anything is proven or agreed on, and without a portal group tag.
#[test]
fn a_target_that_is_elsewhere_says_so_first() {
    for (permanent, status) in
        [(false, LoginStatus::TargetMovedTemporarily), (true, LoginStatus::TargetMovedPermanently)]
    {
        let elsewhere = Redirection { address: "[2001:db8::9]:3260".to_owned(), permanent };
        let targets = || Targets { elsewhere: Some(elsewhere.clone()), ..Targets::default() };
        for stage in [Stage::Security, Stage::Operational] {
            let mut harness = Harness::with(Settings::new(Arc::new(targets())));
            harness.login(stage, FULL, &format!("{NAMES} AuthMethod=CHAP InitialR2T=No")).unwrap();
            assert_eq!(harness.login_responses()[0].status(), Ok(status));
            assert_eq!(harness.sent_text(), "TargetAddress=[2001:db8::9]:3260");
            assert_eq!(
                (harness.closed(), harness.connection.phase()),
                (Some(Close::Redirected), Phase::Closed)
            );
        }
        let mut discovery = Harness::with(Settings::new(Arc::new(targets())));
        let keys = format!("InitiatorName={INITIATOR} SessionType=Discovery TargetName={TARGET}");
        discovery.login(Stage::Operational, FULL, &keys).unwrap();
        assert_eq!(discovery.connection.phase(), Phase::FullFeature, "discovery is not of that target");
    }
}

#[test]
fn silence_and_garbage_before_login() {
    let mut harness = Harness::new();
    assert_eq!(harness.connection.deadline_ns(), Some(15 * SECOND));
    assert!(harness.connection.tick(15 * SECOND - 1, &mut harness.out).is_ok());
    let late = harness.connection.tick(15 * SECOND, &mut harness.out);
    assert_eq!(late.unwrap_err().kind, ViolationKind::LoginTimeout);

    let ping = NopOut::ping(1, harness.sns());
    let garbage = harness.feed(&ping, &[]).unwrap_err();
    assert_eq!(garbage.kind, ViolationKind::NotALogin);
    assert_eq!(garbage.to_string(), "a PDU other than a Login Request came before login (opcode 0x00)");
}

#[test]
fn no_timer_runs_while_the_decision_is_ours() {
    let mut harness = Harness::new();
    harness.login(Stage::Operational, FULL, NAMES).unwrap();
    assert_eq!(harness.connection.deadline_ns(), None);
    assert!(harness.connection.tick(1000 * SECOND, &mut harness.out).is_ok());
    assert_eq!(harness.login(Stage::Operational, FULL, "").unwrap_err().kind, ViolationKind::Impatient);
}
