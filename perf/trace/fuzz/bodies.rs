//! What must hold for any bytes; `tests/any_bytes.rs` runs it on random ones.

/// A file is refused with a line that it has, or is a trace that comes back from its own text.
pub(crate) fn read(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    match stampede_trace::read(bytes) {
        Err(error) => assert!((1..=lines + 1).contains(&error.line) && !error.what.is_empty(), "{error}"),
        Ok(trace) => {
            let text = stampede_trace::text::write(&trace, "any\ncomment");
            assert_eq!(stampede_trace::read(text.as_bytes()).as_ref(), Ok(&trace));
            let totals = trace.totals();
            assert!(totals.commands as usize <= trace.events.len());
            assert!(totals.blocks_unique <= totals.blocks_read);
        }
    }
}
