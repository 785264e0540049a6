//! What must hold for any bytes; `tests/any_bytes.rs` runs it on random ones.

use stampede_capture::{Details, read, recording};

/// A capture is refused in words, or is a trace that comes back from its own text.
pub(crate) fn capture(bytes: &[u8]) {
    let details = Details { name: "a".to_owned(), ..Details::default() };
    match read(bytes, &details) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((trace, report)) => {
            let text = stampede_trace::text::write(&trace, "");
            assert_eq!(stampede_trace::read(text.as_bytes()).as_ref(), Ok(&trace));
            assert!(report.packets > 0 && report.connections > 0 && !report.to_string().is_empty());
        }
    }
}

/// A recording is refused in words, or is a trace with a read for each of its blocks.
pub(crate) fn recording(bytes: &[u8]) {
    match recording::read(bytes, "a") {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((trace, _)) => assert_eq!(trace.totals().reads as usize * 8, bytes.len() - 76),
    }
}
