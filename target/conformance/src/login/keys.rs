//! Each key that may be offered in a login: what is accepted, what is rejected, the ends of its range, and the key
//! twice (RFC 7143 6.2, 13).

use crate::conn::LoginText;
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::LoginStatus;

const CODE: &str = "session/src/login/negotiation.rs#decide";

/// Declares the test of one key.
const fn key(
    name: &'static str,
    section: &'static str,
    says: &'static str,
    run: fn(&mut Lab) -> Outcome,
) -> Test {
    Test::new(name, section, says, CODE, run).must(&[25])
}

pub(super) const TESTS: &[Test] = &[
    key(
        "header_digest",
        "RFC 7143 13.1",
        "of the digests offered, the first that the target has is chosen; a list without one is rejected",
        |lab| digest(lab, "HeaderDigest"),
    ),
    key("data_digest", "RFC 7143 13.1", "as HeaderDigest, and each is chosen by itself", |lab| {
        digest(lab, "DataDigest")
    }),
    key(
        "max_connections",
        "RFC 7143 13.2",
        "the smaller of both numbers, of 1 to 65535; the target has one connection",
        |lab| {
            answers(lab, "MaxConnections", &[("1", "1"), ("8", "1"), ("65535", "1"), ("0x10", "1")])?;
            answers(lab, "MaxConnections", &[("0", "Reject"), ("65536", "Reject"), ("one", "Reject")])?;
            twice(lab, "MaxConnections", "1")
        },
    ),
    key("initial_r2t", "RFC 7143 13.10", "OR of both answers, and nothing but Yes or No", |lab| {
        boolean(lab, "InitialR2T", "Yes", "No")
    }),
    key("immediate_data", "RFC 7143 13.11", "AND of both answers, and nothing but Yes or No", |lab| {
        boolean(lab, "ImmediateData", "Yes", "No")
    }),
    key(
        "max_recv_data_segment_length",
        "RFC 7143 13.12",
        "each side declares its own, 512 to 2^24-1, and an answer is none; what is out of range is rejected",
        max_recv_data_segment_length,
    ),
    key("max_burst_length", "RFC 7143 13.13", "the smaller of both numbers, of 512 to 2^24-1", |lab| {
        answers(lab, "MaxBurstLength", &[("512", "512"), ("65536", "65536"), ("0x10000", "65536")])?;
        at_most(lab, "MaxBurstLength", "16777215")?;
        answers(lab, "MaxBurstLength", &[("511", "Reject"), ("16777216", "Reject"), ("-1", "Reject")])?;
        twice(lab, "MaxBurstLength", "65536")
    }),
    key(
        "first_burst_length",
        "RFC 7143 13.14",
        "the smaller of both numbers, of 512 to 2^24-1, and never more than MaxBurstLength",
        first_burst_length,
    ),
    key("default_time2wait", "RFC 7143 13.15", "the greater of both numbers, of 0 to 3600", |lab| {
        answers(lab, "DefaultTime2Wait", &[("3600", "3600"), ("3601", "Reject"), ("2s", "Reject")])?;
        for offer in ["0", "2", "60"] {
            let answer = offered(lab, &[("DefaultTime2Wait", offer)], "DefaultTime2Wait")?;
            ensure!(number(&answer)? >= number(offer)?, "DefaultTime2Wait={answer} for an offer of {offer}");
        }
        twice(lab, "DefaultTime2Wait", "2")
    }),
    key("default_time2retain", "RFC 7143 13.16", "the smaller of both numbers, of 0 to 3600", |lab| {
        answers(lab, "DefaultTime2Retain", &[("0", "0"), ("3601", "Reject"), ("", "Reject")])?;
        at_most(lab, "DefaultTime2Retain", "3600")?;
        at_most(lab, "DefaultTime2Retain", "20")?;
        twice(lab, "DefaultTime2Retain", "0")
    }),
    key("max_outstanding_r2t", "RFC 7143 13.17", "the smaller of both numbers, of 1 to 65535", |lab| {
        answers(lab, "MaxOutstandingR2T", &[("1", "1"), ("2", "2"), ("0", "Reject"), ("65536", "Reject")])?;
        at_most(lab, "MaxOutstandingR2T", "65535")?;
        twice(lab, "MaxOutstandingR2T", "1")
    }),
];

