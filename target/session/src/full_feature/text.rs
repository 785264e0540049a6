//! Text Request (RFC 7143 11.10, 11.11): SendTargets, and the one parameter that may change after login.

use stampede_wire::{
    RESERVED_TAG,
    pdu::{Pdu, RejectReason, TextRequest, TextResponse},
    text::{Builder, Pairs, TextError, is_value, reserved, value::number_in},
};

use super::FullFeature;
use crate::{OutData, Output, SessionKind, login::Reply};

/// The one text negotiation that may be under way (RFC 7143 11.10.5: a connection has at most one).
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    /// Tag of the initiator's next request in it, if it goes on.
    tag: Option<u32>,
    itt: u32,
    /// What came so far of a text cut by C bits.
    text: Vec<u8>,
    reply: Reply,
    count: u32,
}

/// Why a text is not answered.
struct Refused;

impl From<TextError> for Refused {
    fn from(_: TextError) -> Self {
        Self
    }
}

impl FullFeature {
    pub(super) fn text_request(&mut self, pdu: &TextRequest, data: &[u8], out: &mut impl Output) {
        if self.take_text(pdu, data).is_err() {
            self.text = Exchange { count: self.text.count, ..Exchange::default() };
            return self.reject(pdu.bhs(), RejectReason::ProtocolError, out);
        }
        self.renegotiation_deadline_ns = None;
        let max = self.info.parameters.initiator_recv_data_segment as usize;
        // An answer may end the exchange only if the initiator wants it to (RFC 7143 11.11.1).
        let last = self.text.reply.fits(max) && pdu.is_final();
        let tag = (!last).then(|| self.next_text_tag());
        self.text.tag = tag;
        let sns = self.numbers.status();
        let part = self.text.reply.next_part(max);
        let response = match tag {
            None => TextResponse::last(pdu.initiator_task_tag(), sns),
            Some(tag) => TextResponse::partial(pdu.initiator_task_tag(), tag, part.continues, sns),
        };
        // At most 2^24-1 bytes, the largest MaxRecvDataSegmentLength.
        let response = response.with_data_segment_len(part.bytes.len() as u32);
        out.send(
            response.bhs(),
            if part.bytes.is_empty() { OutData::None } else { OutData::Bytes(part.bytes) },
        );
        if last {
            self.text.reply = Reply::default();
        }
    }

    fn take_text(&mut self, pdu: &TextRequest, data: &[u8]) -> Result<(), Refused> {
        let exchange = &mut self.text;
        let tag = pdu.target_transfer_tag();
        if pdu.is_final() && pdu.continues() || pdu.initiator_task_tag() == RESERVED_TAG {
            return Err(Refused);
        }
        if tag == RESERVED_TAG {
            // A new one; an old one that was left hanging is forgotten (RFC 7143 11.10.4).
            *exchange =
                Exchange { itt: pdu.initiator_task_tag(), count: exchange.count, ..Exchange::default() };
        } else if exchange.tag != Some(tag) || exchange.itt != pdu.initiator_task_tag() {
            return Err(Refused);
        }
        if exchange.reply.is_under_way() {
            return if data.is_empty() && !pdu.continues() { Ok(()) } else { Err(Refused) };
        }
        if exchange.text.len().saturating_add(data.len()) > self.settings.text_bytes_max as usize {
            return Err(Refused);
        }
        exchange.text.extend_from_slice(data);
        exchange.reply = Reply::default();
        if !pdu.continues() {
            let text = std::mem::take(&mut exchange.text);
            self.text.reply = Reply::new(self.answer_text(&text)?);
        }
        Ok(())
    }

    fn next_text_tag(&mut self) -> u32 {
        self.text.count = self.text.count.wrapping_add(1) % RESERVED_TAG;
        self.text.count
    }

