//! Logging in. RFC 7143 6 and 11.12.

use super::frame::{Framer, Header, encode, encode_keys, parse_keys};
use super::{Initiator, NO_TAG, Negotiated, Report, SessionState, ViolationKind, Window};

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
const TRANSIT: u8 = 0x80;
const CONTINUE: u8 = 0x40;

/// How far a login has come.
#[derive(Clone, Debug, Default)]
pub(super) struct LoginStep {
    stage: u8,
    tag: u32,
    /// Responses so far.
    responses: u32,
    /// Whether the operational keys were sent.
    offered: bool,
    /// Every key of the target.
    keys: Vec<(String, String)>,
    /// Text of responses with the C bit, to go before the next one's.
    partial: Vec<u8>,
}

impl Initiator {
    pub(super) fn begin_login(&mut self) {
        self.state = SessionState::Login;
        self.negotiated = Negotiated::offered(&self.config);
        self.framer = Framer::new();
        self.window = None;
        self.exp_stat_sn = 0;
        self.next_tag = self.next_tag.wrapping_add(1) % NO_TAG;
        let stage = if self.config.security_stage { SECURITY } else { OPERATIONAL };
        self.step = LoginStep { stage, tag: self.next_tag, ..LoginStep::default() };
        let mut keys = vec![("InitiatorName".to_owned(), self.config.name.clone())];
        match &self.config.target {
            Some(target) => {
                keys.push(("SessionType".to_owned(), "Normal".to_owned()));
                keys.push(("TargetName".to_owned(), target.clone()));
            }
            None => keys.push(("SessionType".to_owned(), "Discovery".to_owned())),
        }
        keys.push(("AuthMethod".to_owned(), "None".to_owned()));
        if !self.config.security_stage {
            keys.pop();
        }
        self.request(keys);
        self.flush();
    }

    /// Sends the next login request of the present stage, which it asks to leave.
    fn request(&mut self, mut keys: Vec<(String, String)>) {
        let next = if self.step.stage == SECURITY { OPERATIONAL } else { FULL_FEATURE };
        if self.step.stage == OPERATIONAL && !self.step.offered {
            self.step.offered = true;
            keys.extend(self.config.operational_keys());
        }
        let mut header = Header::new(0x43, TRANSIT | self.step.stage << 2 | next, self.step.tag);
        header.0[8..14].copy_from_slice(&self.config.isid);
        header.set(24, self.cmd_sn);
        header.set(28, self.exp_stat_sn);
        let pdu = encode(header, &encode_keys(&keys), false, false);
        self.queue(&pdu);
    }

    pub(super) fn receive_login(&mut self, header: &Header, data: &[u8]) {
        let (class, detail) = (header.0[36], header.0[37]);
        if !self.check_login(header, class) {
            return self.reset();
        }
        self.step.responses += 1;
        self.exp_stat_sn = header.word(24).wrapping_add(1);
        if class != 0 {
            let keys = parse_keys(data).unwrap_or_default();
            self.reports.push(Report::LoginFailed { class, detail, keys });
            return self.close_quietly();
        }
        self.step.partial.extend_from_slice(data);
        if header.flags() & CONTINUE != 0 {
            let mut request = Header::new(0x43, self.step.stage << 2, self.step.tag);
            request.0[8..14].copy_from_slice(&self.config.isid);
            request.set(24, self.cmd_sn);
            request.set(28, self.exp_stat_sn);
            let pdu = encode(request, &[], false, false);
            return self.queue(&pdu);
        }
        let text = std::mem::take(&mut self.step.partial);
        self.take_keys(&text);
        if header.flags() & TRANSIT == 0 {
            return self.request(Vec::new());
        }
        match header.flags() & 3 {
            FULL_FEATURE => self.enter_full_feature(header),
            OPERATIONAL if self.step.stage == SECURITY => {
                self.step.stage = OPERATIONAL;
                self.request(Vec::new());
            }
            stage => {
                self.violation(
                    ViolationKind::Login,
                    format!("a transit to stage {stage} that nobody asked for"),
                );
                self.reset();
            }
        }
    }

