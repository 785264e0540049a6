//! The targets as logins and SendTargets see them.

use crate::config::{IscsiTarget, StageRule};
use stampede_session::{Directory, LoginStage};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The one portal group.
const PORTAL_GROUP: u16 = 1;

/// All targets of a configuration. Everybody may see all of them.
#[derive(Clone, Debug, Default)]
pub struct TargetDirectory {
    targets: BTreeMap<String, Option<LoginStage>>,
}

impl TargetDirectory {
    /// The targets, each with the stage that the operator set for it.
    #[must_use]
    pub fn new(targets: &[IscsiTarget]) -> Self {
        let stage = |target: &IscsiTarget| match target.stage {
            StageRule::Auto => None,
            StageRule::Firmware => Some(LoginStage::Firmware),
            StageRule::Os => Some(LoginStage::Os),
        };
        Self { targets: targets.iter().map(|t| (t.iqn.as_str().to_owned(), stage(t))).collect() }
    }
}

impl Directory for TargetDirectory {
    fn contains(&self, target: &str) -> bool {
        self.targets.contains_key(target)
    }

    /// Names one portal, the one that was asked: an initiator that logs in through every portal it is told of would
    /// look like several machines to a target with clones.
    fn discover(
        &self,
        _initiator: &str,
        local: SocketAddr,
        which: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    ) {
        let portals = [local.to_string()];
        for name in self.targets.keys().filter(|name| which.is_none_or(|which| which == name.as_str())) {
            visit(name, &portals, PORTAL_GROUP);
        }
    }

    fn stage_override(&self, target: &str) -> Option<LoginStage> {
        self.targets.get(target).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::iscsi_targets;

    #[test]
    fn targets_are_found_and_discovered() {
        let configs = ["b=x,clone=ephemeral,stage=firmware", "a=y"].map(|text| text.parse().unwrap());
        let directory = TargetDirectory::new(&iscsi_targets(&configs));
        assert!(directory.contains("iqn.2026-11.io.stampede:a"));
        assert!(!directory.contains("iqn.2026-11.io.stampede:c"));
        assert_eq!(directory.stage_override("iqn.2026-11.io.stampede:a"), None);
        assert_eq!(directory.stage_override("iqn.2026-11.io.stampede:b"), Some(LoginStage::Firmware));
        let list = |which: Option<&str>| {
            let mut seen = Vec::new();
            let local = "[::1]:3260".parse().unwrap();
            directory.discover("iqn.i", local, which, &mut |name, portals, group| {
                assert_eq!((portals, group), (["[::1]:3260".to_owned()].as_slice(), 1));
                seen.push(name.to_owned());
            });
            seen
        };
        assert_eq!(list(None), ["iqn.2026-11.io.stampede:a", "iqn.2026-11.io.stampede:b"]);
        assert_eq!(list(Some("iqn.2026-11.io.stampede:b")).len(), 1);
        assert!(list(Some("iqn.none")).is_empty());
    }
}
