//! The login: the security stage without authentication, then the operational stage (RFC 7143 6.3).

use super::negotiation;
use super::{Phase, Session, Signal};
use crate::outbox::Data;
use crate::reason::{LoginRefused, Reason};
use stampede_wire::encode::Digests;
use stampede_wire::pdu::{LoginRequest, LoginResponse, LoginStatus, LoginStep, Stage};
use stampede_wire::text::{Builder, Pairs};
use stampede_wire::{Bhs, Tsih};

/// The tag of the login's PDUs.
const LOGIN_TAG: u32 = 0;
/// PDUs that a login may take: a target that never comes to an end is not worth more.
const REQUESTS_MAX: u8 = 32;
/// Bytes of text that one answer may have.
const TEXT_MAX: usize = 64 * 1024;

/// A login under way.
#[derive(Debug)]
pub(super) struct Login {
    stage: Stage,
    /// The answer's text so far; it may go on in further PDUs.
    text: Vec<u8>,
    requests: u8,
    /// The first answer sets where StatSN begins.
    answered: bool,
}

impl Login {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Security, text: Vec::new(), requests: 0, answered: false }
    }
}

impl Session {
    /// Sends the first request.
    pub(super) fn begin_login(&mut self) -> Result<(), Reason> {
        let mut text = Builder::new();
        text.push("InitiatorName", &self.config.initiator_name);
        text.push("TargetName", &self.config.target_name);
        text.push("SessionType", "Normal");
        if self.config.security_stage {
            text.push("AuthMethod", "None");
            return self.login_request(
                Stage::Security,
                LoginStep::Transit(Stage::Operational),
                text.as_bytes(),
            );
        }
        negotiation::offer(&mut text, &self.config);
        self.login_request(Stage::Operational, LoginStep::Transit(Stage::FullFeature), text.as_bytes())
    }

    fn login_request(&mut self, stage: Stage, step: LoginStep, text: &[u8]) -> Result<(), Reason> {
        if let Phase::Login(login) = &mut self.phase {
            login.stage = stage;
            login.requests += 1;
            if login.requests > REQUESTS_MAX {
                return Err(Reason::Protocol("a login that does not come to an end"));
            }
        }
        let pdu = LoginRequest::new(self.config.isid, Tsih::NEW, 0, LOGIN_TAG, stage, step, self.sns());
        Ok(self.outbox.push(Bhs::from(pdu), Data::Copied(text))?)
    }

    /// The answer to a request, whose text is in `segment`.
    pub(super) fn login_response(
        &mut self,
        response: &LoginResponse,
        sink: &mut impl FnMut(Signal<'_>),
    ) -> Result<(), Reason> {
        let Phase::Login(login) = &mut self.phase else {
            return Err(Reason::Protocol("a Login Response after the login"));
        };
        if login.text.len() + self.segment.len() > TEXT_MAX {
            return Err(Reason::Protocol("a login text without end"));
        }
        login.text.extend_from_slice(&self.segment);
        if response.status() != Ok(LoginStatus::Success) {
            return Err(refused(response, &login.text));
        }
        if login.answered && response.stat_sn() != self.exp_stat_sn {
            return Err(Reason::Protocol("a StatSN in the login that is not the next one"));
        }
        login.answered = true;
        let stage = login.stage;
        self.exp_stat_sn = response.stat_sn().next();
        if self.max_cmd_sn.lt(response.max_cmd_sn()) {
            self.max_cmd_sn = response.max_cmd_sn();
        }
        if response.continues() {
            return self.login_request(stage, LoginStep::Stay, &[]);
        }
        let text = std::mem::take(&mut login.text);
        self.take_answers(&text)?;
        match (response.transit(), response.next_stage()) {
            (false, _) => self.login_request(stage, LoginStep::Transit(following(stage)), &[]),
            (true, Ok(Stage::Operational)) if stage == Stage::Security => {
                sink(Signal::SecurityDone);
                self.begin_operational()
            }
            (true, Ok(Stage::FullFeature)) if stage == Stage::Operational => self.logged_in(sink),
            _ => Err(Reason::Protocol("a login that moves to a stage that was not asked for")),
        }
    }

    fn take_answers(&mut self, text: &[u8]) -> Result<(), Reason> {
        let pairs = Pairs::parse(text).map_err(|_| Reason::Protocol("a login text that is no key=value"))?;
        for (key, value) in pairs {
            negotiation::apply(&mut self.negotiated, &self.config, key, value)?;
        }
        Ok(())
    }

    fn begin_operational(&mut self) -> Result<(), Reason> {
        let mut text = Builder::new();
        negotiation::offer(&mut text, &self.config);
        self.login_request(Stage::Operational, LoginStep::Transit(Stage::FullFeature), text.as_bytes())
    }

    fn logged_in(&mut self, sink: &mut impl FnMut(Signal<'_>)) -> Result<(), Reason> {
        for (wanted, agreed, key) in [
            (self.config.header_digest, self.negotiated.header_digest, "HeaderDigest"),
            (self.config.data_digest, self.negotiated.data_digest, "DataDigest"),
        ] {
            if wanted && !agreed {
                return Err(Reason::NoDigest(key));
            }
        }
        let (header, data) = (self.negotiated.header_digest, self.negotiated.data_digest);
        self.framer.set_digests(header, data);
        self.framer.set_max_data_segment(self.config.max_recv_data_segment_length);
        self.outbox.set_digests(Digests { header, data });
        self.phase = Phase::FullFeature;
        sink(Signal::LoggedIn);
        Ok(())
    }
}

fn following(stage: Stage) -> Stage {
    if stage == Stage::Security { Stage::Operational } else { Stage::FullFeature }
}

fn refused(response: &LoginResponse, text: &[u8]) -> Reason {
    let address = Pairs::parse(text).ok().and_then(|mut pairs| {
        pairs.find(|(key, _)| *key == "TargetAddress").map(|(_, address)| address.to_owned())
    });
    let status = response.status().map_or_else(|code| code, u16::from);
    Reason::Refused(LoginRefused { status, address })
}