    fn check_login(&mut self, header: &Header, class: u8) -> bool {
        use ViolationKind::{Format, Login, StatSn};
        let opcode = header.opcode();
        if !self.check(opcode == 0x23, Format, || format!("opcode {opcode:#x} during login")) {
            return false;
        }
        let stage = header.flags() >> 2 & 3;
        let (wanted, first) = (self.step.stage, self.step.responses == 0);
        let (stat_sn, expected) = (header.word(24), self.exp_stat_sn);
        let (tag, isid) = (self.step.tag, self.config.isid);
        self.check(header.tag() == tag, Login, || format!("tag {:#x} answered", header.tag()));
        self.check(header.0[8..14] == isid, Login, || "another ISID came back".to_owned());
        self.check(class != 0 || stage == wanted, Login, || format!("stage {stage} in stage {wanted}"));
        self.check(header.0[3] == 0, Login, || format!("active version {}", header.0[3]));
        // StatSN means nothing in a refusal (RFC 7143 11.13.4).
        self.check(first || class != 0 || stat_sn == expected, StatSn, || {
            format!("StatSN {stat_sn} where {expected} is next")
        });
        if class == 0 {
            self.see_window(header);
        }
        true
    }

    fn take_keys(&mut self, text: &[u8]) {
        let Some(keys) = parse_keys(text) else {
            return self.violation(ViolationKind::Key, "text that is no key=value");
        };
        for (key, value) in keys {
            if self.step.keys.iter().any(|(seen, _)| *seen == key) {
                self.violation(ViolationKind::Key, format!("{key} came twice"));
            }
            if let Err(detail) = self.negotiated.apply(&self.config, &key, &value) {
                self.violation(ViolationKind::Key, detail);
            }
            self.step.keys.push((key, value));
        }
    }

    fn enter_full_feature(&mut self, header: &Header) {
        self.tsih = header.half(14);
        let tsih = self.tsih;
        self.check(tsih != 0, ViolationKind::Login, || "TSIH 0 in the last login response".to_owned());
        let keys = std::mem::take(&mut self.step.keys);
        let answered = |wanted: &str| keys.iter().any(|(key, _)| key == wanted);
        let declared = ["MaxRecvDataSegmentLength"];
        let silent: Vec<String> = self
            .config
            .operational_keys()
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| !declared.contains(&key.as_str()) && !answered(key))
            .collect();
        for key in silent {
            self.violation(ViolationKind::Key, format!("{key} was not answered"));
        }
        if self.config.target.is_some() && !answered("TargetPortalGroupTag") {
            self.violation(ViolationKind::Key, "no TargetPortalGroupTag");
        }
        self.framer.header_digest = self.negotiated.header_digest;
        self.framer.data_digest = self.negotiated.data_digest;
        self.framer.data_max = self.config.max_recv_data_segment_length as usize;
        self.state = SessionState::FullFeature;
        self.reports.push(Report::LoggedIn { tsih, keys });
    }

    /// Takes the target's window from a response; it must never move back.
    pub(super) fn see_window(&mut self, header: &Header) {
        let seen = Window { exp_cmd_sn: header.word(28), max_cmd_sn: header.word(32) };
        let (Window { exp_cmd_sn, max_cmd_sn }, next) = (seen, self.cmd_sn);
        let right = !super::before(next, exp_cmd_sn)
            && !super::before(max_cmd_sn, exp_cmd_sn.wrapping_sub(1))
            && self.window.is_none_or(|last| {
                !super::before(exp_cmd_sn, last.exp_cmd_sn) && !super::before(max_cmd_sn, last.max_cmd_sn)
            });
        let last = self.window;
        self.check(right, ViolationKind::CmdWindow, || format!("{seen:?} after {last:?}, next CmdSN {next}"));
        self.window = Some(seen);
    }
}
