//! The targets as logins and SendTargets see them: which there are, what an initiator must prove for them, and which are
//! elsewhere. An immutable snapshot, shared by all shards.

use crate::config::{AuthMethod, ChapConfig, Config, ConfigError, Origin, StageRule, iscsi_targets};
use stampede_session::{
    Applicant, Authentication, ChapPolicy, ChapSelf, ChapUser, Directory, Entropy, LoginStage, Redirection,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The one portal group.
const PORTAL_GROUP: u16 = 1;

/// All targets of a configuration. Everybody may see all of them.
#[derive(Debug)]
pub struct TargetDirectory {
    targets: BTreeMap<String, Entry>,
    discovery: Authentication,
    elsewhere: BTreeMap<String, Redirection>,
}

/// One target.
#[derive(Debug)]
struct Entry {
    /// The stage that the operator set for it.
    stage: Option<LoginStage>,
    authentication: Authentication,
}

impl TargetDirectory {
    /// The targets of a configuration. `entropy` is where challenges come from.
    ///
    /// # Errors
    /// Credentials that cannot be used together; checking the configuration has found them before.
    pub fn new(config: &Config, entropy: Arc<dyn Entropy + Send + Sync>) -> Result<Self, ConfigError> {
        let mut targets = BTreeMap::new();
        for target in iscsi_targets(&config.targets) {
            let names = target.luns.values().map(|at| config.targets[*at].name.as_str());
            let names: Vec<&str> = names.chain([target.iqn.as_str()]).collect();
            let counts = |chap: &ChapConfig| chap.targets.iter().any(|name| names.contains(&name.as_str()));
            let wanted = target.auth.unwrap_or(config.auth);
            let authentication = authentication(config, wanted, counts, &entropy)?;
            let stage = match target.stage {
                StageRule::Auto => None,
                StageRule::Firmware => Some(LoginStage::Firmware),
                StageRule::Os => Some(LoginStage::Os),
            };
            targets.insert(target.iqn.as_str().to_owned(), Entry { stage, authentication });
        }
        let discovery = authentication(config, config.discovery_auth, |chap| chap.discovery, &entropy)?;
        let elsewhere = config.redirects.iter().map(|redirect| {
            let to = Redirection { address: redirect.to.to_string(), permanent: redirect.permanent };
            (redirect.target.as_str().to_owned(), to)
        });
        Ok(Self { targets, discovery, elsewhere: elsewhere.collect() })
    }
}

/// What is wanted where `counts` says which credentials are named; the others are those that are for all.
fn authentication(
    config: &Config,
    wanted: AuthMethod,
    counts: impl Fn(&ChapConfig) -> bool,
    entropy: &Arc<dyn Entropy + Send + Sync>,
) -> Result<Authentication, ConfigError> {
    if wanted == AuthMethod::None {
        return Ok(Authentication::None);
    }
    let users = config.chap.iter().filter(|chap| counts(chap) || chap.is_for_all()).map(|chap| {
        let initiators = chap.initiators.iter().map(|name| name.as_str().to_owned()).collect();
        let initiators = (!chap.initiators.is_empty()).then_some(initiators);
        (chap.user.clone(), Arc::new(ChapUser { secret: chap.secret.clone(), initiators }))
    });
    // What is named for a place comes before what is for all.
    let mut own = config.chap_mutual.iter();
    let own = own.clone().find(|chap| counts(chap)).or_else(|| own.find(|chap| chap.is_for_all()));
    let own = own.map(|chap| Arc::new(ChapSelf { name: chap.user.clone(), secret: chap.secret.clone() }));
    let algorithms = config.chap_algorithms.iter().map(|algorithm| algorithm.0).collect();
    let policy = ChapPolicy::new(users.collect(), own, algorithms, Arc::clone(entropy));
    let policy = policy.map_err(|error| ConfigError {
        origin: Origin::Setting("chap"),
        what: error.to_string(),
        help: "look at the users and secrets in the file of --config".to_owned(),
    })?;
    Ok(Authentication::Chap(Arc::new(policy)))
}

impl Directory for TargetDirectory {
    fn contains(&self, target: &str) -> bool {
        self.targets.contains_key(target)
    }

    /// Names one portal, the one that was asked: an initiator that logs in through every portal it is told of would
    /// look like several machines to a target with clones. Targets that are elsewhere only are named too: whoever
    /// logs in to them is sent on.
    fn discover(
        &self,
        _initiator: &str,
        local: SocketAddr,
        which: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    ) {
        let portals = [local.to_string()];
        let elsewhere = self.elsewhere.keys().filter(|name| !self.targets.contains_key(*name));
        let names = self.targets.keys().chain(elsewhere);
        for name in names.filter(|name| which.is_none_or(|which| which == name.as_str())) {
            visit(name, &portals, PORTAL_GROUP);
        }
    }

    fn stage_override(&self, target: &str) -> Option<LoginStage> {
        self.targets.get(target)?.stage
    }

    fn authentication(&self, applicant: &Applicant<'_>) -> Authentication {
        match applicant.target {
            None => self.discovery.clone(),
            Some(target) => {
                self.targets.get(target).map_or(Authentication::None, |entry| entry.authentication.clone())
            }
        }
    }

    fn redirection(&self, target: &str) -> Option<Redirection> {
        self.elsewhere.get(target).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Partial, read};
    use crate::entropy::SystemEntropy;

    fn directory(text: &str) -> TargetDirectory {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        TargetDirectory::new(&read(&path).unwrap().finish().unwrap(), Arc::new(SystemEntropy)).unwrap()
    }

    fn chap(directory: &TargetDirectory, target: Option<&str>) -> String {
        let target = target.map(|name| format!("iqn.2026-11.io.stampede:{name}"));
        let applicant = Applicant { initiator: "iqn.i", target: target.as_deref() };
        match directory.authentication(&applicant) {
            Authentication::None => "none".to_owned(),
            Authentication::Chap(policy) => format!("{policy:?}"),
        }
    }

    #[test]
    fn targets_are_found_and_discovered() {
        let flag = |text: &str| (Origin::Flag("--target"), text.parse().unwrap());
        let targets = ["b=x,clone=ephemeral,stage=firmware", "a=y"].map(flag).to_vec();
        let config = Partial { targets, ..Partial::default() }.finish().unwrap();
        let directory = TargetDirectory::new(&config, Arc::new(SystemEntropy)).unwrap();
        assert!(directory.contains("iqn.2026-11.io.stampede:a"));
        assert!(!directory.contains("iqn.2026-11.io.stampede:c"));
        assert_eq!(directory.stage_override("iqn.2026-11.io.stampede:a"), None);
        assert_eq!(directory.stage_override("iqn.2026-11.io.stampede:b"), Some(LoginStage::Firmware));
        assert_eq!(list(&directory, None), ["iqn.2026-11.io.stampede:a", "iqn.2026-11.io.stampede:b"]);
        assert_eq!(list(&directory, Some("iqn.2026-11.io.stampede:b")).len(), 1);
        assert!(list(&directory, Some("iqn.none")).is_empty());
        assert_eq!(chap(&directory, Some("a")), "none");
    }

    fn list(directory: &TargetDirectory, which: Option<&str>) -> Vec<String> {
        let mut seen = Vec::new();
        let local = "[::1]:3260".parse().unwrap();
        directory.discover("iqn.i", local, which, &mut |name, portals, group| {
            assert_eq!((portals, group), (["[::1]:3260".to_owned()].as_slice(), 1));
            seen.push(name.to_owned());
        });
        seen
    }

    #[test]
    fn credentials_count_where_they_are_named() {
        let directory = directory(
            "discovery-auth = 'chap'\nchap-algorithms = ['md5']\n\
             [[chap]]\nuser = 'everywhere'\nsecret = 'twelve bytes'\n\
             [[chap]]\nuser = 'for-a'\nsecret = 'twelve bytes'\ntargets = ['a']\n\
             [[chap]]\nuser = 'for-all-of-m'\nsecret = 'twelve bytes'\ntargets = ['iqn.2026-11.io.stampede:m']\n\
             [[chap]]\nuser = 'finder'\nsecret = 'twelve bytes'\ndiscovery = true\n\
             [[target]]\nname = 'a'\npath = 'x'\n\
             [[target]]\nname = 'm'\npath = 'y'\n\
             [[target]]\nname = 'm2'\npath = 'z'\nlun = 1\niqn = 'iqn.2026-11.io.stampede:m'\n\
             [[target]]\nname = 'open'\npath = 'w'\nauth = 'none'\n",
        );
        let policy = |users: &[&str]| format!("ChapPolicy {{ users: {users:?}, algorithms: [Md5], .. }}");
        assert_eq!(chap(&directory, Some("a")), policy(&["everywhere", "for-a"]));
        assert_eq!(chap(&directory, Some("m")), policy(&["everywhere", "for-all-of-m"]));
        assert_eq!(chap(&directory, Some("open")), "none");
        assert_eq!(chap(&directory, None), policy(&["everywhere", "finder"]));
    }

    #[test]
    fn targets_that_are_elsewhere_are_found_and_sent_on() {
        let directory = directory(
            "[[target]]\nname = 'a'\npath = 'x'\n\
             [[redirect]]\ntarget = 'iqn.2026-11.io.stampede:a'\nto = '192.0.2.2:3260'\n\
             [[redirect]]\ntarget = 'iqn.2026-11.io.example:gone'\nto = 'storage2.example:3260'\npermanent = true\n",
        );
        assert_eq!(list(&directory, None), ["iqn.2026-11.io.stampede:a", "iqn.2026-11.io.example:gone"]);
        assert!(!directory.contains("iqn.2026-11.io.example:gone"));
        let gone = Redirection { address: "storage2.example:3260".to_owned(), permanent: true };
        assert_eq!(directory.redirection("iqn.2026-11.io.example:gone"), Some(gone));
        assert_eq!(directory.redirection("iqn.2026-11.io.stampede:a").map(|to| to.permanent), Some(false));
        assert_eq!(directory.redirection("iqn.2026-11.io.stampede:b"), None);
    }
}