    fn answer_text(&mut self, text: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut reply = Builder::new();
        let pairs = Pairs::parse(text)?;
        for (at, (key, value)) in pairs.clone().enumerate() {
            if pairs.clone().take(at).any(|(earlier, _)| earlier == key) {
                return Err(Refused);
            }
            match key {
                "SendTargets" => self.send_targets(value, &mut reply),
                "MaxRecvDataSegmentLength" => match number_in(value, 512..=0x00ff_ffff) {
                    Some(bytes) => {
                        self.info.parameters.initiator_recv_data_segment =
                            u32::try_from(bytes).map_err(|_| Refused)?;
                    }
                    None => drop(reply.push(key, reserved::REJECT)),
                },
                _ if is_login_key(key) => drop(reply.push(key, reserved::REJECT)),
                _ => drop(reply.push(key, reserved::NOT_UNDERSTOOD)),
            }
        }
        Ok(reply.into_bytes())
    }

    /// SendTargets (RFC 7143 Appendix C): `All` in a discovery session, one name in either, nothing (this session's own
    /// target) in a normal one.
    fn send_targets(&self, value: &str, reply: &mut Builder) {
        let lowered = value.to_ascii_lowercase();
        let which = match (value, self.info.kind) {
            ("All", SessionKind::Discovery) => None,
            ("All", SessionKind::Normal) | ("", SessionKind::Discovery) => {
                reply.push("SendTargets", reserved::REJECT);
                return;
            }
            ("", SessionKind::Normal) => self.info.target.as_deref(),
            _ => Some(lowered.as_str()),
        };
        // In a normal session only its own target is told (RFC 7143 Appendix C).
        if self.info.kind == SessionKind::Normal && which != self.info.target.as_deref() {
            return;
        }
        let max = self.settings.discovery_bytes_max as usize;
        self.settings.directory.discover(
            &self.info.initiator,
            self.info.local,
            which,
            &mut |name, portals, tag| {
                list_target(name, portals, tag, max, reply);
            },
        );
    }
}

/// Appends one target and its portals, if it fits.
fn list_target(name: &str, portals: &[String], tag: u16, max: usize, reply: &mut Builder) {
    const OVERHEAD: usize = 24;
    let len = portals.iter().fold(name.len() + OVERHEAD, |sum, portal| sum + portal.len() + OVERHEAD);
    let legal = is_value(name) && portals.iter().all(|portal| is_value(portal) && portal.len() <= 255);
    if !legal || reply.len().saturating_add(len) > max {
        return;
    }
    reply.push("TargetName", name);
    for portal in portals {
        reply.push("TargetAddress", format_args!("{portal},{tag}"));
    }
}

/// Keys that may be negotiated in a login only (RFC 7143 13, "Use: LO" and "IO").
fn is_login_key(key: &str) -> bool {
    const KEYS: &[&str] = &[
        "AuthMethod",
        "DataDigest",
        "DataPDUInOrder",
        "DataSequenceInOrder",
        "DefaultTime2Retain",
        "DefaultTime2Wait",
        "ErrorRecoveryLevel",
        "FirstBurstLength",
        "HeaderDigest",
        "ImmediateData",
        "InitialR2T",
        "InitiatorName",
        "MaxBurstLength",
        "MaxConnections",
        "MaxOutstandingR2T",
        "SessionType",
        "TargetName",
        "TargetPortalGroupTag",
        "TaskReporting",
        "iSCSIProtocolLevel",
    ];
    KEYS.binary_search(&key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_keys_are_sorted_for_the_search() {
        for key in ["AuthMethod", "MaxBurstLength", "TaskReporting", "iSCSIProtocolLevel"] {
            assert!(is_login_key(key), "{key}");
        }
        assert!(!is_login_key("X-com.example"));
    }

    #[test]
    fn a_list_of_targets_is_bounded() {
        let mut reply = Builder::new();
        for number in 0..1000 {
            list_target(
                &format!("iqn.2026-01.example:{number}"),
                &["192.0.2.1:3260".into()],
                1,
                1024,
                &mut reply,
            );
        }
        assert!(reply.len() <= 1024 && reply.len() > 800);
        assert!(
            reply
                .as_bytes()
                .starts_with(b"TargetName=iqn.2026-01.example:0\0TargetAddress=192.0.2.1:3260,1\0")
        );
    }
}