pub(super) const MORE: &[Test] = &[
    key("data_pdu_in_order", "RFC 7143 13.18", "OR of both answers: the target wants Yes", |lab| {
        boolean(lab, "DataPDUInOrder", "Yes", "Yes")
    }),
    key("data_sequence_in_order", "RFC 7143 13.19", "OR of both answers: the target wants Yes", |lab| {
        boolean(lab, "DataSequenceInOrder", "Yes", "Yes")
    }),
    key(
        "error_recovery_level",
        "RFC 7143 13.20",
        "the smaller of both numbers, of 0 to 2; the target has level 0",
        |lab| {
            answers(lab, "ErrorRecoveryLevel", &[("0", "0"), ("1", "0"), ("2", "0"), ("3", "Reject")])?;
            twice(lab, "ErrorRecoveryLevel", "0")
        },
    ),
    key(
        "task_reporting",
        "RFC 7143 13.23",
        "one value of the list that is offered, or Reject where the target has none of them",
        |lab| {
            answers(lab, "TaskReporting", &[("RFC3720", "RFC3720"), ("ResponseFence", "ResponseFence")])?;
            answers(lab, "TaskReporting", &[("FastAbort", "FastAbort"), ("Never", "Reject")])?;
            let answer =
                offered(lab, &[("TaskReporting", "RFC3720,ResponseFence,FastAbort")], "TaskReporting")?;
            ensure_eq!(answer, "RFC3720", "the first value of the list");
            twice(lab, "TaskReporting", "RFC3720")
        },
    ),
    key("iscsi_protocol_level", "RFC 7143 13.24", "the smaller of both numbers, of 0 to 31", |lab| {
        answers(lab, "iSCSIProtocolLevel", &[("0", "0"), ("1", "1"), ("2", "2"), ("31", "2"), ("32", "Reject")])?;
        at_most(lab, "iSCSIProtocolLevel", "31")?;
        twice(lab, "iSCSIProtocolLevel", "1")
    }),
    key(
        "obsolete_marker_keys",
        "RFC 7143 13.25",
        "IFMarker and OFMarker are answered No or Reject, IFMarkInt and OFMarkInt Reject, and none of them \
         NotUnderstood",
        |lab| {
            for marker in ["IFMarker", "OFMarker"] {
                for offer in ["Yes", "No"] {
                    let answer = offered(lab, &[(marker, offer)], marker)?;
                    ensure!(["No", "Reject"].contains(&answer.as_str()), "{marker}={answer}");
                }
            }
            answers(lab, "IFMarkInt", &[("2048~4096", "Reject")])?;
            answers(lab, "OFMarkInt", &[("2048", "Reject")])
        },
    ),
    key(
        "keys_of_targets_and_of_later_are_rejected",
        "RFC 7143 13.3, 13.8, 13.9",
        "a key that only a target declares, or that belongs to the full-feature phase, is no offer",
        |lab| {
            for (key, value) in
                [("SendTargets", "All"), ("TargetAddress", "192.0.2.1:3260,1"), ("TargetAlias", "a")]
            {
                answers(lab, key, &[(value, "Reject")])?;
            }
            answers(lab, "TargetPortalGroupTag", &[("1", "Reject")]).or_else(|_| {
                // The target declares its own besides: the first of both is looked at.
                let text = LoginText::plain().with("TargetPortalGroupTag", "1");
                let step = lab.connect()?.log_in(&text)?;
                let rejected = step.keys.all("TargetPortalGroupTag").any(|value| value == "Reject");
                ensure!(rejected, "TargetPortalGroupTag of an initiator is not rejected");
                Ok(())
            })
        },
    ),
    key(
        "unknown_keys_are_not_understood",
        "RFC 7143 6.2",
        "a key that is not known is answered NotUnderstood, and the login goes on",
        |lab| {
            answers(lab, "X-com.example.what", &[("1", "NotUnderstood"), ("", "NotUnderstood")])?;
            answers(lab, "Z-anything", &[("Yes", "NotUnderstood")])?;
            answers(lab, "initialr2t", &[("Yes", "NotUnderstood")])?;
            answers(lab, "X#com.example.ext", &[("1", "NotUnderstood")])
        },
    )
    .broken_by(Mutation::new("an unknown key is passed over in silence", says_nothing_of_unknown)),
    test!(
        irrelevant_is_allowed_where_a_key_means_nothing,
        "RFC 7143 6.2, 13.14",
        "in a discovery session, or where other keys leave it no meaning, a key is answered by its value or by \
         Irrelevant, and the login goes on",
        "session/src/login/negotiation.rs#answer"
    )
    .must(&[25]),
    test!(
        answers_follow_the_initiators_preference,
        "RFC 7143 6.2.1",
        "of a list the first value is chosen that the acceptor supports",
        "session/src/login/negotiation.rs#digest"
    )
    .must(&[25])
    .broken_by(Mutation::new("the last value of a list is chosen", chooses_the_last)),
];

fn says_nothing_of_unknown(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) {
        let pairs = pdu.data.split_inclusive(|byte| *byte == 0);
        let kept: Vec<&[u8]> = pairs.filter(|pair| !pair.ends_with(b"=NotUnderstood\0")).collect();
        pdu.set_data(kept.concat());
    }
    middle.pass(pdu);
}

fn chooses_the_last(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::LoginResponse) {
        let text = String::from_utf8_lossy(&pdu.data);
        let text = text.replace("DataDigest=None", "DataDigest=CRC32C");
        pdu.set_data(text.into_bytes());
    }
    middle.pass(pdu);
}

/// What a login with these pairs is answered for one key.
fn offered(lab: &mut Lab, pairs: &[(&str, &str)], key: &str) -> Outcome<String> {
    let mut conn = lab.connect()?;
    let step = conn.log_in(&LoginText::plain().with_all(pairs))?;
    let answer = step.keys.find(key).map(str::to_owned);
    conn.vanish();
    match answer {
        Some(answer) => Ok(answer),
        None => crate::failure::fail(format!("{pairs:?} is not answered")),
    }
}

