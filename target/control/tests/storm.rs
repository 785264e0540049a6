//! The registrar in a storm: seeded machines log in, hand over, hang, vanish, share names; sessions are moved between
//! shards, or fail to; the process is killed. What
//! must hold whatever happens is checked after every message.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use stampede_control::identity::LunIdentity;
use stampede_control::registrar::{Backing, HOLD_NS, Outbox, Registrar, Target, TargetLun};
use stampede_control::store::Change;
use stampede_engine::messages::{
    FromControl, GoldenId, LunAddress, LunId, MoveRefusal, SessionEnd, ShardId, ToControl,
};
use stampede_image::epoch::{EpochRecord, LoginStage as EpochStage, RecordKey, TargetPolicy};
use stampede_scsi::DeviceConfig;
use stampede_session::{Admission, LoginRequest, LoginStage, SessionId};
use stampede_wire::Isid;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const IQN: &str = "iqn.t:os";
const MS: u64 = 1_000_000;
const INITIATORS: u8 = 3;
const SHARDS: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    /// Asked; not answered.
    Asked { at: u64 },
    /// Let in.
    Admitted,
    /// Refused, or told to close: its end is on its way.
    Ending,
}

#[derive(Clone, Debug)]
struct Session {
    life: Life,
    initiator: u8,
    stage: LoginStage,
    /// It hangs: it answers no ping.
    silent: bool,
    last_heard: u64,
    clone: Option<LunId>,
    /// Where it lives.
    shard: ShardId,
    /// Its shard was asked to move it there.
    moving: Option<ShardId>,
}

/// What will happen later.
#[derive(Debug)]
enum Later {
    End(SessionId, SessionEnd),
    Probed(SessionId),
    Dropped(LunId),
    Moved(SessionId),
}

struct World {
    random: fastrand::Rng,
    now: u64,
    registrar: Registrar,
    store: BTreeMap<RecordKey, EpochRecord>,
    sessions: BTreeMap<SessionId, Session>,
    later: Vec<(u64, Later)>,
    /// The clones that exist, and their shards.
    created: BTreeMap<LunId, ShardId>,
    ever_created: BTreeSet<LunId>,
    ever_admitted: BTreeSet<LunId>,
    /// Initiators whose operating system runs, or may run.
    running: BTreeSet<u8>,
    next_session: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn targets() -> Vec<Target> {
    let identity = LunIdentity::derive(IQN, 0);
    let device = Box::new(DeviceConfig::new(identity.to_scsi(IQN, true), 1000));
    let backing = Backing::Clone { golden: GoldenId(0), device, identity };
    let (lun, owner) = (LunId(0), ShardId(0));
    let plain = LunAddress { lun, owner, block_size: 512, is_clone: false, in_memory: false };
    let lun = |number, backing| TargetLun { number, name: format!("l{number}"), backing };
    let luns = vec![lun(0, backing), lun(1, Backing::Plain(plain))];
    let policy = TargetPolicy {
        grace_after_logout: 2000 * MS,
        hold_after_unclean: 60_000 * MS,
        max_clones: 2,
        ..TargetPolicy::default()
    };
    vec![Target { iqn: IQN.to_owned(), luns, policy }]
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: 1_000_000 * MS,
            registrar: Registrar::new(targets(), Vec::new(), LunId(1), SHARDS),
            store: BTreeMap::new(),
            sessions: BTreeMap::new(),
            later: Vec::new(),
            created: BTreeMap::new(),
            ever_created: BTreeSet::new(),
            ever_admitted: BTreeSet::new(),
            running: BTreeSet::new(),
            next_session: 0,
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    fn soon(&mut self, what: Later) {
        let at = self.now + self.random.u64(0..300) * MS;
        self.later.push((at, what));
    }

    fn step(&mut self) {
        let mut out = Outbox::default();
        match self.random.u8(0..100) {
            0..25 => self.login(&mut out),
            25..35 => self.end_something(),
            35..37 => self.hang_something(),
            37..38 => return self.crash(),
            38..40 => drop(self.registrar.relieve_arena(self.now, &mut out)),
            40..50 => self.move_something(&mut out),
            50..52 => drop(self.registrar.rebalance(&mut out)),
            _ => {}
        }
        self.now += match self.random.u8(0..20) {
            0 => self.random.u64(0..20_000) * MS,
            _ => self.random.u64(0..200) * MS,
        };
        for session in self.sessions.values_mut().filter(|s| s.life == Life::Admitted && !s.silent) {
            // Systems talk all the time; firmware reads now and then.
            if session.stage == LoginStage::Os || self.random.u8(0..4) == 0 {
                session.last_heard = self.now;
            }
        }
        let (due, rest) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= self.now);
        self.later = rest;
        let due: Vec<(u64, Later)> = due;
        self.deliver(out);
        for (_, event) in due {
            let mut out = Outbox::default();
            self.happen(event, &mut out);
            self.deliver(out);
        }
        let mut out = Outbox::default();
        self.registrar.tick(self.now, &mut out);
        self.deliver(out);
        self.check();
    }

