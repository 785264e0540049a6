//! What holds for every PDU of a target, whatever a test is about.

use crate::ensure;
use crate::failure::Outcome;
use crate::pdu::Raw;
use stampede_wire::encode::{data_digest, header_digest_with_ahs};
use stampede_wire::{Opcode, Sn};

/// The numbers of a connection as its initiator knows them.
#[derive(Clone, Debug)]
pub(super) struct Vigil {
    /// The StatSN that the next status must carry; `None` before the first.
    pub(super) stat_sn: Option<u32>,
    /// ExpCmdSN and MaxCmdSN as told last.
    pub(super) window: Option<(Sn, Sn)>,
    /// The longest data segment that the initiator declared to take, bytes.
    pub(super) segment: u32,
}

impl Default for Vigil {
    fn default() -> Self {
        Self { stat_sn: None, window: None, segment: 8192 }
    }
}

impl Vigil {
    pub(super) fn judge(&mut self, pdu: &Raw) -> Outcome {
        let opcode = pdu.opcode();
        ensure!(opcode.is_some_and(|opcode| !opcode.is_request()), "{pdu:?} is no PDU of a target");
        ensure!(
            pdu.data.len() <= self.segment as usize,
            "{} bytes in {pdu:?}, where {} were declared (RFC 7143 13.12)",
            pdu.data.len(),
            self.segment
        );
        ensure!(pdu.padding.iter().all(|byte| *byte == 0), "padding other than zeros in {pdu:?}");
        judge_digests(pdu)?;
        if opcode == Some(Opcode::LoginResponse) && pdu.byte(36) != 0 {
            // The numbers of a refusal mean nothing (RFC 7143 11.13.5).
            return Ok(());
        }
        self.judge_stat_sn(pdu)?;
        self.judge_window(pdu)
    }

    /// RFC 7143 4.2.2.2: each status takes the next number, and nothing else does.
    fn judge_stat_sn(&mut self, pdu: &Raw) -> Outcome {
        let counts = pdu.carries_status();
        // Reserved in a Data-In without a status.
        if !counts && pdu.opcode() == Some(Opcode::DataIn) {
            return Ok(());
        }
        let expected = *self.stat_sn.get_or_insert(pdu.stat_sn());
        ensure!(
            pdu.stat_sn() == expected,
            "StatSN {} in {pdu:?}, where {expected} is next (RFC 7143 4.2.2.2)",
            pdu.stat_sn()
        );
        if counts {
            self.stat_sn = Some(expected.wrapping_add(1));
        }
        Ok(())
    }

    /// RFC 7143 4.2.2.1: ExpCmdSN and MaxCmdSN only go forward, and the window is never less than closed.
    fn judge_window(&mut self, pdu: &Raw) -> Outcome {
        let (expected, max) = (Sn(pdu.word(28)), Sn(pdu.word(32)));
        ensure!(
            expected.previous().lte(max),
            "MaxCmdSN {max:?} is less than ExpCmdSN {expected:?} - 1 in {pdu:?} (RFC 7143 4.2.2.1)"
        );
        if let Some((expected_before, max_before)) = self.window {
            ensure!(
                expected_before.lte(expected),
                "ExpCmdSN moved back from {expected_before:?} to {expected:?} in {pdu:?}"
            );
            ensure!(
                max_before.lte(max),
                "MaxCmdSN moved back from {max_before:?} to {max:?} in {pdu:?} (RFC 7143 4.2.2.1)"
            );
        }
        self.window = Some((expected, max));
        Ok(())
    }
}

fn judge_digests(pdu: &Raw) -> Outcome {
    if let Some(found) = pdu.header_digest {
        ensure!(
            found == header_digest_with_ahs(&pdu.bhs, &pdu.ahs),
            "a wrong header digest on {pdu:?} (RFC 7143 11.2.3)"
        );
    }
    if let Some(found) = pdu.data_digest {
        let covered = [&pdu.data[..], &pdu.padding].concat();
        ensure!(found == data_digest(&covered), "a wrong data digest on {pdu:?} (RFC 7143 11.2.3)");
    }
    Ok(())
}
