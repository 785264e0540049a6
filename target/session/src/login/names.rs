//! Who logs in to what: the declarations of a login (RFC 7143 13.4 to 13.7, 13.21).

use crate::{Directory, LoginStatus, SessionKind};

/// The longest iSCSI name, bytes (RFC 7143 4.2.7.2).
const NAME_MAX: usize = 223;
/// The longest alias, bytes (RFC 7143 13.7).
const ALIAS_MAX: usize = 255;

/// What was declared so far; each at most once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    initiator: Option<String>,
    alias: Option<String>,
    target: Option<String>,
    kind: Option<SessionKind>,
}

impl Names {
    /// Takes a declaration; `false` when the key is none.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Result<bool, LoginStatus> {
        match key {
            "InitiatorName" => once(&mut self.initiator, name(value)?),
            "TargetName" => once(&mut self.target, name(value)?),
            "InitiatorAlias" if value.len() <= ALIAS_MAX => once(&mut self.alias, value.to_owned()),
            "InitiatorAlias" => Err(LoginStatus::InitiatorError),
            "SessionType" => once(
                &mut self.kind,
                match value {
                    "Normal" => SessionKind::Normal,
                    "Discovery" => SessionKind::Discovery,
                    _ => return Err(LoginStatus::SessionTypeNotSupported),
                },
            ),
            _ => return Ok(false),
        }?;
        Ok(true)
    }

    /// Whether this key is a declaration.
    pub(super) fn declares(key: &str) -> bool {
        matches!(key, "InitiatorName" | "TargetName" | "InitiatorAlias" | "SessionType")
    }

    /// Judges the first text of a login: it must say who, and to what (RFC 7143 6.3.1).
    pub(super) fn check_said(&self) -> Result<(), LoginStatus> {
        let said =
            self.initiator.is_some() && (self.kind() == SessionKind::Discovery || self.target.is_some());
        if said { Ok(()) } else { Err(LoginStatus::MissingParameter) }
    }

    /// Judges whether what is wanted is here.
    pub(super) fn check(&self, directory: &dyn Directory) -> Result<(), LoginStatus> {
        let here = self.wanted().is_none_or(|target| directory.contains(target));
        if here { Ok(()) } else { Err(LoginStatus::NotFound) }
    }

    /// The target of a normal session.
    pub(crate) fn wanted(&self) -> Option<&str> {
        self.target().filter(|_| self.kind() == SessionKind::Normal)
    }

    pub(crate) fn kind(&self) -> SessionKind {
        self.kind.unwrap_or(SessionKind::Normal)
    }

    /// InitiatorName; empty before it was declared.
    pub(crate) fn initiator(&self) -> &str {
        self.initiator.as_deref().unwrap_or_default()
    }

    pub(crate) fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }

    pub(crate) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), LoginStatus> {
    if place.is_some() {
        return Err(LoginStatus::InitiatorError);
    }
    *place = Some(value);
    Ok(())
}

/// An iSCSI name in its normal form, as far as ASCII goes (RFC 7143 4.2.7, RFC 3722): lower case, no blanks.
fn name(value: &str) -> Result<String, LoginStatus> {
    let legal = (1..=NAME_MAX).contains(&value.len())
        && !value.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, ',' | '/' | '='));
    if legal { Ok(value.to_ascii_lowercase()) } else { Err(LoginStatus::InitiatorError) }
}