    fn login(&mut self, out: &mut Outbox) {
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let initiator = self.random.u8(0..INITIATORS);
        let stage = if self.random.bool() { LoginStage::Firmware } else { LoginStage::Os };
        let isid = if stage == LoginStage::Os { 1 } else { self.random.u8(2..20) };
        let request = LoginRequest {
            session,
            initiator: format!("iqn.i{initiator}"),
            alias: None,
            target: IQN.to_owned(),
            user: None,
            isid: Isid([0, 0, 0, 0, 0, isid]),
            tsih: 0,
            cid: 0,
            stage,
            fingerprint: "test",
            peer: SocketAddr::from(([10, 0, initiator, self.random.u8(0..2)], 1)),
            local: SocketAddr::from(([10, 1, 0, 0], 3260)),
        };
        let (life, silent) = (Life::Asked { at: self.now }, false);
        let shard = ShardId(self.random.u16(0..SHARDS));
        let (last_heard, clone, moving) = (self.now, None, None);
        self.sessions
            .insert(session, Session { life, initiator, stage, silent, last_heard, clone, shard, moving });
        self.registrar.receive(ToControl::Login { shard, request }, self.now, out);
    }

    fn any_session(&mut self) -> Option<SessionId> {
        let live: Vec<_> =
            self.sessions.iter().filter(|(_, s)| s.life != Life::Ending).map(|(id, _)| *id).collect();
        self.random.choice(live)
    }

    fn end_something(&mut self) {
        let Some(id) = self.any_session() else { return };
        let session = self.sessions.get_mut(&id).unwrap();
        let logout = session.life == Life::Admitted && self.random.bool();
        session.life = Life::Ending;
        self.soon(Later::End(id, if logout { SessionEnd::Logout } else { SessionEnd::Dropped }));
    }

    fn hang_something(&mut self) {
        if let Some(id) = self.any_session() {
            self.sessions.get_mut(&id).unwrap().silent = true;
        }
    }

    /// The operator's wish, whatever comes of it.
    fn move_something(&mut self, out: &mut Outbox) {
        let Some(id) = self.any_session() else { return };
        let to = ShardId(self.random.u16(0..SHARDS + 1));
        let begun = self.registrar.move_session(id, to, out);
        assert!(to.0 < SHARDS || begun.is_err());
    }

    /// A shard's answer to a move. A clone that nobody else uses goes with its session.
    fn moved(&mut self, id: SessionId) -> ToControl {
        let (fails, takes_clone) = (self.random.u8(0..4) == 0, self.random.u8(0..4) > 0);
        let Some(session) = self.sessions.get_mut(&id) else {
            return ToControl::MoveFailed { session: id, shard: ShardId(0), why: MoveRefusal::Unknown };
        };
        let (from, to) = (session.shard, session.moving.take().expect("it was asked to"));
        if fails {
            let why = if session.life == Life::Ending { MoveRefusal::Ending } else { MoveRefusal::Busy };
            return ToControl::MoveFailed { session: id, shard: from, why };
        }
        session.shard = to;
        let clone = session.clone.filter(|_| session.life == Life::Admitted && takes_clone);
        if let Some(owner) = clone.and_then(|lun| self.created.get_mut(&lun)) {
            *owner = to;
        }
        self.count("moved");
        ToControl::Moved { session: id, from, to, luns: clone.into_iter().collect() }
    }

    /// Messages about a session go to where it lives, or to where it was when its move began.
    fn check_address(&self, shard: ShardId, id: SessionId) {
        if let Some(session) = self.sessions.get(&id) {
            assert_eq!(session.shard, shard, "{id:?}: {session:?}");
        }
    }

    /// kill -9: only the store is left.
    fn crash(&mut self) {
        self.count("crashes");
        let records = self.store.values().cloned().collect();
        self.sessions.clear();
        self.later.clear();
        self.created.clear();
        self.ever_created.clear();
        self.ever_admitted.clear();
        self.registrar = Registrar::new(targets(), records, LunId(1), SHARDS);
    }

    fn happen(&mut self, event: Later, out: &mut Outbox) {
        let message = match event {
            Later::End(session, end) => {
                let Some(gone) = self.sessions.remove(&session) else { return };
                if end == SessionEnd::Logout && gone.stage == LoginStage::Os {
                    self.running.remove(&gone.initiator);
                }
                ToControl::SessionEnded { shard: gone.shard, session, end }
            }
            Later::Probed(session) => {
                let found = self.sessions.get(&session);
                let heard = found.map_or(0, |found| found.last_heard);
                let alive = found.is_some_and(|found| !found.silent && found.life == Life::Admitted);
                let last_heard_ns = if alive { self.now } else { heard };
                ToControl::Probed { session, alive, last_heard_ns }
            }
            Later::Dropped(lun) => ToControl::CloneDropped { lun },
            Later::Moved(session) => self.moved(session),
        };
        self.registrar.receive(message, self.now, out);
    }

