//! Logging in, well or badly.

use super::Conn;
use crate::failure::{Failure, Outcome};
use crate::pdu::Raw;
use crate::site::DATA;
use crate::{ensure, ensure_eq};
use stampede_wire::encode::Digests;
use stampede_wire::pdu::{
    InitiatorSns, LoginRequest, LoginResponse, LoginStatus, LoginStep, Pdu as _, Stage,
};
use stampede_wire::{Isid, Sn, Tsih};

/// The tag of every login.
const LOGIN_TAG: u32 = 0x4c4f_4731;

/// `key=value` pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub Vec<(String, String)>);

impl Keys {
    /// These pairs.
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    /// The pairs of a text segment.
    ///
    /// # Errors
    /// It is not one: no NUL at its end, no `=`, no UTF-8.
    pub fn parse(text: &[u8]) -> Outcome<Self> {
        ensure!(text.is_empty() || text.ends_with(&[0]), "a text that does not end with a NUL");
        let mut pairs = Vec::new();
        for pair in text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            let pair = std::str::from_utf8(pair).map_err(|_| Failure("a text that is not UTF-8".into()))?;
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Failure(format!("no `=` in the pair `{pair}`")))?;
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(pairs))
    }

    /// As a text segment.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect()
    }

    /// The value of a key, if it is there.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// How often a key is there.
    pub fn count(&self, key: &str) -> usize {
        self.0.iter().filter(|(name, _)| name == key).count()
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// What a login says.
#[derive(Clone, Debug)]
pub struct LoginText {
    /// InitiatorName.
    pub initiator: String,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH: 0 for a new session.
    pub tsih: u16,
    /// CID.
    pub cid: u16,
    /// CmdSN of the login, and of the session's first command.
    pub cmd_sn: u32,
    /// The pairs of the first request.
    pub keys: Keys,
}

impl LoginText {
    /// A normal session with a target, for an initiator of this number.
    pub fn normal(target: &str, number: u8) -> Self {
        let initiator = format!("iqn.2026-11.example:host{number}");
        let keys =
            Keys::new(&[("InitiatorName", &initiator), ("TargetName", target), ("SessionType", "Normal")]);
        Self { initiator, isid: [0, 2, 0x3d, 0, 0, number], tsih: 0, cid: 0, cmd_sn: 1, keys }
    }

    /// A normal session with the ordinary target.
    pub fn plain() -> Self {
        Self::normal(DATA, 1)
    }

    /// A discovery session.
    pub fn discovery() -> Self {
        let mut text = Self::plain();
        text.keys.0.retain(|(key, _)| key != "TargetName");
        text.with("SessionType", "Discovery")
    }

    /// With this pair, instead of one of the same key that is there.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.keys.0.retain(|(name, _)| name != key);
        self.keys.0.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With these pairs too.
    #[must_use]
    pub fn with_all(mut self, pairs: &[(&str, &str)]) -> Self {
        for (key, value) in pairs {
            self = self.with(key, value);
        }
        self
    }

    /// Without this key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.keys.0.retain(|(name, _)| name != key);
        self
    }

    /// The header of a Login Request.
    pub fn request(&self, current: Stage, step: LoginStep, exp_stat_sn: u32) -> LoginRequest {
        let sns = InitiatorSns { cmd_sn: Sn(self.cmd_sn), exp_stat_sn: Sn(exp_stat_sn) };
        LoginRequest::new(Isid(self.isid), Tsih(self.tsih), self.cid, LOGIN_TAG, current, step, sns)
    }
}

/// A step of a login.
#[derive(Clone, Debug)]
pub struct Step {
    /// The response.
    pub response: Raw,
    /// Its text.
    pub keys: Keys,
}

impl Step {
    /// Status-Class and Status-Detail.
    pub fn status(&self) -> u16 {
        u16::from_be_bytes([self.response.byte(36), self.response.byte(37)])
    }

