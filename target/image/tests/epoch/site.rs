//! A site of machines whose lives are known, around a registry that only sees their logins. Every call checks what
//! must be true whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fastrand::Rng;
use stampede_image::epoch::{
    CloneId, Decision, Effect, End, EpochRecord, EpochState, LoginFacts, LoginStage, OnLost, ProbeAnswer,
    RecordKey, RefusalReason, Registry, ResetOutcome, SECOND, SessionId, TargetPolicy, Time,
};

use crate::world::{LINUX, TARGET, at, ipxe};

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Off,
    /// In its boot firmware; reading, or waiting in a menu.
    Firmware {
        reading: bool,
    },
    /// Its kernel has started, and has not logged in yet.
    Starting,
    Running,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) address: IpAddr,
    /// Whether no other machine has its name.
    pub(crate) unique: bool,
    /// Whether it boots through firmware.
    pub(crate) firmware: bool,
    pub(crate) life: Life,
    /// Counts its boots.
    pub(crate) boot: u32,
    pub(crate) connected: bool,
    pub(crate) session: Option<SessionId>,
    /// The clone that this boot first got.
    pub(crate) disk: Option<CloneId>,
}

/// A session as the target has it.
#[derive(Clone, Copy, Debug)]
struct Open {
    machine: usize,
    boot: u32,
    stage: LoginStage,
    clone: CloneId,
    last_heard: Time,
}

pub(crate) struct Site {
    pub(crate) random: Rng,
    pub(crate) machines: Vec<Machine>,
    pub(crate) now: Time,
    /// What happened, and how often.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    registry: Registry,
    policy: TargetPolicy,
    open: BTreeMap<SessionId, Open>,
    clones: BTreeSet<CloneId>,
    /// Clones that a system has logged in to.
    used: BTreeSet<CloneId>,
    records: BTreeMap<RecordKey, EpochRecord>,
    writes: BTreeMap<u64, u32>,
    sessions_made: u64,
}