fn answers(lab: &mut Lab, key: &str, cases: &[(&str, &str)]) -> Outcome {
    for (offer, wanted) in cases {
        let answer = offered(lab, &[(key, offer)], key)?;
        ensure_eq!(answer, *wanted, "the answer to {key}={offer}");
    }
    Ok(())
}

fn number(text: &str) -> Outcome<u64> {
    text.parse().or_else(|_| crate::failure::fail(format!("`{text}` is no number")))
}

/// The answer is a number that is not greater than the offer.
fn at_most(lab: &mut Lab, key: &str, offer: &str) -> Outcome {
    let answer = offered(lab, &[(key, offer)], key)?;
    ensure!(number(&answer)? <= number(offer)?, "{key}={answer} for an offer of {offer}");
    Ok(())
}

/// A key that comes twice in one login is a protocol error of the initiator (RFC 7143 6.2).
fn twice(lab: &mut Lab, key: &str, value: &str) -> Outcome {
    let mut text = LoginText::plain().with(key, value);
    text.keys.0.push((key.to_owned(), value.to_owned()));
    lab.connect()?.expect_refused(&text, LoginStatus::InitiatorError)
}

fn boolean(lab: &mut Lab, key: &str, for_yes: &str, for_no: &str) -> Outcome {
    answers(lab, key, &[("Yes", for_yes), ("No", for_no)])?;
    answers(lab, key, &[("yes", "Reject"), ("1", "Reject"), ("", "Reject")])?;
    twice(lab, key, "Yes")
}

fn digest(lab: &mut Lab, key: &str) -> Outcome {
    answers(lab, key, &[("None", "None"), ("CRC32C", "CRC32C"), ("None,CRC32C", "None")])?;
    answers(lab, key, &[("CRC32C,None", "CRC32C"), ("MD5,CRC32C,None", "CRC32C")])?;
    answers(lab, key, &[("MD5", "Reject"), ("crc32c", "Reject"), ("CRC32C,,None", "Reject")])?;
    twice(lab, key, "None")?;
    // With it on, the session works.
    let mut conn = lab.ready(&LoginText::plain().with(key, "CRC32C"))?;
    conn.run(&crate::conn::Cmd::read(0, 9))?.good().map(drop)
}

fn max_recv_data_segment_length(lab: &mut Lab) -> Outcome {
    const KEY: &str = "MaxRecvDataSegmentLength";
    for offer in ["512", "8192", "16777215"] {
        let mut conn = lab.connect()?;
        let step = conn.log_in(&LoginText::plain().with(KEY, offer))?;
        let declared: Vec<&str> = step.keys.all(KEY).collect();
        ensure_eq!(declared.len(), 1, "how often the target says {KEY}");
        let own = number(declared[0])?;
        ensure!((512..1 << 24).contains(&own), "the target declares {own} bytes");
        conn.vanish();
    }
    for offer in ["511", "16777216", "many"] {
        let mut conn = lab.connect()?;
        let step = conn.log_in(&LoginText::plain().with(KEY, offer))?;
        let rejected = step.keys.all(KEY).any(|value| value == "Reject");
        ensure!(rejected, "{KEY}={offer} is not rejected");
        conn.vanish();
    }
    twice(lab, KEY, "8192")
}

fn first_burst_length(lab: &mut Lab) -> Outcome {
    const KEY: &str = "FirstBurstLength";
    answers(lab, KEY, &[("512", "512"), ("4096", "4096"), ("511", "Reject"), ("16777216", "Reject")])?;
    at_most(lab, KEY, "16777215")?;
    // MaxBurstLength may stand before it or behind it.
    for pairs in [[("MaxBurstLength", "1024"), (KEY, "8192")], [(KEY, "8192"), ("MaxBurstLength", "1024")]] {
        let answer = offered(lab, &pairs, KEY)?;
        ensure!(number(&answer)? <= 1024, "{KEY}={answer} where MaxBurstLength is 1024");
    }
    twice(lab, KEY, "512")
}

fn irrelevant_is_allowed_where_a_key_means_nothing(lab: &mut Lab) -> Outcome {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "65536"),
        ("FirstBurstLength", "4096"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("MaxConnections", "1"),
    ];
    for text in [LoginText::discovery(), LoginText::plain()] {
        let step = lab.connect()?.log_in(&text.with_all(&keys))?;
        for (key, offer) in keys {
            let answer = step.keys.find(key);
            ensure!(
                answer == Some(offer) || answer == Some("Irrelevant"),
                "{key}={offer} is answered {answer:?}"
            );
        }
    }
    Ok(())
}

fn answers_follow_the_initiators_preference(lab: &mut Lab) -> Outcome {
    for (offer, wanted) in [("None,CRC32C", "None"), ("CRC32C,None", "CRC32C"), ("X-a,None", "None")] {
        let answer = offered(lab, &[("DataDigest", offer)], "DataDigest")?;
        ensure_eq!(answer, wanted, "the answer to DataDigest={offer}");
    }
    Ok(())
}
