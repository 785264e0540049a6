//! CHAP: an initiator proves that it knows a secret, and, if it wants, so do we (RFC 7143 12.1.3, RFC 1994).
//!
//! ```text
//!   state         │ text from the initiator                  │ answer                        │ next
//!  ───────────────┼──────────────────────────────────────────┼───────────────────────────────┼──────────────
//!   Wanted        │ AuthMethod=..,CHAP,..                    │ AuthMethod=CHAP               │ Agreed
//!                 │ AuthMethod without CHAP, or T without it │ 0201                          │
//!   Agreed        │ CHAP_A=a,b,..                            │ CHAP_A=a CHAP_I=i CHAP_C=c    │ Challenged
//!                 │ CHAP_A without one that we take          │ 0201                          │
//!   Challenged    │ CHAP_N CHAP_R                            │ nothing                       │ Authenticated
//!                 │ CHAP_N CHAP_R CHAP_I CHAP_C              │ CHAP_N CHAP_R                 │ Authenticated
//!                 │ the same, wrong or incomplete            │ 0201                          │
//!   any           │ a key of another step, or twice          │ 0200                          │
//! ```
//!
//! An unknown name and a wrong secret get the same answer after the same work. Each login has a challenge of its own,
//! so a recorded response is worth nothing. No user has the secret by which we prove ourselves ([`ChapPolicy::new`]
//! refuses that), so a response that we could have given is never right (RFC 7143 9.2.1). A T bit before the end of the exchange is not granted.

mod algorithm;
mod policy;
mod secret;

use std::{fmt, sync::Arc};

use stampede_wire::text::{
    Builder,
    value::{binary, list, number_in, to_hex},
};

pub use self::{
    algorithm::{ChapAlgorithm, ChapResponse},
    policy::{
        CHAP_NAME_MAX, ChapPolicy, ChapPolicyError, ChapSelf, ChapUser, Entropy, NoEntropy, is_chap_name,
    },
    secret::{SECRET_MAX, SECRET_MIN, Secret, SecretError},
};
use crate::LoginStatus;

/// The longest CHAP_C or CHAP_R, bytes once decoded (RFC 7143 12.1.3).
const BINARY_MAX: usize = 1024;
/// The shortest challenge that we send, bytes.
const CHALLENGE_MIN: usize = 16;

/// Characters of a claimed name that are kept.
const CLAIM_MAX: usize = 64;

/// The CHAP keys of one text, each at most once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys<'a> {
    algorithms: Option<&'a str>,
    identifier: Option<&'a str>,
    challenge: Option<&'a str>,
    name: Option<&'a str>,
    response: Option<&'a str>,
}

impl<'a> Keys<'a> {
    /// Takes a key; `false` when it is none of CHAP's.
    pub(super) fn take(&mut self, key: &str, value: &'a str) -> Result<bool, LoginStatus> {
        let place = match key {
            "CHAP_A" => &mut self.algorithms,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            _ => return Ok(false),
        };
        match place.replace(value) {
            None => Ok(true),
            Some(_) => Err(LoginStatus::InitiatorError),
        }
    }

    /// Whether this key is one of CHAP's.
    pub(super) fn has(key: &str) -> bool {
        matches!(key, "CHAP_A" | "CHAP_I" | "CHAP_C" | "CHAP_N" | "CHAP_R")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.algorithms.is_none() && self.is_without_answer()
    }

    fn is_without_answer(&self) -> bool {
        [self.identifier, self.challenge, self.name, self.response].iter().all(Option::is_none)
    }
}

/// The exchange of one login.
#[derive(Debug)]
pub(super) struct Exchange {
    policy: Arc<ChapPolicy>,
    state: State,
    /// The CHAP name that was claimed, for the log.
    claimed: Option<String>,
}

/// How far it has come; see the module's table.
enum State {
    Wanted,
    Agreed,
    Challenged { algorithm: ChapAlgorithm, identifier: u8, challenge: Vec<u8> },
    Authenticated { user: String },
}

/// Challenges are no secrets, but nobody needs them in a log.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wanted => "Wanted",
            Self::Agreed => "Agreed",
            Self::Challenged { .. } => "Challenged",
            Self::Authenticated { .. } => "Authenticated",
        })
    }
}

impl Exchange {
    pub(super) fn new(policy: Arc<ChapPolicy>) -> Self {
        Self { policy, state: State::Wanted, claimed: None }
    }

