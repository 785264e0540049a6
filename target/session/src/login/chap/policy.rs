//! Who may log in by CHAP, and as whom we answer: one immutable snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{ChapAlgorithm, Secret};

/// The longest CHAP_N, bytes (RFC 7143 6.1: a text value).
pub const CHAP_NAME_MAX: usize = 255;

/// Where challenges come from.
pub trait Entropy {
    /// Fills `bytes` with random bytes that nobody can foretell. Must not block.
    ///
    /// # Errors
    /// There are none now: the login is refused with 0300.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The system has no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system has no random bytes")]
pub struct NoEntropy;

/// What is known of an initiator that may log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChapUser {
    /// What it must know.
    pub secret: Secret,
    /// The initiator names (ASCII letters lowered) it may come by; `None` for any. RFC 7143 12.1.3 leaves CHAP_N
    /// and InitiatorName apart, so only the operator can say who belongs to whom.
    pub initiators: Option<BTreeSet<String>>,
}

/// As whom we answer when an initiator wants proof of us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChapSelf {
    /// Our CHAP_N.
    pub name: String,
    /// What we must know.
    pub secret: Secret,
}

/// Why credentials cannot be used together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChapPolicyError {
    /// RFC 7143 9.2.1: one secret for both directions would let an attacker have us answer our own challenge.
    #[error(
        "user `{0}` has the secret by which the target proves itself: the two directions need different secrets"
    )]
    SecretSharedByDirections(String),
    /// A name that no CHAP_N can carry.
    #[error("`{0}` cannot be a CHAP name: 1 to {CHAP_NAME_MAX} bytes without control characters")]
    IllegalName(String),
    /// Nothing could be agreed on.
    #[error("there is no CHAP algorithm to choose from")]
    NoAlgorithm,
}

/// The credentials of one target, or of discovery. Immutable: shards share it, and a login keeps the one it began with.
pub struct ChapPolicy {
    users: BTreeMap<String, Arc<ChapUser>>,
    own: Option<Arc<ChapSelf>>,
    algorithms: Vec<ChapAlgorithm>,
    entropy: Arc<dyn Entropy + Send + Sync>,
}

impl ChapPolicy {
    /// A policy that lets `users` in, by their CHAP names. `own` is what an initiator gets that wants proof of us; without
    /// it, such an initiator is refused. Of the algorithms that an initiator offers, the first of `algorithms` is taken.
    ///
    /// # Errors
    /// See [`ChapPolicyError`].
    pub fn new(
        users: BTreeMap<String, Arc<ChapUser>>,
        own: Option<Arc<ChapSelf>>,
        algorithms: Vec<ChapAlgorithm>,
        entropy: Arc<dyn Entropy + Send + Sync>,
    ) -> Result<Self, ChapPolicyError> {
        if algorithms.is_empty() {
            return Err(ChapPolicyError::NoAlgorithm);
        }
        let names = users.keys().chain(own.as_ref().map(|own| &own.name));
        if let Some(name) = names.into_iter().find(|name| !is_chap_name(name)) {
            return Err(ChapPolicyError::IllegalName(name.clone()));
        }
        if let Some(own) = &own
            && let Some((name, _)) = users.iter().find(|(_, user)| user.secret == own.secret)
        {
            return Err(ChapPolicyError::SecretSharedByDirections(name.clone()));
        }
        Ok(Self { users, own, algorithms, entropy })
    }

    /// The user of this name.
    pub(super) fn user(&self, name: &str) -> Option<&ChapUser> {
        self.users.get(name).map(|user| &**user)
    }

    /// As whom we answer.
    pub(super) fn own(&self) -> Option<&ChapSelf> {
        self.own.as_deref()
    }

    /// The algorithm that we prefer among those offered.
    pub(super) fn choose(&self, offers: impl Fn(ChapAlgorithm) -> bool) -> Option<ChapAlgorithm> {
        self.algorithms.iter().copied().find(|algorithm| offers(*algorithm))
    }

    /// Random bytes.
    pub(super) fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.entropy.fill(bytes)
    }
}

impl fmt::Debug for ChapPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapPolicy")
            .field("users", &self.users.keys())
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// Whether a CHAP_N can carry this name.
#[must_use]
pub fn is_chap_name(name: &str) -> bool {
    (1..=CHAP_NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Entropy for Nothing {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
            Err(NoEntropy)
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    fn policy(user: &str, own: &str, algorithms: &[ChapAlgorithm]) -> Result<ChapPolicy, ChapPolicyError> {
        let user_entry = Arc::new(ChapUser { secret: secret("the user's secret"), initiators: None });
        let own = Arc::new(ChapSelf { name: "target".to_owned(), secret: secret(own) });
        let users = BTreeMap::from([(user.to_owned(), user_entry)]);
        ChapPolicy::new(users, Some(own), algorithms.to_vec(), Arc::new(Nothing))
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let all = &ChapAlgorithm::ALL;
        assert!(policy("user", "the target's secret", all).is_ok());
        assert_eq!(policy("user", "the target's secret", &[]).err(), Some(ChapPolicyError::NoAlgorithm));
        assert_eq!(
            policy("user", "the user's secret", all).err(),
            Some(ChapPolicyError::SecretSharedByDirections("user".to_owned()))
        );
        for name in ["", "a\nb", &"x".repeat(256)] {
            assert_eq!(
                policy(name, "the target's secret", all).err(),
                Some(ChapPolicyError::IllegalName(name.to_owned()))
            );
        }
    }

    #[test]
    fn debug_names_users_and_no_secret() {
        let text = format!("{:?}", policy("user", "the target's secret", &ChapAlgorithm::ALL).unwrap());
        assert!(text.contains("user") && !text.contains("secret"), "{text}");
    }
}
