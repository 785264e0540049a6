//! The security stage: which method proves the initiator's name, and whether it has (RFC 7143 6.3.2, 12.1).

use stampede_wire::text::Builder;

use super::{
    chap::{Exchange, Keys},
    negotiation::list_has,
};
use crate::{Authentication, LoginStatus};

/// What a login must prove and has proven.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// `None`: nothing need be proven.
    exchange: Option<Exchange>,
    /// AuthMethod was offered.
    offered: bool,
}

impl Security {
    pub(super) fn new(authentication: Authentication) -> Self {
        let exchange = match authentication {
            Authentication::None => None,
            Authentication::Chap(policy) => Some(Exchange::new(policy)),
        };
        Self { exchange, offered: false }
    }

    /// Nothing is left to prove.
    pub(super) fn is_over(&self) -> bool {
        self.exchange.as_ref().is_none_or(|exchange| exchange.user().is_some())
    }

    /// The CHAP name that was proven.
    pub(super) fn user(&self) -> Option<&str> {
        self.exchange.as_ref()?.user()
    }

    /// The CHAP name that was claimed, whether or not it was proven.
    pub(super) fn claimed(&self) -> Option<&str> {
        self.exchange.as_ref()?.claimed()
    }

    /// A login that begins after the security stage has proven nothing.
    pub(super) fn check_skipped(&self) -> Result<(), LoginStatus> {
        if self.is_over() { Ok(()) } else { Err(LoginStatus::AuthenticationFailure) }
    }

    /// An initiator that wants to leave the stage without having offered a method will not prove anything.
    pub(super) fn check_transit(&self) -> Result<(), LoginStatus> {
        match &self.exchange {
            Some(exchange) if exchange.is_untouched() => Err(LoginStatus::AuthenticationFailure),
            _ => Ok(()),
        }
    }

    /// AuthMethod: a list without a method that we take ends the login. It is offered once.
    pub(super) fn agree(&mut self, offer: &str, reply: &mut Builder) -> Result<(), LoginStatus> {
        if std::mem::replace(&mut self.offered, true) {
            return Err(LoginStatus::InitiatorError);
        }
        let method = if self.exchange.is_some() { "CHAP" } else { "None" };
        if !list_has(offer, method) {
            return Err(LoginStatus::AuthenticationFailure);
        }
        reply.push("AuthMethod", method);
        if let Some(exchange) = &mut self.exchange {
            exchange.agree();
        }
        Ok(())
    }

    /// The CHAP keys of a whole text, which has none where CHAP is not under way.
    pub(super) fn step(
        &mut self,
        in_security: bool,
        keys: &Keys<'_>,
        initiator: &str,
        reply: &mut Builder,
    ) -> Result<(), LoginStatus> {
        match &mut self.exchange {
            Some(exchange) if in_security => exchange.step(keys, initiator, reply),
            _ if keys.is_empty() => Ok(()),
            _ => Err(LoginStatus::InitiatorError),
        }
    }
}