    /// CHAP was offered as a method: its first step is next.
    pub(super) fn agree(&mut self) {
        self.state = State::Agreed;
    }

    /// The initiator has not even been told that CHAP is wanted.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.state, State::Wanted)
    }

    /// The CHAP name that was proven.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.state {
            State::Authenticated { user } => Some(user),
            _ => None,
        }
    }

    /// The CHAP name that was claimed, cut to a legal length; it may be anything.
    pub(super) fn claimed(&self) -> Option<&str> {
        self.claimed.as_deref()
    }

    /// Judges the CHAP keys of a whole text.
    pub(super) fn step(
        &mut self,
        keys: &Keys<'_>,
        initiator: &str,
        reply: &mut Builder,
    ) -> Result<(), LoginStatus> {
        match (&self.state, keys.algorithms) {
            (State::Wanted | State::Authenticated { .. }, _) if keys.is_empty() => Ok(()),
            (State::Agreed, Some(offer)) if keys.is_without_answer() => self.challenge(offer, reply),
            (State::Challenged { .. }, None) => self.judge(keys, initiator, reply),
            _ => Err(LoginStatus::InitiatorError),
        }
    }

    /// CHAP_A came: chooses, and challenges.
    fn challenge(&mut self, offer: &str, reply: &mut Builder) -> Result<(), LoginStatus> {
        let items = list(offer).ok_or(LoginStatus::AuthenticationFailure)?;
        let offers = |algorithm: ChapAlgorithm| {
            let number = u64::from(algorithm.number());
            items.clone().any(|item| number_in(item, number..=number).is_some())
        };
        let algorithm = self.policy.choose(offers).ok_or(LoginStatus::AuthenticationFailure)?;
        let mut random = vec![0; 1 + algorithm.digest_len().max(CHALLENGE_MIN)];
        self.policy.fill(&mut random).map_err(|_| LoginStatus::TargetError)?;
        let (identifier, challenge) = (random[0], random.split_off(1));
        reply.push("CHAP_A", algorithm.number());
        reply.push("CHAP_I", identifier);
        // Hexadecimal is what every initiator reads.
        reply.push("CHAP_C", to_hex(&challenge));
        self.state = State::Challenged { algorithm, identifier, challenge };
        Ok(())
    }

    /// The answer came: CHAP_N and CHAP_R, and perhaps a challenge for us.
    fn judge(&mut self, keys: &Keys<'_>, initiator: &str, reply: &mut Builder) -> Result<(), LoginStatus> {
        let State::Challenged { algorithm, identifier, challenge } = &self.state else {
            return Err(LoginStatus::InitiatorError);
        };
        let (Some(name), Some(response)) = (keys.name, keys.response) else {
            return Err(LoginStatus::AuthenticationFailure);
        };
        self.claimed = Some(name.chars().take(CLAIM_MAX).collect());
        let response = binary(response, BINARY_MAX).unwrap_or_default();
        let user = self.policy.user(name);
        // An unknown user costs the same work: its response is compared with that of our stand-in.
        let stand_in = Secret::stand_in();
        let secret = user.map_or(&stand_in, |user| &user.secret);
        let right = algorithm.respond(*identifier, secret, challenge).is(&response);
        let may_come = user.is_some_and(|user| {
            user.initiators.as_ref().is_none_or(|initiators| initiators.contains(initiator))
        });
        if !right || !may_come {
            return Err(LoginStatus::AuthenticationFailure);
        }
        match (keys.identifier, keys.challenge) {
            (None, None) => {}
            (Some(asked_identifier), Some(asked)) => {
                let asked_identifier =
                    number_in(asked_identifier, 0..=255).and_then(|n| u8::try_from(n).ok());
                let asked_identifier = asked_identifier.ok_or(LoginStatus::AuthenticationFailure)?;
                let asked = binary(asked, BINARY_MAX).map_err(|_| LoginStatus::AuthenticationFailure)?;
                // RFC 7143 9.2.1: our own challenge must not come back as the initiator's.
                if asked == *challenge {
                    return Err(LoginStatus::AuthenticationFailure);
                }
                let own = self.policy.own().ok_or(LoginStatus::AuthenticationFailure)?;
                reply.push("CHAP_N", &own.name);
                let proof = algorithm.respond(asked_identifier, &own.secret, &asked);
                reply.push("CHAP_R", to_hex(proof.bytes()));
            }
            _ => return Err(LoginStatus::AuthenticationFailure),
        }
        self.state = State::Authenticated { user: name.to_owned() };
        Ok(())
    }
}
