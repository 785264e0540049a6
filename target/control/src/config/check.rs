//! Checks across the entries of a configuration, and how entries of one IQN come together.

use super::auth::{self, Guarded};
use super::error::{ConfigError, Origin};
use super::name::IscsiName;
use super::target::{GRACE_DEFAULT, HOLD_DEFAULT, TargetConfig};
use super::values::{AuthMethod, CloneKind, IrqAffinity, OnLost, Period, StageRule};
use super::{Config, Partial};
use std::collections::BTreeMap;

/// The most LUNs beneath one IQN.
const LUNS_MAX: usize = 256;
/// The longest path of a Unix socket, in bytes (`sun_path` with its terminator is 108).
const SOCKET_PATH_MAX: usize = 107;
/// The smallest golden cache, in bytes: four blocks of 32 KiB for each of 512 shards.
const CACHE_MIN: u64 = 64 << 20;
/// The smallest arena, in bytes: overlay slots come in extents.
const ARENA_MIN: u64 = 1 << 20;
/// The longest that a shard may poll before it sleeps, in microseconds.
const BUSY_POLL_MAX_US: u32 = 1000;
/// The smallest I/O memory of a shard, in bytes.
const BUFFERS_MIN: u64 = 4 << 20;

/// One iSCSI target: an IQN and the entries beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IscsiTarget {
    /// Its name on the wire.
    pub iqn: IscsiName,
    /// Its entries' places in [`Config::targets`], by LUN number.
    pub luns: BTreeMap<u16, usize>,
    /// What an initiator must prove; `None` for what the configuration says for all targets.
    pub auth: Option<AuthMethod>,
    /// How the stage of a login is told.
    pub stage: StageRule,
    /// What an operating system gets whose clone was lost.
    pub on_lost: OnLost,
    /// How long a clone lives after a clean logout.
    pub grace: Period,
    /// How long a clone is held after its session broke off.
    pub hold: Period,
}

/// The iSCSI targets of a configuration, in the order of their first entries.
#[must_use]
pub fn iscsi_targets(targets: &[TargetConfig]) -> Vec<IscsiTarget> {
    let mut found: Vec<IscsiTarget> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let iqn = target.target_iqn();
        let at = found.iter().position(|entry| entry.iqn == iqn).unwrap_or_else(|| {
            found.push(IscsiTarget {
                iqn,
                luns: BTreeMap::new(),
                auth: None,
                stage: StageRule::Auto,
                on_lost: OnLost::Refuse,
                grace: GRACE_DEFAULT,
                hold: HOLD_DEFAULT,
            });
            found.len() - 1
        });
        let entry = &mut found[at];
        entry.luns.insert(target.lun, index);
        entry.auth = target.auth.or(entry.auth);
        entry.stage = target.stage.unwrap_or(entry.stage);
        entry.on_lost = target.on_lost.unwrap_or(entry.on_lost);
        entry.grace = target.grace.unwrap_or(entry.grace);
        entry.hold = target.hold.unwrap_or(entry.hold);
    }
    found
}

/// Without targets there is nothing to do.
pub(super) fn something_to_serve(targets: &[(Origin, TargetConfig)]) -> Result<(), ConfigError> {
    match targets.is_empty() {
        true => Err(ConfigError::new(
            Origin::Flag("--target"),
            "there is nothing to serve",
            "give at least one --target NAME=PATH, or [[target]] in the file of --config",
        )),
        false => Ok(()),
    }
}

/// Checks each target and all of them together.
pub(super) fn targets(targets: &[(Origin, TargetConfig)]) -> Result<(), ConfigError> {
    for (at, (origin, target)) in targets.iter().enumerate() {
        target.check().map_err(|error| ConfigError::at(origin, error))?;
        for (earlier_origin, earlier) in &targets[..at] {
            check_pair(origin, target, earlier_origin, earlier)?;
        }
        let iqn = target.target_iqn();
        if targets[..=at].iter().filter(|(_, other)| other.target_iqn() == iqn).count() > LUNS_MAX {
            let what = format!("{iqn} has more than {LUNS_MAX} LUNs");
            return Err(ConfigError::new(origin.clone(), what, "give some of them another iqn"));
        }
    }
    Ok(())
}

/// Checks who may log in, with the default for targets that do not say.
pub(super) fn authentication(partial: &Partial, auth: AuthMethod) -> Result<(), ConfigError> {
    let configs: Vec<TargetConfig> = partial.targets.iter().map(|(_, target)| target.clone()).collect();
    let guarded: Vec<_> = iscsi_targets(&configs)
        .into_iter()
        .map(|target| Guarded {
            names: target.luns.values().map(|at| configs[*at].name.as_str()).collect(),
            auth: target.auth.unwrap_or(auth),
            iqn: target.iqn,
        })
        .collect();
    let discovery = partial.discovery_auth.unwrap_or(AuthMethod::None);
    auth::check(&guarded, discovery, &partial.chap, &partial.chap_mutual, &partial.redirects)
}

