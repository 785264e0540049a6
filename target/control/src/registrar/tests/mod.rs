//! The registrar alone: messages in, decisions out.

mod admission;
mod kept;
mod moves;

use super::*;
use stampede_session::{Admission, LoginRequest, LoginStage, LoginStatus};
use stampede_wire::Isid;
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;
const CLONED: &str = "iqn.t:os";
const PLAIN: &str = "iqn.t:data";
const GOLDEN: GoldenId = GoldenId(0);
const SHARDS: u16 = 4;

fn targets() -> Vec<Target> {
    let identity = LunIdentity::derive(CLONED, 0);
    let device = Box::new(DeviceConfig::new(identity.to_scsi(CLONED, true), 1000));
    let (lun, owner) = (LunId(0), ShardId(0));
    let address = LunAddress { lun, owner, block_size: 512, is_clone: false, in_memory: false };
    let lun = |number, name: &str, backing| TargetLun { number, name: name.to_owned(), backing };
    let cloned = Backing::Clone { golden: GOLDEN, device, identity };
    vec![
        Target {
            iqn: CLONED.to_owned(),
            luns: vec![lun(0, "os", cloned), lun(1, "shared", Backing::Plain(address))],
            policy: TargetPolicy::default(),
        },
        Target {
            iqn: PLAIN.to_owned(),
            luns: vec![lun(0, "data", Backing::Plain(address))],
            policy: TargetPolicy::default(),
        },
    ]
}

/// A registrar and what came out of it since last asked.
struct World {
    registrar: Registrar,
    now: u64,
    out: Outbox,
    sessions: u64,
}

struct Login<'a> {
    target: &'a str,
    initiator: &'a str,
    isid: u8,
    tsih: u16,
    cid: u16,
    stage: LoginStage,
    address: u8,
}

const OS: Login<'_> =
    Login { target: CLONED, initiator: "iqn.i", isid: 1, tsih: 0, cid: 0, stage: LoginStage::Os, address: 1 };
const FIRMWARE: Login<'_> = Login { isid: 9, stage: LoginStage::Firmware, ..OS };
const DATA: Login<'_> = Login { target: PLAIN, ..OS };

impl World {
    fn new() -> Self {
        Self::restored(Vec::new())
    }

    fn restored(records: Vec<EpochRecord>) -> Self {
        Self {
            registrar: Registrar::new(targets(), records, LunId(10), SHARDS),
            now: SECOND,
            out: Outbox::default(),
            sessions: 0,
        }
    }

    fn login(&mut self, login: &Login<'_>) -> SessionId {
        self.login_at(ShardId(1), login)
    }

    fn login_at(&mut self, shard: ShardId, login: &Login<'_>) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let request = LoginRequest {
            session,
            initiator: login.initiator.to_owned(),
            alias: None,
            target: login.target.to_owned(),
            user: None,
            isid: Isid([0, 0, 0, 0, 0, login.isid]),
            tsih: login.tsih,
            cid: login.cid,
            stage: login.stage,
            fingerprint: "test",
            peer: SocketAddr::from(([10, 0, 0, login.address], 1000)),
            local: SocketAddr::from(([10, 0, 0, 100], 3260)),
        };
        self.receive(ToControl::Login { shard, request });
        session
    }

    fn receive(&mut self, message: ToControl) {
        self.registrar.receive(message, self.now, &mut self.out);
    }

    fn end(&mut self, session: SessionId, end: SessionEnd) {
        self.receive(ToControl::SessionEnded { shard: ShardId(1), session, end });
    }

    fn probed(&mut self, session: SessionId, alive: bool, last_heard_ns: u64) {
        self.receive(ToControl::Probed { session, alive, last_heard_ns });
    }

    fn tick_after(&mut self, ns: u64) {
        self.now += ns;
        self.registrar.tick(self.now, &mut self.out);
    }

    fn messages(&mut self) -> Vec<FromControl> {
        std::mem::take(&mut self.out.messages).into_iter().map(|(_, message)| message).collect()
    }

    /// The answer to a login among the messages since last asked: TSIH and LUNs, or why not.
    fn answer(&mut self, session: SessionId) -> Option<Result<(u16, LunIds), LoginStatus>> {
        let mut answer = None;
        self.out.messages.retain(|(_, message)| match message {
            FromControl::Admit { session: to, admission, luns } if *to == session => {
                assert!(answer.is_none(), "answered twice");
                answer = Some(match admission {
                    Admission::Allow { tsih } => {
                        Ok((*tsih, luns.0.iter().map(|(n, a)| (*n, a.lun)).collect()))
                    }
                    Admission::Refuse { status } => Err(*status),
                    Admission::Redirect(_) => panic!("redirected"),
                });
                false
            }
            _ => true,
        });
        answer
    }

    fn admitted(&mut self, session: SessionId) -> (u16, LunIds) {
        self.answer(session).expect("no answer").expect("refused")
    }

    fn closed(&mut self) -> Vec<SessionId> {
        self.messages()
            .into_iter()
            .filter_map(|m| if let FromControl::CloseSession { session } = m { Some(session) } else { None })
            .collect()
    }
}

