//! A registry with a clock, a store and a stand-in for the engine, for the epoch tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use stampede_image::epoch::{
    AlertKind, CloneId, Decision, Effect, End, EpochRecord, EpochState, LoginFacts, LoginStage, ProbeAnswer,
    RecordKey, RefusalReason, Registry, SECOND, SessionId, TargetId, TargetPolicy, Time,
};

pub(crate) const TARGET: TargetId = TargetId(1);
/// open-iscsi's default, the same on every machine.
pub(crate) const LINUX: [u8; 6] = [0x00, 0x02, 0x3d, 0, 0, 1];

/// Address `10.0.0.n`.
pub(crate) fn at(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

/// A random ISID as iPXE makes them.
pub(crate) fn ipxe(n: u8) -> [u8; 6] {
    [0x40, 0x00, 0x27, 0x23, 0x35, n]
}

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) now: Time,
    /// Effects of the last call.
    pub(crate) effects: Vec<Effect>,
    /// The store.
    pub(crate) records: BTreeMap<RecordKey, EpochRecord>,
    pub(crate) writes: usize,
    pub(crate) policy: TargetPolicy,
    sessions_made: u64,
}

impl World {
    pub(crate) fn new(policy: TargetPolicy) -> Self {
        let mut registry = Registry::new();
        registry.add_target(TARGET, "debian", policy);
        Self {
            registry,
            now: 100 * SECOND,
            effects: Vec::new(),
            records: BTreeMap::new(),
            writes: 0,
            policy,
            sessions_made: 0,
        }
    }

    pub(crate) fn facts(
        &mut self,
        name: &str,
        stage: LoginStage,
        isid: [u8; 6],
        address: IpAddr,
    ) -> LoginFacts {
        self.sessions_made += 1;
        let session = SessionId(self.sessions_made);
        LoginFacts { target: TARGET, initiator: name.to_owned(), isid, address, stage, session, shard: 3 }
    }

    pub(crate) fn firmware(&mut self, name: &str, isid: u8, address: u8) -> LoginFacts {
        self.facts(name, LoginStage::Firmware, ipxe(isid), at(address))
    }

    pub(crate) fn linux(&mut self, name: &str, address: u8) -> LoginFacts {
        self.facts(name, LoginStage::Os, LINUX, at(address))
    }

    pub(crate) fn login(&mut self, facts: &LoginFacts) -> Decision {
        self.effects.clear();
        let decision = self.registry.login(facts, self.now, &mut self.effects);
        self.store();
        decision
    }

    /// The second round of a login, with the age of what was last heard from the session asked, after `wait`.
    pub(crate) fn probed(
        &mut self,
        facts: &LoginFacts,
        asked: SessionId,
        wait: Time,
        last_heard: Time,
    ) -> Decision {
        let asked_at = self.now;
        self.now += wait;
        self.effects.clear();
        let answers = [ProbeAnswer { session: asked, asked_at, last_heard }];
        let decision = self.registry.login_probed(facts, &answers, self.now, &mut self.effects);
        self.store();
        decision
    }

    /// A login that finds the sessions in its way silent since long ago.
    pub(crate) fn login_silent(&mut self, facts: &LoginFacts) -> Decision {
        match self.login(facts) {
            Decision::Probe { sessions, wait } => self.probed(facts, sessions[0].session, wait, 0),
            decided => decided,
        }
    }

    /// A login that finds the session in its way alive.
    pub(crate) fn login_answered(&mut self, facts: &LoginFacts) -> Decision {
        match self.login(facts) {
            Decision::Probe { sessions, .. } => {
                let heard = self.now + SECOND / 10;
                self.probed(facts, sessions[0].session, SECOND / 10, heard)
            }
            decided => decided,
        }
    }

    pub(crate) fn end(&mut self, facts: &LoginFacts, how: End) {
        self.effects.clear();
        self.registry.session_ended(facts.session, how, self.now, &mut self.effects);
        self.store();
    }

    pub(crate) fn tick(&mut self, later: Time) {
        self.now += later;
        self.effects.clear();
        self.registry.tick(self.now, &mut self.effects);
        self.store();
    }

    /// kill -9 and a new start: only the store is left.
    pub(crate) fn restart(&mut self) {
        self.registry = Registry::restore(self.records.values().cloned());
        self.registry.add_target(TARGET, "debian", self.policy);
    }

    pub(crate) fn state(&self, name: &str) -> Option<EpochState> {
        self.registry.list().find(|status| status.initiator == name).map(|status| status.state)
    }

    pub(crate) fn dropped(&self) -> Vec<CloneId> {
        let clone = |effect: &Effect| match effect {
            Effect::DropClone { clone, .. } => Some(*clone),
            _ => None,
        };
        self.effects.iter().filter_map(clone).collect()
    }

    pub(crate) fn closed(&self) -> Vec<SessionId> {
        let session = |effect: &Effect| match effect {
            Effect::CloseSession { session, .. } => Some(*session),
            _ => None,
        };
        self.effects.iter().filter_map(session).collect()
    }

    pub(crate) fn alerted(&self, wanted: AlertKind) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Alert { kind, .. } if *kind == wanted))
    }

    fn store(&mut self) {
        for effect in &self.effects {
            match effect {
                Effect::Persist(record) => {
                    self.writes += 1;
                    self.records.insert(record.key(), record.clone());
                }
                Effect::Forget(key) => {
                    self.records.remove(key);
                }
                _ => {}
            }
        }
    }
}

/// What an accepted login got: the clone, whether it is fresh, and whom it replaces.
#[track_caller]
pub(crate) fn attached(decision: Decision) -> (CloneId, bool, Vec<SessionId>) {
    match decision {
        Decision::Attach { clone, fresh, reinstates, .. } => (clone, fresh, reinstates.to_vec()),
        other => panic!("not attached: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn refused(decision: Decision) -> RefusalReason {
    match decision {
        Decision::Refuse(refusal) => refusal.reason,
        other => panic!("not refused: {other:?}"),
    }
}