fn check_pair(
    origin: &Origin,
    target: &TargetConfig,
    earlier_origin: &Origin,
    earlier: &TargetConfig,
) -> Result<(), ConfigError> {
    let fail = |what: String, help: String| Err(ConfigError::new(origin.clone(), what, help));
    if target.name == earlier.name {
        let what = format!("two targets of one name, `{}` (the other: {earlier_origin})", target.name);
        return fail(
            what,
            "give each its own name; several LUNs of one target share an iqn= instead".to_owned(),
        );
    }
    let iqn = target.target_iqn();
    if iqn != earlier.target_iqn() {
        return Ok(());
    }
    if target.lun == earlier.lun {
        let what = format!("`{}` and `{}` are both LUN {} of {iqn}", earlier.name, target.name, target.lun);
        return fail(what, "give one of them another lun= or another iqn=".to_owned());
    }
    match contradiction(target, earlier) {
        Some(key) => fail(
            format!("`{}` and `{}` share {iqn} but differ in {key}", earlier.name, target.name),
            format!("a machine boots all LUNs of a target together: give {key} once, or twice the same"),
        ),
        None => Ok(()),
    }
}

/// The option that two LUNs of one target set to different values.
fn contradiction(a: &TargetConfig, b: &TargetConfig) -> Option<&'static str> {
    fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.is_some() && b.is_some() && a != b
    }
    [
        ("auth", differ(a.auth, b.auth)),
        ("stage", differ(a.stage, b.stage)),
        ("on-lost", differ(a.on_lost, b.on_lost)),
        ("grace", differ(a.grace, b.grace)),
        ("hold", differ(a.hold, b.hold)),
    ]
    .into_iter()
    .find_map(|(key, differs)| differs.then_some(key))
}