type LunIds = Vec<(u16, LunId)>;

#[test]
fn a_plain_login_is_admitted_with_its_luns() {
    let mut w = World::new();
    let a = w.login(&DATA);
    let (tsih_a, luns) = w.admitted(a);
    assert_eq!(luns, [(0, LunId(0))]);
    let b = w.login(&Login { isid: 2, ..DATA });
    let (tsih_b, _) = w.admitted(b);
    assert!(tsih_a != 0 && tsih_b != 0 && tsih_a != tsih_b);
    assert!(w.messages().is_empty(), "several sessions of one initiator name are fine");
    assert!(w.out.changes.is_empty());
}

#[test]
fn session_reinstatement_waits_for_the_old_sessions_io() {
    let mut w = World::new();
    let old = w.login(&DATA);
    w.admitted(old);
    let new = w.login(&DATA);
    assert_eq!(w.answer(new), None, "held until the old one has ended");
    assert_eq!(w.closed(), [old]);
    w.end(old, SessionEnd::Closed);
    w.admitted(new);
    // A third replaces the second while that is still closing for a fourth: each is closed once.
    let third = w.login(&DATA);
    assert_eq!(w.closed(), [new]);
    let fourth = w.login(&DATA);
    assert_eq!(w.answer(third), Some(Err(LoginStatus::ServiceUnavailable)), "a newer login of the port");
    assert!(!w.closed().contains(&new));
    w.end(third, SessionEnd::Dropped);
    assert_eq!(w.answer(fourth), None);
    w.end(new, SessionEnd::Closed);
    w.admitted(fourth);
}

#[test]
fn a_tsih_must_name_a_session() {
    let mut w = World::new();
    let stray = w.login(&Login { tsih: 7, ..DATA });
    assert_eq!(w.answer(stray), Some(Err(LoginStatus::SessionDoesNotExist)));
    let old = w.login(&DATA);
    let (tsih, _) = w.admitted(old);
    let other_cid = w.login(&Login { tsih, cid: 5, ..DATA });
    assert_eq!(w.answer(other_cid), Some(Err(LoginStatus::TooManyConnections)));
    let other_name = w.login(&Login { tsih, initiator: "iqn.other", ..DATA });
    assert_eq!(w.answer(other_name), Some(Err(LoginStatus::SessionDoesNotExist)));
    assert!(w.messages().is_empty(), "the old session was not disturbed");
    let again = w.login(&Login { tsih, ..DATA });
    assert_eq!(w.closed(), [old]);
    w.end(old, SessionEnd::Closed);
    assert_eq!(w.admitted(again).0, tsih, "connection reinstatement keeps the TSIH");
}

#[test]
fn a_session_that_never_ends_does_not_hold_a_login_forever() {
    let mut w = World::new();
    let old = w.login(&DATA);
    w.admitted(old);
    let new = w.login(&DATA);
    assert_eq!(w.registrar.next_deadline(), Some(w.now + HOLD_NS));
    w.tick_after(HOLD_NS - 1);
    assert_eq!(w.answer(new), None);
    w.tick_after(1);
    assert_eq!(w.answer(new), Some(Err(LoginStatus::ServiceUnavailable)));
    assert_eq!(w.registrar.held_logins(), 0);
}