impl Site {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let policy = TargetPolicy {
            on_lost: if seed.is_multiple_of(5) { OnLost::Fresh } else { OnLost::Refuse },
            grace_after_logout: 60 * SECOND,
            hold_after_unclean: 600 * SECOND,
            max_clones: random.u32(2..7),
        };
        let nat = random.bool();
        let machine = |name, n: u8, unique, firmware| Machine {
            name,
            address: if nat { at(1) } else { at(n) },
            unique,
            firmware,
            life: Life::Off,
            boot: 0,
            connected: true,
            session: None,
            disk: None,
        };
        let machines = vec![
            machine("iqn.a", 1, true, true),
            machine("iqn.b", 2, true, true),
            machine("iqn.qemu", 3, true, false),
            machine("iqn.twin", 4, false, true),
            machine("iqn.twin", 5, false, true),
            machine("iqn.tool", 6, false, false),
            machine("iqn.tool", 7, false, false),
        ];
        let mut registry = Registry::new();
        registry.add_target(TARGET, "debian", policy);
        Self {
            random,
            machines,
            now: 1000 * SECOND,
            seen: BTreeMap::new(),
            registry,
            policy,
            open: BTreeMap::new(),
            clones: BTreeSet::new(),
            used: BTreeSet::new(),
            records: BTreeMap::new(),
            writes: BTreeMap::new(),
            sessions_made: 0,
        }
    }

    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_insert(0) += 1;
    }

    /// Whether somebody is behind the session who would answer, or who is reading from it.
    fn alive(&self, session: SessionId) -> bool {
        let Some(open) = self.open.get(&session) else { return false };
        let machine = &self.machines[open.machine];
        let speaks = match machine.life {
            Life::Off | Life::Starting => false,
            Life::Firmware { reading } => reading,
            Life::Running => open.stage == LoginStage::Os,
        };
        speaks && machine.connected && machine.boot == open.boot && machine.session == Some(session)
    }

    /// Logs a machine in as it would at its stage. True when it got a clone.
    pub(crate) fn login(&mut self, machine: usize, stage: LoginStage) -> bool {
        self.sessions_made += 1;
        let session = SessionId(self.sessions_made);
        let isid = match stage {
            LoginStage::Os if self.machines[machine].firmware => LINUX,
            _ => ipxe(self.random.u8(..)),
        };
        let Machine { name, address, .. } = self.machines[machine];
        let shard = self.random.u16(..4);
        let facts =
            LoginFacts { target: TARGET, initiator: name.into(), isid, address, stage, session, shard };
        let known = self.records.keys().any(|key| key.initiator == name);
        let mut answers = Vec::new();
        for _round in 0..5 {
            let mut effects = Vec::new();
            let decision = if answers.is_empty() {
                self.registry.login(&facts, self.now, &mut effects)
            } else {
                self.registry.login_probed(&facts, &answers, self.now, &mut effects)
            };
            self.apply(&effects);
            match decision {
                Decision::Probe { sessions, wait } => {
                    self.saw(if sessions[0].ping { "pinged" } else { "listened" });
                    answers = sessions.iter().filter_map(|probe| self.probe(probe.session, wait)).collect();
                }
                Decision::Refuse(refusal) => {
                    self.saw(refused(refusal.reason));
                    return false;
                }
                Decision::Attach { clone, fresh, reinstates, .. } => {
                    let blank = stage == LoginStage::Os && fresh && known;
                    assert!(
                        !blank || self.policy.on_lost == OnLost::Fresh,
                        "a blank disk under a running system"
                    );
                    reinstates.iter().for_each(|&replaced| self.close(replaced));
                    self.attach(machine, &facts, clone, fresh);
                    return true;
                }
            }
        }
        panic!("a login is decided after some rounds");
    }

    /// Asks a session whether it is alive, as the engine does.
    fn probe(&mut self, session: SessionId, wait: Time) -> Option<ProbeAnswer> {
        let asked_at = self.now;
        let alive = self.alive(session);
        self.now += wait;
        let open = *self.open.get(&session).expect("only sessions that are open are asked about");
        let machine = &self.machines[open.machine];
        // A machine that was reset answers the ping of its old connection with a reset, or is not there yet.
        let resets = open.stage == LoginStage::Os && machine.connected && machine.life != Life::Off;
        if !alive && resets && self.random.bool() {
            self.saw("reset by peer");
            self.end(session, End::Dropped);
            return None;
        }
        if alive {
            // Firmware that reads was heard just before, and in any wait.
            let last_heard = if wait > 0 { asked_at + 1 } else { asked_at.saturating_sub(1) };
            self.open.get_mut(&session)?.last_heard = last_heard;
        }
        Some(ProbeAnswer { session, asked_at, last_heard: self.open.get(&session)?.last_heard })
    }

    fn attach(&mut self, machine: usize, facts: &LoginFacts, clone: CloneId, fresh: bool) {
        assert!(self.clones.contains(&clone), "the clone exists");
        assert!(self.open.values().all(|open| open.clone != clone), "one session at a time on a clone");
        match facts.stage {
            LoginStage::Firmware => assert!(!self.used.contains(&clone), "a boot starts from the golden"),
            LoginStage::Os => _ = self.used.insert(clone),
        }
        let Machine { unique, disk, boot, .. } = self.machines[machine];
        let reset = facts.stage == LoginStage::Firmware && fresh;
        if unique
            && let Some(disk) = disk
            && !reset
            && self.policy.on_lost == OnLost::Refuse
        {
            assert_eq!(clone, disk, "{}: within one boot a machine sees one disk", facts.initiator);
        }
        self.saw(match (facts.stage, fresh) {
            (LoginStage::Firmware, true) => "firmware, fresh",
            (LoginStage::Firmware, false) => "firmware, kept",
            (LoginStage::Os, true) => "system, fresh",
            (LoginStage::Os, false) => "system, kept",
        });
        self.machines[machine].disk = Some(clone);
        self.machines[machine].session = Some(facts.session);
        let open = Open { machine, boot, stage: facts.stage, clone, last_heard: self.now };
        self.open.insert(facts.session, open);
    }

    /// The target ends a session because the registry says so.
    fn close(&mut self, session: SessionId) {
        assert!(!self.alive(session), "a live machine lost its clone to another");
        let open = self.open.remove(&session).expect("only open sessions are closed");
        let machine = &mut self.machines[open.machine];
        if machine.session == Some(session) {
            machine.session = None;
        }
    }

    /// A session ends by itself or is reaped.
    pub(crate) fn end(&mut self, session: SessionId, how: End) {
        let Some(open) = self.open.remove(&session) else { return };
        let machine = &mut self.machines[open.machine];
        if machine.session == Some(session) {
            machine.session = None;
        }
        let mut effects = Vec::new();
        self.registry.session_ended(session, how, self.now, &mut effects);
        self.apply(&effects);
    }

    /// TCP's timeouts find a session whose peer is gone.
    pub(crate) fn reap(&mut self) {
        let dead: Vec<_> = self.open.keys().copied().filter(|&session| !self.alive(session)).collect();
        if !dead.is_empty() {
            let session = dead[self.random.usize(..dead.len())];
            self.saw("reaped");
            self.end(session, End::Dropped);
        }
    }

    pub(crate) fn pass(&mut self, time: Time) {
        self.now += time;
        let mut effects = Vec::new();
        self.registry.tick(self.now, &mut effects);
        if effects.iter().any(|effect| matches!(effect, Effect::DropClone { .. })) {
            self.saw("expired");
        }
        self.apply(&effects);
        assert!(self.registry.next_deadline().is_none_or(|at| at > self.now));
    }

    pub(crate) fn restart(&mut self) {
        self.saw("restarted");
        self.open.clear();
        self.clones.clear();
        self.used.clear();
        // Numbers of forgotten epochs may come again.
        self.writes.clear();
        self.machines.iter_mut().for_each(|machine| machine.session = None);
        self.registry = Registry::restore(self.records.values().cloned());
        self.registry.add_target(TARGET, "debian", self.policy);
    }

    pub(crate) fn push_out(&mut self) {
        let mut effects = Vec::new();
        if self.registry.drop_oldest_unclean(self.now, &mut effects).is_some() {
            self.saw("pushed out");
        }
        self.apply(&effects);
    }

    /// An operator resets the epoch of a machine that is off.
    pub(crate) fn reset_by_hand(&mut self, machine: usize) {
        let name = self.machines[machine].name;
        let on = |machine: &Machine| machine.name == name && machine.life != Life::Off;
        if self.machines.iter().any(on) {
            return;
        }
        let mut effects = Vec::new();
        match self.registry.reset(TARGET, name, self.now, &mut effects) {
            ResetOutcome::Reset => self.saw("reset by hand"),
            ResetOutcome::InUse(_) => {
                assert!(self.open.values().any(|open| self.machines[open.machine].name == name));
            }
            ResetOutcome::NotFound => assert!(self.records.keys().all(|key| key.initiator != name)),
        }
        self.apply(&effects);
    }

    fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    let writes = self.writes.entry(record.epoch).or_insert(0);
                    *writes += 1;
                    assert!(*writes <= 2, "two writes a boot at most");
                    self.records.insert(record.key(), record.clone());
                }
                Effect::Forget(key) => {
                    assert!(self.records.remove(key).is_some(), "what is forgotten was known")
                }
                Effect::CreateClone { clone, .. } => assert!(self.clones.insert(*clone), "clones are new"),
                Effect::DropClone { clone, .. } => {
                    assert!(
                        self.open.values().all(|open| open.clone != *clone),
                        "a clone in use was dropped"
                    );
                    assert!(self.clones.remove(clone), "clones are dropped once");
                }
                Effect::CloseSession { session, .. } => self.close(*session),
                Effect::Alert { .. } => self.saw("alert"),
            }
        }
    }

    /// What must hold between any two calls.
    pub(crate) fn check(&self) {
        let clones: BTreeSet<_> = self.registry.list().filter_map(|status| clone_of(&status.state)).collect();
        assert_eq!(clones, self.clones, "the registry knows the clones that exist");
        assert_eq!(self.registry.clones(TARGET) as usize, clones.len());
        assert!(clones.len() <= self.policy.max_clones as usize, "clones are bounded");
        let attached: BTreeSet<_> =
            self.registry.list().filter_map(|status| session_of(&status.state)).collect();
        assert_eq!(attached, self.open.keys().copied().collect(), "and the sessions on them");
        let names: Vec<_> = self.registry.list().map(|status| status.initiator).collect();
        let stored: Vec<_> = self.records.keys().map(|key| key.initiator.clone()).collect();
        assert_eq!(names, stored, "the store has a record of each epoch");
    }
}

fn clone_of(state: &EpochState) -> Option<CloneId> {
    match state {
        EpochState::Attached { clone, .. } | EpochState::Held { clone, .. } => Some(*clone),
        EpochState::Lost | EpochState::Dropped => None,
    }
}

fn session_of(state: &EpochState) -> Option<SessionId> {
    match state {
        EpochState::Attached { session, .. } => Some(*session),
        _ => None,
    }
}

fn refused(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::OverlayLost => "refused: lost",
        RefusalReason::OverlayDropped => "refused: dropped",
        RefusalReason::DuplicateName => "refused: two machines",
        RefusalReason::SessionMayReturn => "refused: may return",
        RefusalReason::TooManyClones => "refused: too many clones",
        other => panic!("no reason to say {other:?}"),
    }
}