/// Checks the values that have a range.
pub(super) fn values(config: &Config) -> Result<(), ConfigError> {
    let fail =
        |key: &'static str, what: String, help: &str| Err(ConfigError::new(Origin::Setting(key), what, help));
    if config.arena.0 < ARENA_MIN && config.targets.iter().any(|t| t.clone == CloneKind::Ephemeral) {
        return fail(
            "arena",
            format!("{} is too small", config.arena),
            "give the clones at least 1M, usually 1G or more",
        );
    }
    if config.state_dir.is_none()
        && let Some(target) = config.targets.iter().find(|target| target.encryption.is_some())
    {
        return fail(
            "state-dir",
            format!("target `{}` is encrypted, and there is no place for its key", target.name),
            "give --state-dir",
        );
    }
    if config.arena_dir.is_some() && config.state_dir.is_none() {
        return fail(
            "arena-dir",
            "without a state store nobody knows after a restart whose the clones in it are".to_owned(),
            "give --state-dir too",
        );
    }
    if config.scratch.is_none() && config.scratch_size.is_some() {
        return fail(
            "scratch-size",
            "there is no scratch".to_owned(),
            "say with --scratch of which file or device",
        );
    }
    if config.cache.0 != 0 && config.cache.0 < CACHE_MIN {
        return fail(
            "cache",
            format!("{} is too small", config.cache),
            "give it at least 64M, usually what a boot reads of each golden or more; or 0 for no cache",
        );
    }
    if config.chap_algorithms.is_empty() {
        return fail(
            "chap-algorithms",
            "there is none".to_owned(),
            "name at least one, as in [\"sha256\", \"md5\"]",
        );
    }
    if config.buffers.0 < BUFFERS_MIN {
        return fail("buffers", format!("{} is too small", config.buffers), "give each shard at least 4M");
    }
    if config.login_timeout.as_nanos() == 0 {
        return fail("login-timeout", "0 gives nobody time to log in".to_owned(), "use 15s");
    }
    if !(1..=900_000).contains(&config.limits.connections) {
        return fail(
            "limits.connections",
            format!("{} is out of range", config.limits.connections),
            "use 1 to 900000",
        );
    }
    if !(1..=4096).contains(&config.limits.commands) {
        return fail(
            "limits.commands",
            format!("{} is out of range", config.limits.commands),
            "use 1 to 4096",
        );
    }
    if !(1..=1 << 16).contains(&config.limits.logins) {
        let what = format!("{} is out of range", config.limits.logins);
        return fail("limits.logins", what, "use 1 to 65536");
    }
    if config.limits.admissions == 0 {
        return fail("limits.admissions", "0 admits nobody".to_owned(), "use 1 or more");
    }
    if !(1..=super::SESSIONS_MAX).contains(&config.limits.sessions) {
        let what = format!("{} is out of range", config.limits.sessions);
        return fail("limits.sessions", what, "use 1 to 65535");
    }
    if config.limits.clones == 0 {
        return fail("limits.clones", "0 lets nobody boot".to_owned(), "use 1 or more");
    }
    if let Some(twice) =
        (1..config.listen.len()).find(|at| config.listen[..*at].contains(&config.listen[*at]))
    {
        return fail("listen", format!("{} is given twice", config.listen[twice]), "give each address once");
    }
    if config.busy_poll > BUSY_POLL_MAX_US {
        let what = format!("{} us is too long to poll", config.busy_poll);
        return fail("busy-poll", what, "use 0 (never) to 1000; 20 to 100 is usual");
    }
    if config.irq_affinity == IrqAffinity::Set && config.state_dir.is_none() {
        let what =
            "without a state directory, interrupts that were moved could not be taken back after a crash";
        return fail("irq-affinity", what.to_owned(), "give state-dir, or use report");
    }
    if config.control.as_os_str().len() > SOCKET_PATH_MAX {
        let what = format!("{} is longer than {SOCKET_PATH_MAX} bytes", config.control.display());
        return fail("control", what, "give --control a shorter path");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(targets: &[&str]) -> Partial {
        let targets = targets.iter().map(|text| (Origin::Flag("--target"), text.parse().unwrap())).collect();
        Partial { targets, ..Partial::default() }
    }

    #[test]
    fn luns_of_one_iqn_are_one_target() {
        let iqn = "iqn=iqn.2026-11.io.example:multi";
        let config = flags(&[
            &format!("os=a,clone=ephemeral,grace=5s,{iqn}"),
            "other=c",
            &format!("data=b,ro,lun=3,{iqn}"),
        ])
        .finish()
        .unwrap();
        let found = iscsi_targets(&config.targets);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].luns, BTreeMap::from([(0, 0), (3, 2)]));
        assert_eq!(found[0].grace, Period::seconds(5));
        assert_eq!(found[1].iqn.as_str(), "iqn.2026-11.io.stampede:other");
    }

    #[test]
    fn mistakes_between_targets() {
        let iqn = "iqn=iqn.2026-11.io.example:m";
        for (targets, what) in [
            (vec![], "nothing to serve"),
            (vec!["a=x".to_owned(), "a=y".to_owned()], "two targets of one name"),
            (vec![format!("a=x,{iqn}"), format!("b=y,{iqn}")], "are both LUN 0"),
            (vec!["a=x".to_owned(), "b=y,iqn=iqn.2026-11.io.stampede:a".to_owned()], "are both LUN 0"),
            (vec![format!("a=x,auth=chap,{iqn}"), format!("b=y,lun=1,auth=none,{iqn}")], "differ in auth"),
            (
                vec![
                    format!("a=x,clone=ephemeral,on-lost=fresh,{iqn}"),
                    format!("b=y,lun=1,clone=ephemeral,on-lost=refuse,{iqn}"),
                ],
                "differ in on-lost",
            ),
        ] {
            let texts: Vec<&str> = targets.iter().map(String::as_str).collect();
            let error = flags(&texts).finish().unwrap_err();
            assert!(error.what.contains(what), "{error}");
            assert!(error.to_string().starts_with("--target: "), "{error}");
        }
    }

    #[test]
    fn values_out_of_range() {
        let base = || flags(&["a=x,clone=ephemeral"]);
        for (partial, key) in [
            (Partial { arena: Some(super::super::ByteSize(4096)), ..base() }, "arena"),
            (Partial { cache: Some(super::super::ByteSize(4096)), ..base() }, "cache"),
            (Partial { arena_dir: Some("/dev/shm".into()), ..base() }, "arena-dir"),
            (Partial { scratch_size: Some(super::super::ByteSize(1 << 30)), ..base() }, "scratch-size"),
            (Partial { buffers: Some(super::super::ByteSize(4096)), ..base() }, "buffers"),
            (Partial { login_timeout: Some(Period::seconds(0)), ..base() }, "login-timeout"),
            (Partial { listen: vec!["1.2.3.4:5".parse().unwrap(); 2], ..base() }, "listen"),
            (Partial { irq_affinity: Some(IrqAffinity::Set), ..base() }, "irq-affinity"),
            (Partial { busy_poll: Some(1001), ..base() }, "busy-poll"),
            (Partial { control: Some("x".repeat(108).into()), ..base() }, "control"),
        ] {
            let error = partial.finish().unwrap_err();
            assert_eq!(error.origin, Origin::Setting(key), "{error}");
        }
        let limits = super::super::PartialLimits { commands: Some(0), ..Default::default() };
        let error = Partial { limits, ..base() }.finish().unwrap_err();
        assert_eq!(error.origin, Origin::Setting("limits.commands"));
    }

    #[test]
    fn flags_win_over_the_file_and_targets_add_up() {
        let file = Partial {
            login_timeout: Some(Period::seconds(1)),
            cores: Some(super::super::Cores::Auto),
            ..flags(&["a=x"])
        };
        let flags = Partial { login_timeout: Some(Period::seconds(2)), ..flags(&["b=y"]) };
        let config = file.merge(flags).finish().unwrap();
        assert_eq!(config.login_timeout, Period::seconds(2));
        assert_eq!(config.targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