    /// First the store, then the messages, as the control thread does.
    fn deliver(&mut self, out: Outbox) {
        for change in out.changes {
            match change {
                Change::PutEpoch(record) => {
                    if record.stage == EpochStage::Firmware {
                        // Firmware runs: the machine was reset, whether its login gets through or not.
                        self.running.retain(|initiator| record.initiator != format!("iqn.i{initiator}"));
                    }
                    self.store.insert(record.key(), record);
                }
                Change::DeleteEpoch(key) => drop(self.store.remove(&key)),
            }
        }
        for (shard, message) in out.messages {
            match message {
                FromControl::CreateClone { lun, .. } => {
                    self.count("clones");
                    assert!(self.ever_created.insert(lun), "a LUN number twice");
                    self.created.insert(lun, shard);
                }
                FromControl::DropClone { lun } => {
                    assert_eq!(self.created.remove(&lun), Some(shard), "dropped twice, or elsewhere");
                    let user = self.sessions.iter().find(|(_, s)| s.clone == Some(lun));
                    assert!(user.is_none(), "dropped under {user:?}");
                    self.soon(Later::Dropped(lun));
                }
                FromControl::CloseSession { session } => {
                    self.count("closed");
                    self.check_address(shard, session);
                    if let Some(known) = self.sessions.get_mut(&session)
                        && known.life != Life::Ending
                    {
                        known.life = Life::Ending;
                        self.soon(Later::End(session, SessionEnd::Closed));
                    }
                }
                FromControl::Probe { session, deadline_ns } => {
                    self.count("probes");
                    self.check_address(shard, session);
                    let quick =
                        self.sessions.get(&session).is_none_or(|s| !s.silent && s.stage == LoginStage::Os);
                    let at = if quick { self.now } else { deadline_ns };
                    self.later.push((at, Later::Probed(session)));
                }
                FromControl::Move { session, to } => {
                    self.check_address(shard, session);
                    if let Some(known) = self.sessions.get_mut(&session) {
                        assert!(
                            known.shard != to && known.moving.replace(to).is_none(),
                            "moved twice at once"
                        );
                    }
                    self.soon(Later::Moved(session));
                }
                FromControl::Admit { session, admission, luns } => {
                    self.check_address(shard, session);
                    self.admitted(session, &admission, &luns.0)
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn admitted(&mut self, id: SessionId, admission: &Admission, luns: &[(u16, LunAddress)]) {
        let Some(session) = self.sessions.get(&id).cloned() else { return };
        if session.life == Life::Ending {
            return;
        }
        assert!(matches!(session.life, Life::Asked { .. }), "answered twice");
        let Admission::Allow { tsih } = admission else {
            self.count("refused");
            self.sessions.get_mut(&id).unwrap().life = Life::Ending;
            return self.soon(Later::End(id, SessionEnd::Dropped));
        };
        self.count("admitted");
        assert_ne!(*tsih, 0);
        let [(0, clone), (1, _)] = luns else { panic!("it sees {luns:?}") };
        assert_eq!(self.created.get(&clone.lun), Some(&clone.owner), "no such clone there");
        let sharer = self.sessions.iter().find(|(other, s)| **other != id && s.clone == Some(clone.lun));
        assert!(sharer.is_none(), "shared with {sharer:?}, which has not ended");
        let fresh = self.ever_admitted.insert(clone.lun);
        if session.stage == LoginStage::Os {
            assert!(
                !fresh || !self.running.contains(&session.initiator),
                "a blank disk under a running system"
            );
            self.running.insert(session.initiator);
            assert!(self.store.keys().any(|key| key.initiator == format!("iqn.i{}", session.initiator)));
        }
        let known = self.sessions.get_mut(&id).unwrap();
        known.life = Life::Admitted;
        known.clone = Some(clone.lun);
    }

    fn check(&self) {
        for (id, session) in &self.sessions {
            if let Life::Asked { at } = session.life {
                // The clock jumps between steps: what is due is done in the step that jumps over it.
                assert!(self.now - at <= HOLD_NS, "{id:?} is held for too long");
            }
        }
        assert!(self.created.len() <= 2 + INITIATORS as usize, "clones are not given back");
        assert!(self.store.len() <= INITIATORS as usize);
    }
}

#[test]
fn nothing_is_shared_lost_or_left_waiting() {
    let mut counts = BTreeMap::new();
    for seed in 0..2000 {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..600 {
                world.step();
            }
            world.counts.clone()
        }));
        let Ok(outcome) = outcome else { panic!("seed {seed}") };
        for (what, count) in outcome {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    eprintln!("{counts:?}");
    for what in ["admitted", "refused", "clones", "closed", "probes", "crashes", "moved"] {
        assert!(counts.get(what).is_some_and(|count| *count > 500), "{what} hardly happened: {counts:?}");
    }
}
