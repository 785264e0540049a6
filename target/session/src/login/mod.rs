//! The login phase (RFC 7143 6.3, 11.12, 11.13).
//!
//! ```text
//!             ┌─────────────┐ T, NSG=1  ┌─────────────┐ T, NSG=3
//!   CSG=0 ──► │  Security   │ ────────► │ Operational │ ────────► Ready (a decision, then the last response)
//!             └─────────────┘           └─────────────┘             ▲
//!                    └───────────────── T, NSG=3 ───────────────────┘
//!   CSG=1 ────────────────────────────────► begins here where no authentication is wanted
//! ```
//!
//! Text may be cut anywhere into PDUs with the C bit, in both directions: it is judged when it is whole. What must be
//! proven in the security stage is known as soon as the initiator has said who it is and what it wants; see [`chap`].

pub(crate) mod chap;
mod names;
mod negotiation;
mod reply;
mod security;

use stampede_wire::{
    Isid, Tsih,
    pdu::{self, LoginResponse, LoginStep, Pdu, Stage, VERSION},
    text::{Builder, Pairs, is_value},
};

pub(crate) use self::reply::Reply;
use self::{
    names::Names,
    negotiation::{Answer, Negotiation},
    security::Security,
};
use crate::{
    Applicant, Claim, LoginStage, LoginStatus, OutData, Output, Parameters, Redirection, SessionKind,
    Settings,
    full_feature::Numbers,
    stage::{self, Traits},
};

/// MaxRecvDataSegmentLength during login (RFC 7143 13.12: the default, until the full-feature phase).
const LOGIN_SEGMENT: u32 = 8192;

/// What a Login Request led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It was answered; the login goes on.
    Answered,
    /// Every key is agreed on: the last response is wanted from [`Login::finish`] or [`Login::refuse`].
    Ready,
    /// It was refused and answered so.
    Refused(LoginStatus),
    /// It was answered with another portal.
    Redirected,
}

/// Why a login ends here.
enum Stop {
    Refuse(LoginStatus),
    Redirect(Redirection),
}

impl From<LoginStatus> for Stop {
    fn from(status: LoginStatus) -> Self {
        Self::Refuse(status)
    }
}

/// A connection in the login phase.
#[derive(Debug, Default)]
pub(crate) struct Login {
    /// The first request: it says whose login this is, and what every later one must repeat.
    leading: Option<pdu::LoginRequest>,
    /// The last request: what is answered next.
    request: Option<pdu::LoginRequest>,
    numbers: Option<Numbers>,
    stage: Option<Stage>,
    text: Vec<u8>,
    reply: Reply,
    names: Names,
    negotiation: Negotiation,
    /// The first whole text was judged: it must name initiator and target.
    introduced: bool,
    /// Our own declarations are made.
    declared: bool,
    security: Security,
}

