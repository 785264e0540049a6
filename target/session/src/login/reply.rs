//! Text that answers a request, cut into PDUs with the C bit where one is too short (RFC 7143 6.2).

/// An answer, and how much of it was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    text: Vec<u8>,
    sent: usize,
}

/// One PDU's part of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    /// More follows: the C bit.
    pub(crate) continues: bool,
}

impl Reply {
    pub(crate) fn new(text: Vec<u8>) -> Self {
        Self { text, sent: 0 }
    }

    /// Whether a part was sent and another is still to be.
    pub(crate) fn is_under_way(&self) -> bool {
        self.sent != 0 && self.sent < self.text.len()
    }

    /// Whether what is left fits `max` bytes.
    pub(crate) fn fits(&self, max: usize) -> bool {
        self.text.len() - self.sent <= max
    }

    /// The next part, of at most `max` bytes: whole pairs if they fit.
    pub(crate) fn next_part(&mut self, max: usize) -> Part<'_> {
        let rest = &self.text[self.sent..];
        let mut len = rest.len().min(max.max(1));
        let continues = len < rest.len();
        if continues && let Some(nul) = rest[..len].iter().rposition(|byte| *byte == 0) {
            len = nul + 1;
        }
        self.sent += len;
        Part { bytes: &rest[..len], continues }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_answer_is_one_empty_part() {
        assert_eq!(Reply::default().next_part(8192), Part { bytes: b"", continues: false });
    }

    #[test]
    fn parts_end_with_a_pair_where_one_fits() {
        let mut reply = Reply::new(b"A=1\0B=2\0CCCCCCCCCC=3\0".to_vec());
        assert_eq!(reply.next_part(9), Part { bytes: b"A=1\0B=2\0", continues: true });
        assert!(reply.is_under_way());
        assert_eq!(reply.next_part(9), Part { bytes: b"CCCCCCCCC", continues: true });
        assert_eq!(reply.next_part(9), Part { bytes: b"C=3\0", continues: false });
        assert!(!reply.is_under_way());
    }
}