#[test]
fn unknown_targets_and_repeated_sessions_are_refused() {
    let mut w = World::new();
    let session = w.login(&Login { target: "iqn.none", ..DATA });
    assert_eq!(w.answer(session), Some(Err(LoginStatus::NotFound)));
    let session = w.login(&DATA);
    w.admitted(session);
    w.sessions -= 1;
    let same = w.login(&DATA);
    assert_eq!(w.answer(same), Some(Err(LoginStatus::TargetError)));
}

#[test]
fn each_initiator_gets_its_own_clone_and_the_record_comes_first() {
    let mut w = World::new();
    let a = w.login(&FIRMWARE);
    assert!(matches!(&w.out.changes[..], [Change::PutEpoch(r)] if r.initiator == "iqn.i" && r.firmware));
    let b = w.login(&Login { initiator: "iqn.j", address: 2, ..FIRMWARE });
    let devices: Vec<_> = w
        .out
        .messages
        .iter()
        .filter_map(|(shard, m)| match m {
            FromControl::CreateClone { lun, device, .. } => Some((*shard, *lun, device.identity.naa)),
            _ => None,
        })
        .collect();
    assert_eq!(devices.len(), 2);
    assert_eq!((devices[0].0, devices[0].1), (ShardId(1), LunId(10)), "owned by the accepting shard");
    assert_ne!(devices[0].2, devices[1].2, "identities differ by initiator");
    assert_eq!(w.admitted(a).1, [(0, LunId(10)), (1, LunId(0))], "the plain LUN is shared");
    assert_eq!(w.admitted(b).1, [(0, LunId(11)), (1, LunId(0))]);
}

#[test]
fn a_boot_keeps_its_clone_and_a_reset_gets_a_fresh_one() {
    let mut w = World::new();
    let ipxe = w.login(&FIRMWARE);
    let first = w.admitted(ipxe).1;
    w.end(ipxe, SessionEnd::Dropped);
    let linux = w.login(&OS);
    assert_eq!(w.admitted(linux).1, first, "hand-over to the operating system");
    w.end(linux, SessionEnd::Dropped);
    w.now += 20 * SECOND;
    let back = w.login(&OS);
    assert_eq!(w.admitted(back).1, first, "a cut connection");
    w.end(back, SessionEnd::Dropped);
    w.messages();
    let reset = w.login(&FIRMWARE);
    let fresh = w.admitted(reset).1;
    assert_ne!(fresh, first);
    let drops: Vec<_> =
        w.messages().into_iter().filter(|m| matches!(m, FromControl::DropClone { .. })).collect();
    assert_eq!(drops.len(), 1, "the old overlay's memory is given back");
}

#[test]
fn two_machines_of_one_name_never_share_a_clone() {
    let mut w = World::new();
    let first = w.login(&OS);
    w.admitted(first);
    w.messages();
    let second = w.login(&Login { address: 2, ..OS });
    assert_eq!(w.answer(second), None);
    let probes: Vec<_> = w.messages();
    let [FromControl::Probe { session, deadline_ns }] = probes[..] else { panic!("{probes:?}") };
    assert_eq!(session, first);
    assert!(deadline_ns <= w.now + HOLD_NS);
    w.now += SECOND / 100;
    w.probed(first, true, w.now);
    assert_eq!(w.answer(second), Some(Err(LoginStatus::AuthorizationFailure)));
    assert!(w.out.notices.iter().any(|notice| notice.alert && notice.text.contains("two machines")));
    assert!(w.messages().is_empty(), "the first is left alone");
}

#[test]
fn a_dead_rival_is_replaced_after_the_probe() {
    let mut w = World::new();
    let old = w.login(&OS);
    let clone = w.admitted(old).1;
    w.now += 10 * SECOND;
    w.messages();
    let new = w.login(&OS);
    let heard = SECOND;
    w.now += 3 * SECOND;
    w.probed(old, false, heard);
    assert_eq!(w.answer(new), None, "its I/O may not be over");
    assert_eq!(w.closed(), [old]);
    w.end(old, SessionEnd::Closed);
    assert_eq!(w.admitted(new).1, clone);
}