impl Login {
    /// Whether a Login Request has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.leading.is_some()
    }

    /// One complete Login Request with its payload.
    pub(crate) fn receive(
        &mut self,
        request: &pdu::LoginRequest,
        text: &[u8],
        settings: &Settings,
        out: &mut impl Output,
    ) -> Progress {
        match self.take(request, text, settings, out) {
            Ok(true) => Progress::Ready,
            Ok(false) => Progress::Answered,
            Err(Stop::Refuse(status)) => {
                self.request = Some(*request);
                self.refuse(status, out);
                Progress::Refused(status)
            }
            Err(Stop::Redirect(to)) => {
                self.redirect(&to, out);
                Progress::Redirected
            }
        }
    }

    /// `true` when the login is ready for its last response.
    fn take(
        &mut self,
        request: &pdu::LoginRequest,
        text: &[u8],
        settings: &Settings,
        out: &mut impl Output,
    ) -> Result<bool, Stop> {
        self.check_header(request, settings)?;
        self.request = Some(*request);
        if self.reply.is_under_way() {
            // RFC 7143 6.2: until the answer is complete, the initiator sends empty requests.
            if !text.is_empty() || request.continues() {
                return Err(LoginStatus::InitiatorError.into());
            }
            return Ok(self.answer(out));
        }
        if self.text.len().saturating_add(text.len()) > settings.text_bytes_max as usize {
            return Err(LoginStatus::InitiatorError.into());
        }
        self.text.extend_from_slice(text);
        self.reply = Reply::default();
        if !request.continues() {
            let text = std::mem::take(&mut self.text);
            self.reply = Reply::new(self.negotiate(&text, settings)?);
        }
        Ok(self.answer(out))
    }

    /// Judges what the header alone says (RFC 7143 11.12).
    fn check_header(&mut self, request: &pdu::LoginRequest, settings: &Settings) -> Result<(), LoginStatus> {
        if request.version_min() > VERSION {
            return Err(LoginStatus::UnsupportedVersion);
        }
        let current = request.current_stage().ok().filter(|stage| *stage != Stage::FullFeature);
        let current = current.ok_or(LoginStatus::InitiatorError)?;
        if request.transit() {
            let next = request.next_stage().map_err(|_| LoginStatus::InitiatorError)?;
            // T and C exclude each other; stages only go forward.
            if request.continues() || next <= current {
                return Err(LoginStatus::InitiatorError);
            }
        }
        match &self.leading {
            None => {
                self.leading = Some(*request);
                self.numbers = Some(Numbers::new(request.cmd_sn(), settings.command_window()));
                self.stage = Some(current);
            }
            Some(first) => {
                let same = first.isid() == request.isid()
                    && first.tsih() == request.tsih()
                    && first.cid() == request.cid()
                    && self.stage == Some(current);
                if !same {
                    return Err(LoginStatus::InvalidDuringLogin);
                }
            }
        }
        Ok(())
    }

    /// Judges a whole text and writes the answer.
    fn negotiate(&mut self, text: &[u8], settings: &Settings) -> Result<Vec<u8>, Stop> {
        let pairs = Pairs::parse(text).map_err(|_| LoginStatus::InitiatorError)?;
        let mut reply = Builder::new();
        self.negotiation.prepare(pairs.clone(), settings);
        let mut chap = chap::Keys::default();
        for (key, value) in pairs.clone() {
            let _ = self.names.take(key, value)? || chap.take(key, value)?;
        }
        let first = !std::mem::replace(&mut self.introduced, true);
        if first {
            self.introduce(settings)?;
        }
        let in_security = self.stage == Some(Stage::Security);
        self.security.step(in_security, &chap, self.names.initiator(), &mut reply)?;
        for (key, value) in pairs {
            if !Names::declares(key) && !chap::Keys::has(key) {
                self.answer_key(key, value, settings, &mut reply)?;
            }
        }
        if first && self.names.kind() == SessionKind::Normal {
            reply.push("TargetPortalGroupTag", settings.portal_group_tag);
        }
        if in_security && self.request.is_some_and(|request| request.transit()) {
            self.security.check_transit()?;
        }
        if self.stage == Some(Stage::Operational) && !self.declared {
            self.declared = true;
            let bytes = settings.recv_data_segment();
            self.negotiation.parameters.target_recv_data_segment = bytes;
            reply.push("MaxRecvDataSegmentLength", bytes);
        }
        Ok(reply.into_bytes())
    }

    /// The first text is whole: the initiator has said who it is and what it wants. A target that is elsewhere says so
    /// before anything is proven (RFC 7143 11.13.5); what must be proven is proven in the security stage.
    fn introduce(&mut self, settings: &Settings) -> Result<(), Stop> {
        let directory = &*settings.directory;
        self.names.check_said()?;
        let target = self.names.wanted();
        if let Some(elsewhere) = target.and_then(|target| directory.redirection(target)) {
            return Err(Stop::Redirect(elsewhere));
        }
        self.names.check(directory)?;
        let applicant = Applicant { initiator: self.names.initiator(), target };
        self.security = Security::new(directory.authentication(&applicant));
        if self.stage != Some(Stage::Security) {
            self.security.check_skipped()?;
        }
        Ok(())
    }

    fn answer_key(
        &mut self,
        key: &str,
        value: &str,
        settings: &Settings,
        reply: &mut Builder,
    ) -> Result<(), LoginStatus> {
        if key == "AuthMethod" {
            if self.stage != Some(Stage::Security) {
                return Err(LoginStatus::InitiatorError);
            }
            return self.security.agree(value, reply);
        }
        match self.negotiation.answer(key, value, settings).map_err(|_| LoginStatus::InitiatorError)? {
            Answer::Silence => {}
            // What `Pairs` let pass is a key name.
            Answer::Text(text) => drop(reply.push(key, text)),
            Answer::Number(number) => drop(reply.push(key, number)),
            Answer::Refuse => return Err(LoginStatus::InitiatorError),
        }
        Ok(())
    }

    /// Sends the next part of the answer; `true`, without sending, when it would be the last of the login.
    fn answer(&mut self, out: &mut impl Output) -> bool {
        let (Some(request), Some(stage)) = (self.request, self.stage) else { return false };
        let continues = !self.reply.fits(self.segment());
        let step = match request.next_stage() {
            _ if continues => LoginStep::Continue,
            // RFC 7143 6.3: the stage is left when both are ready, and we are once the proof is given.
            Ok(next) if request.transit() && self.security.is_over() => LoginStep::Transit(next),
            _ => LoginStep::Stay,
        };
        if step == LoginStep::Transit(Stage::FullFeature) {
            return true;
        }
        self.send(request.tsih(), stage, step, out);
        if let LoginStep::Transit(next) = step {
            self.stage = Some(next);
        }
        false
    }

    fn send(&mut self, tsih: Tsih, stage: Stage, step: LoginStep, out: &mut impl Output) {
        let (Some(request), max) = (self.request, self.segment()) else { return };
        let Some(sns) = self.numbers.as_mut().map(Numbers::status) else { return };
        let part = self.reply.next_part(max);
        let pdu = LoginResponse::new(request.isid(), tsih, request.initiator_task_tag(), stage, step, sns)
            .with_data_segment_len(part.bytes.len() as u32);
        out.send(pdu.bhs(), if part.bytes.is_empty() { OutData::None } else { OutData::Bytes(part.bytes) });
    }

    /// Bytes of text that one response may carry.
    fn segment(&self) -> usize {
        self.negotiation.parameters.initiator_recv_data_segment.min(LOGIN_SEGMENT) as usize
    }

    /// Sends the last response of a login that is ready. `None` when it was not.
    pub(crate) fn finish(mut self, tsih: u16, out: &mut impl Output) -> Option<Numbers> {
        let stage = self.stage?;
        self.send(Tsih(tsih), stage, LoginStep::Transit(Stage::FullFeature), out);
        self.numbers
    }

    /// Sends the response that ends the login.
    pub(crate) fn refuse(&self, status: LoginStatus, out: &mut impl Output) {
        let Some(request) = self.request else { return };
        let status = if status.class() < 2 { LoginStatus::TargetError } else { status };
        out.send(LoginResponse::refused(&request, status).bhs(), OutData::None);
    }

    /// Sends the response that ends the login here and points to another portal.
    pub(crate) fn redirect(&self, to: &Redirection, out: &mut impl Output) {
        let Some(request) = self.request else { return };
        if to.address.is_empty() || !is_value(&to.address) {
            return self.refuse(LoginStatus::TargetError, out);
        }
        let status = if to.permanent {
            LoginStatus::TargetMovedPermanently
        } else {
            LoginStatus::TargetMovedTemporarily
        };
        let mut text = Builder::new();
        text.push("TargetAddress", &to.address);
        let pdu = LoginResponse::refused(&request, status).with_data_segment_len(text.len() as u32);
        out.send(pdu.bhs(), OutData::Bytes(text.as_bytes()));
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The CHAP name that the initiator proved.
    pub(crate) fn user(&self) -> Option<&str> {
        self.security.user()
    }

    /// Who wanted what, for the log.
    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim {
            initiator: self.names.initiator(),
            target: self.names.wanted(),
            user: self.security.claimed(),
        }
    }

    /// What was agreed.
    pub(crate) fn parameters(&self) -> Parameters {
        self.negotiation.agreed()
    }

    /// ISID, TSIH and CID of the login.
    pub(crate) fn identity(&self) -> (Isid, u16, u16) {
        self.leading.map_or((Isid::default(), 0, 0), |first| (first.isid(), first.tsih().0, first.cid()))
    }

    /// The stage of boot, and the fingerprint that told it; the operator's word beats the fingerprint.
    pub(crate) fn boot_stage(&self, settings: &Settings) -> (LoginStage, &'static str) {
        let (stage, name) = stage::classify(&Traits {
            isid: self.identity().0,
            initiator: self.names.initiator(),
            initial_r2t: self.negotiation.offered_initial_r2t,
            immediate_data: self.negotiation.offered_immediate_data,
            markers: self.negotiation.offered_markers,
        });
        let ordered = self.names.target().and_then(|target| settings.directory.stage_override(target));
        (ordered.unwrap_or(stage), name)
    }
}