    /// The response, typed.
    pub fn header(&self) -> LoginResponse {
        *LoginResponse::from_bhs(&self.response.bhs)
    }
}

impl Conn {
    /// Sends a Login Request with these pairs and hears the response.
    ///
    /// # Errors
    /// No Login Response comes, or its text is none.
    pub fn login_step(&mut self, request: LoginRequest, keys: &Keys) -> Outcome<Step> {
        self.send(request, &keys.to_bytes());
        self.login_response(&request)
    }

    /// Hears the response to a Login Request. What every one must repeat of its request is checked.
    ///
    /// # Errors
    /// It is none.
    pub fn login_response(&mut self, request: &LoginRequest) -> Outcome<Step> {
        let response = self.expect::<LoginResponse>()?;
        let keys = Keys::parse(&response.data)?;
        let step = Step { response, keys };
        let header = step.header();
        ensure_eq!(header.initiator_task_tag(), request.initiator_task_tag(), "the Login Response's tag");
        ensure_eq!(header.isid(), request.isid(), "the Login Response's ISID");
        ensure_eq!((header.version_max(), header.version_active()), (0, 0), "the Login Response's versions");
        ensure_eq!(header.current_stage(), request.current_stage(), "CSG of the Login Response");
        Ok(step)
    }

    /// Logs in by one request from the operational stage.
    ///
    /// # Errors
    /// It is refused, or goes otherwise.
    pub fn log_in(&mut self, text: &LoginText) -> Outcome<Step> {
        let step = self.try_log_in(text)?;
        ensure!(step.status() == 0, "the login is refused with {:04x}", step.status());
        Ok(step)
    }

    /// Logs in by one request, and says how that ended.
    ///
    /// # Errors
    /// There is no answer, or one that is none.
    pub fn try_log_in(&mut self, text: &LoginText) -> Outcome<Step> {
        let request = text.request(Stage::Operational, LoginStep::Transit(Stage::FullFeature), 0);
        let step = self.login_step(request, &text.keys)?;
        if step.status() == 0 {
            self.enter(text, &step)?;
        }
        Ok(step)
    }

    /// The login is refused with this status, and the connection is closed.
    ///
    /// # Errors
    /// It is not.
    pub fn expect_refused(&mut self, text: &LoginText, status: LoginStatus) -> Outcome {
        let step = self.try_log_in(text)?;
        self.refused(&step, status)
    }

    /// This response refuses the login with this status, and the connection is closed.
    ///
    /// # Errors
    /// It does not.
    pub fn refused(&mut self, step: &Step, status: LoginStatus) -> Outcome {
        ensure!(
            step.status() == status as u16,
            "login status {:04x} instead of {:04x} ({status:?})",
            step.status(),
            status as u16
        );
        self.expect_closed()
    }

    /// The last response of a login has come: the full-feature phase begins.
    ///
    /// # Errors
    /// The response does not lead there.
    pub fn enter(&mut self, text: &LoginText, step: &Step) -> Outcome {
        let header = step.header();
        ensure!(
            header.transit() && header.next_stage() == Ok(Stage::FullFeature),
            "the login does not reach the full-feature phase: {:?}",
            step.response
        );
        self.tsih = header.tsih().0;
        ensure!(self.tsih != 0, "the last Login Response has no TSIH (RFC 7143 11.13.3)");
        self.isid = text.isid;
        self.cmd_sn = text.cmd_sn;
        let crc = |key| step.keys.find(key) == Some("CRC32C");
        self.stream.digests = Digests { header: crc("HeaderDigest"), data: crc("DataDigest") };
        let bytes =
            |keys: &Keys| keys.find("MaxRecvDataSegmentLength").and_then(|value| value.parse::<u32>().ok());
        self.declare_segment(bytes(&text.keys).unwrap_or(8192));
        self.target_segment = bytes(&step.keys).unwrap_or(8192);
        Ok(())
    }
}