#[test]
fn a_rival_that_ends_while_being_probed_makes_way_at_once() {
    let mut w = World::new();
    let old = w.login(&OS);
    let clone = w.admitted(old).1;
    w.messages();
    let new = w.login(&Login { address: 2, ..OS });
    w.probed(old, false, 0);
    assert_eq!(w.answer(new), None, "gone, but not its I/O");
    w.end(old, SessionEnd::Dropped);
    assert_eq!(w.admitted(new).1, clone);
}

#[test]
fn a_probe_without_an_answer_ends_by_itself() {
    let mut w = World::new();
    let old = w.login(&OS);
    w.admitted(old);
    let new = w.login(&Login { address: 2, ..OS });
    for _ in 0..100 {
        w.tick_after(SECOND / 10);
    }
    assert_eq!(w.answer(new), Some(Err(LoginStatus::ServiceUnavailable)));
    assert_eq!(w.registrar.held_logins(), 0);
    assert!(w.out.messages.len() < 20, "no storm of probes");
}

#[test]
fn a_newcomer_that_gives_up_while_it_is_held_leaves_nothing_behind() {
    let mut w = World::new();
    let old = w.login(&OS);
    let clone = w.admitted(old).1;
    let new = w.login(&Login { address: 2, ..OS });
    w.end(new, SessionEnd::Dropped);
    w.messages();
    w.probed(old, true, w.now);
    assert_eq!(w.answer(new), None);
    w.end(old, SessionEnd::Dropped);
    let third = w.login(&Login { isid: 3, ..OS });
    assert_eq!(w.admitted(third).1, clone);
}

#[test]
fn after_kill_9_a_running_system_is_refused_until_its_machine_reboots() {
    let mut w = World::new();
    let ipxe = w.login(&FIRMWARE);
    w.end(ipxe, SessionEnd::Dropped);
    let linux = w.login(&OS);
    w.admitted(linux);
    let mut stored = BTreeMap::new();
    for change in &w.out.changes {
        match change {
            Change::PutEpoch(record) => drop(stored.insert(record.key(), record.clone())),
            Change::DeleteEpoch(key) => drop(stored.remove(key)),
        }
    }
    let mut w = World::restored(stored.into_values().collect());
    let linux = w.login(&OS);
    let refused = w.answer(linux).unwrap().unwrap_err();
    assert_eq!(refused, LoginStatus::AuthorizationFailure);
    assert!(w.out.notices.iter().any(|notice| notice.alert));
    assert!(!w.out.messages.iter().any(|(_, m)| matches!(m, FromControl::CreateClone { .. })));
    let ipxe = w.login(&FIRMWARE);
    w.admitted(ipxe);
}

#[test]
fn a_drained_target_does_not_take_its_own_request_for_a_logout() {
    for (draining, forgets) in [(false, true), (true, false)] {
        let mut w = World::new();
        let session = w.login(&OS);
        w.admitted(session);
        if draining {
            w.registrar.drain();
        }
        w.end(session, SessionEnd::Logout);
        assert_eq!(w.out.changes.iter().any(|c| matches!(c, Change::DeleteEpoch(_))), forgets);
    }
}

#[test]
fn a_changed_golden_serves_its_clones_but_makes_no_new_ones() {
    let mut w = World::new();
    let first = w.login(&OS);
    let clone = w.admitted(first).1;
    w.end(first, SessionEnd::Dropped);
    assert_eq!(w.registrar.goldens_of(CLONED).collect::<Vec<_>>(), [GOLDEN]);
    assert_eq!(w.registrar.goldens_of(PLAIN).count(), 0);
    w.registrar.golden_changed(GOLDEN, "it was modified", &mut w.out);
    w.registrar.golden_changed(GOLDEN, "it was modified", &mut w.out);
    assert_eq!(w.out.notices.iter().filter(|n| n.alert).count(), 1, "said once");
    let back = w.login(&OS);
    assert_eq!(w.admitted(back).1, clone);
    w.messages();
    w.out.changes.clear();
    let newcomer = w.login(&Login { initiator: "iqn.new", address: 2, ..OS });
    assert_eq!(w.answer(newcomer), Some(Err(LoginStatus::ServiceUnavailable)));
    assert!(w.messages().is_empty(), "no clone was made or dropped");
    assert!(matches!(&w.out.changes[..], [Change::PutEpoch(a), Change::DeleteEpoch(b)] if a.key() == *b));
    assert_eq!(w.registrar.clones().count(), 1);
}

