//! Captures of a little boot, in all forms and with all that happens to captures.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail their test")]

mod common;

use common::{BOOT, Frame, Link, boot, pcap, pcapng, read10};
use stampede_capture::{CaptureError, Details, Report, read};

fn details() -> Details {
    Details { name: "boot".into(), ..Details::default() }
}

fn told(file: &[u8]) -> (String, Report) {
    let (trace, report) = read(file, &details()).unwrap();
    (stampede_trace::text::write(&trace, ""), report)
}

fn of(frames: &[Frame]) -> (String, Report) {
    told(&pcap(Link::Ethernet, frames, false, false))
}

#[test]
fn a_boot_is_the_same_on_every_link_and_in_every_form() {
    for link in Link::ALL {
        let frames = boot(link).frames;
        for file in [
            pcap(link, &frames, false, false),
            pcap(link, &frames, true, false),
            pcap(link, &frames, false, true),
            pcapng(link, &frames, 6),
            pcapng(link, &frames, 9),
        ] {
            let (text, report) = told(&file);
            assert_eq!(text, BOOT, "{link:?}");
            assert_eq!((report.connections, report.unanswered, report.writing_others), (3, 1, 1));
            assert_eq!((report.gaps, report.repeated_bytes, report.cut_bytes), (0, 0, 0));
        }
    }
}

#[test]
fn segments_that_come_again_or_out_of_order_change_nothing() {
    let mut frames = boot(Link::Ethernet).frames;
    let doubled: Vec<Frame> = frames.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect();
    let (text, report) = of(&doubled);
    assert_eq!(text, BOOT);
    assert!(report.repeated_bytes > 10_000, "{report}");
    // A FIN that overtakes the last answer.
    let pair = (0..frames.len()).find(|at| frames[*at].at_us == frames[at + 1].at_us && *at > 20).unwrap();
    frames.swap(pair, pair + 1);
    assert_eq!(of(&frames).0, BOOT);
}

#[test]
fn what_the_capture_missed_is_counted() {
    let frames = boot(Link::Ethernet).frames;
    // The data of a read, with its status: the read seems never to end, and all others are there.
    let missed = frames.iter().position(|frame| frame.bytes.len() > 4096).unwrap();
    let mut without = frames.clone();
    without.remove(missed);
    let (text, report) = of(&without);
    assert_eq!((report.gaps, report.gap_bytes, report.lost_connections), (1, 4144, 1), "{report}");
    assert!(report.to_string().contains("goes over a header"), "{report}");
    assert!(text.contains("login 2 os 1010") && text.ends_with("r 8 8 40\n"), "{text}");
    assert_eq!(text.matches("login 2 os").count(), 2, "{text}");
    // Cut off within the data: all headers are there.
    let snap = 54 + 48;
    let mut file = pcap(Link::Ethernet, &[], false, false);
    for Frame { at_us, bytes } in &frames {
        // Logins are needed whole, and 200 bytes hold them.
        let len = bytes.len().min(snap.max(200));
        for word in [(at_us / 1_000_000) as u32, (at_us % 1_000_000) as u32, len as u32, bytes.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&bytes[..len]);
    }
    let (text, report) = told(&file);
    assert_eq!(text, BOOT);
    assert!(report.cut_bytes > 10_000 && report.gaps == 0, "{report}");
}

#[test]
fn one_machine_is_chosen() {
    let mut wire = boot(Link::Ethernet);
    wire.connect().login("iqn.2026-11.test:other", [0x80, 1, 2, 3, 0, 0]);
    wire.wait(1).ask(1, &read10(0, 1), 512).wait(1).data(1, 512);
    let file = pcap(Link::Ethernet, &wire.frames, false, false);
    let error = read(&file[..], &details()).unwrap_err();
    assert!(error.to_string().contains("--initiator") && error.to_string().contains("test:other"), "{error}");
    let named = |name: &str| Details { initiator: Some(name.to_owned()), ..details() };
    let (trace, _) = read(&file[..], &named("iqn.2026-11.test:other")).unwrap();
    assert_eq!(trace.totals().commands, 1);
    let (trace, _) = read(&file[..], &named("iqn.2026-11.test:m")).unwrap();
    assert_eq!(stampede_trace::text::write(&trace, ""), BOOT);
    assert!(read(&file[..], &named("nobody")).unwrap_err().to_string().contains("does not log in here"));
}

#[test]
fn a_marker_stands_before_what_came_after_it() {
    let file = pcap(Link::Ethernet, &boot(Link::Ethernet).frames, false, false);
    let details = Details { marker: Some((1_000_000, "up".to_owned())), ..details() };
    let (trace, _) = read(&file[..], &details).unwrap();
    assert!(stampede_trace::text::write(&trace, "").contains("close 2\nmarker up\nlogin 2"));
}

#[test]
fn what_is_no_capture_is_refused_in_words() {
    let told = |file: &[u8]| read(file, &details()).unwrap_err().to_string();
    assert_eq!(told(b""), "the file is empty");
    assert!(told(b"GET / HTTP/1.1\r\n\r\nand so on and so forth").contains("neither a pcap nor a pcapng"));
    let good = pcap(Link::Ethernet, &boot(Link::Ethernet).frames, false, false);
    assert!(told(&good[..24]).contains("no iSCSI login in 0 packets"));
    // A packet that says to have 4 GiB, and one of 100 MiB.
    for len in [u32::MAX, 100 << 20] {
        let mut huge = good[..24].to_vec();
        huge.extend([0; 8]);
        huge.extend([len.to_le_bytes(), len.to_le_bytes()].concat());
        huge.extend([0; 100]);
        let told = told(&huge);
        assert!(told.contains("byte 24") || told.contains("no iSCSI login"), "{told}");
    }
    // Cut off at any byte: a part of the trace, or words.
    for len in (0..good.len()).step_by(13) {
        match read(&good[..len], &details()) {
            Ok((trace, _)) => assert!(trace.totals().commands <= 10),
            Err(error) => assert!(!matches!(error, CaptureError::Limit(_)), "{error}"),
        }
    }
    // Connections without number, each of which holds a segment.
    let mut ng = pcapng(Link::Ethernet, &[], 6);
    ng.extend([6_u32, 36, 9, 0, 0, 4, 4, 0, 36].map(u32::to_le_bytes).concat());
    assert!(told(&ng).contains("interface 9"), "{}", told(&ng));
}