#[test]
fn a_clone_is_reset_by_hand_only_when_nobody_uses_it() {
    let mut w = World::new();
    let session = w.login(&OS);
    w.admitted(session);
    assert!(matches!(w.reset("iqn.i", None)[..], [(_, ResetOutcome::InUse(_))]));
    w.end(session, SessionEnd::Dropped);
    w.messages();
    assert!(w.reset("iqn.i", Some("data")).is_empty());
    assert!(w.reset("iqn.nobody", None).is_empty());
    assert_eq!(w.reset("iqn.i", Some("os")), [(CLONED.to_owned(), ResetOutcome::Reset)]);
    assert!(matches!(w.messages()[..], [FromControl::DropClone { lun: LunId(10) }]));
    assert_eq!(w.registrar.clones().count(), 0);
}

impl World {
    fn reset(&mut self, initiator: &str, target: Option<&str>) -> Vec<(String, ResetOutcome)> {
        self.registrar.reset_clone(initiator, target, self.now, &mut self.out)
    }
}

#[test]
fn a_full_arena_drops_one_held_clone_at_a_time() {
    let mut w = World::new();
    for n in 0..3 {
        let initiator = format!("iqn.n{n}");
        let session = w.login(&Login { initiator: &initiator, address: n, ..OS });
        w.admitted(session);
        if n < 2 {
            w.end(session, SessionEnd::Dropped);
        }
        w.now += SECOND;
    }
    w.messages();
    let relieve = |w: &mut World| w.registrar.relieve_arena(w.now, &mut w.out);
    assert!(!relieve(&mut w), "they may be back any moment");
    w.now += 120 * SECOND;
    assert!(relieve(&mut w));
    assert!(!relieve(&mut w), "the first has not gone yet");
    assert!(matches!(w.messages()[..], [FromControl::DropClone { lun: LunId(10) }]));
    w.receive(ToControl::CloneDropped { lun: LunId(10) });
    assert!(relieve(&mut w));
    w.receive(ToControl::CloneDropped { lun: LunId(11) });
    assert!(!relieve(&mut w), "the third is in use");
}

#[test]
fn the_time_of_a_held_clone_runs_out() {
    let mut w = World::new();
    let session = w.login(&OS);
    w.admitted(session);
    w.end(session, SessionEnd::Dropped);
    w.messages();
    let hold = TargetPolicy::default().hold_after_unclean;
    assert_eq!(w.registrar.next_deadline(), Some(w.now + hold));
    w.tick_after(hold);
    assert!(matches!(w.messages()[..], [FromControl::DropClone { .. }]));
    let late = w.login(&OS);
    assert_eq!(w.answer(late), Some(Err(LoginStatus::AuthorizationFailure)));
}

#[test]
fn all_tsihs_in_use_is_out_of_resources() {
    let mut sessions = Sessions::default();
    let entry = SessionEntry {
        shard: ShardId(0),
        home: None,
        moves: 0,
        target: 0,
        initiator: String::new(),
        isid: Isid::default(),
        tsih: None,
        cid: 0,
        stage: LoginStage::Os,
        peer: SocketAddr::from(([10, 0, 0, 1], 1)),
        clone: None,
        boot: None,
        closing: false,
    };
    for id in 0..u64::from(u16::MAX) {
        sessions.insert(SessionId(id), entry.clone());
        assert!(sessions.assign_tsih(SessionId(id), None).is_some());
    }
    sessions.insert(SessionId(70_000), entry.clone());
    assert_eq!(sessions.assign_tsih(SessionId(70_000), None), None);
    sessions.remove(SessionId(41));
    assert_eq!(sessions.assign_tsih(SessionId(70_000), None), Some(42), "the one that came free");
}
