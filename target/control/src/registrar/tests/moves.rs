//! Placement, hand-overs, moves and rebalancing, with a test that plays the shards.

use super::*;
use stampede_engine::messages::MoveRefusal;

const ALL: [ShardId; SHARDS as usize] = [ShardId(0), ShardId(1), ShardId(2), ShardId(3)];

impl World {
    /// The move that was asked for since last asked: of whom, from where, to where.
    fn asked_move(&mut self) -> Option<(SessionId, ShardId, ShardId)> {
        let index =
            self.out.messages.iter().position(|(_, message)| matches!(message, FromControl::Move { .. }))?;
        match self.out.messages.remove(index) {
            (from, FromControl::Move { session, to }) => Some((session, from, to)),
            other => panic!("{other:?}"),
        }
    }

    /// Where messages of this kind went since last asked.
    fn sent_to(&mut self, kind: fn(&FromControl) -> bool) -> Vec<ShardId> {
        let messages = std::mem::take(&mut self.out.messages);
        let (matching, others) = messages.into_iter().partition(|(_, message)| kind(message));
        self.out.messages = others;
        let matching: Vec<(ShardId, FromControl)> = matching;
        matching.into_iter().map(|(shard, _)| shard).collect()
    }

    fn moved(&mut self, (session, from, to): (SessionId, ShardId, ShardId), luns: &[LunId]) {
        self.receive(ToControl::Moved { session, from, to, luns: luns.to_vec() });
    }

    fn move_failed(&mut self, (session, shard, _): (SessionId, ShardId, ShardId), why: MoveRefusal) {
        self.receive(ToControl::MoveFailed { session, shard, why });
    }

    /// A shard's part: every move that was asked for succeeds, and takes the clone along.
    fn move_all(&mut self) {
        while let Some(going) = self.asked_move() {
            let own = self.registrar.sessions.find(going.0).filter(|entry| entry.tsih.is_some());
            let clone = own.and_then(|entry| entry.clone).and_then(|clone| self.registrar.clones.find(clone));
            let luns: Vec<_> = clone.into_iter().flat_map(|clone| &clone.luns).map(|lun| lun.lun).collect();
            self.moved(going, &luns);
        }
    }

    fn start(&mut self, session: SessionId, to: u16) -> Result<MoveStart, MoveError> {
        self.registrar.move_session(session, ShardId(to), &mut self.out)
    }

    fn shard(&self, session: SessionId) -> ShardId {
        self.registrar.session(session).unwrap().shard
    }

    fn outcomes(&mut self) -> Vec<Result<(), String>> {
        std::mem::take(&mut self.out.moves).into_iter().map(|outcome| outcome.result).collect()
    }

    /// What the shards carry, counted anew.
    fn recount(&self) -> Loads {
        let mut loads = Loads::new(SHARDS);
        self.registrar.clones.owners().for_each(|owner| loads.add(owner));
        self.registrar.sessions().filter_map(|(_, entry)| entry.home).for_each(|home| loads.add(home));
        loads
    }
}

fn is_create(message: &FromControl) -> bool {
    matches!(message, FromControl::CreateClone { .. })
}

fn is_admit(message: &FromControl) -> bool {
    matches!(message, FromControl::Admit { .. })
}

fn is_drop(message: &FromControl) -> bool {
    matches!(message, FromControl::DropClone { .. })
}

fn is_close(message: &FromControl) -> bool {
    matches!(message, FromControl::CloseSession { .. })
}

#[test]
fn a_thousand_logins_at_one_shard_spread_over_all_within_the_bound() {
    for (login, clones) in [(&OS, true), (&DATA, false)] {
        let mut w = World::new();
        for n in 0..1000 {
            let initiator = format!("iqn.n{n}");
            let session = w.login_at(ShardId(0), &Login { initiator: &initiator, ..*login });
            w.move_all();
            let shard = w.shard(session);
            assert_eq!(w.sent_to(is_admit), [shard], "admitted where it lives");
            assert_eq!(w.sent_to(is_create), if clones { vec![shard] } else { vec![] });
            let (loads, bound) = w.registrar.loads();
            let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
            assert!(spread <= bound && bound == spread_bound(n + 1, ALL.len()), "{loads:?}, bound {bound}");
        }
        assert_eq!(w.recount(), w.registrar.loads);
        let lives = |shard| w.registrar.sessions().filter(|(_, entry)| entry.shard == shard).count();
        let spread: Vec<_> = ALL.into_iter().map(lives).collect();
        assert!(spread.iter().all(|count| (240..=280).contains(count)), "{spread:?}");
        let counts = w.registrar.move_counts();
        assert_eq!(counts.handed_over, 1000 - spread[0] as u64);
        assert_eq!((counts.hand_overs_failed, counts.moved, counts.moves_failed), (0, 0, 0));
    }
}

#[test]
fn a_login_goes_where_its_clone_is() {
    let mut w = World::new();
    let first = w.login_at(ShardId(1), &OS);
    let (_, luns) = w.admitted(first);
    w.end(first, SessionEnd::Dropped);
    w.messages();
    let back = w.login_at(ShardId(3), &OS);
    let going = w.asked_move().expect("handed over");
    assert_eq!(going, (back, ShardId(3), ShardId(1)));
    assert_eq!(w.answer(back), None, "not before it is there");
    w.moved(going, &[]);
    let answer = w.out.messages.last().map(|(shard, _)| *shard);
    assert_eq!((answer, w.admitted(back).1), (Some(ShardId(1)), luns));
    assert_eq!(w.registrar.move_counts().handed_over, 1);
    assert!(w.out.moves.is_empty(), "nobody asked");
}

#[test]
fn a_login_that_cannot_be_handed_over_is_admitted_where_it_is() {
    let mut w = World::new();
    let first = w.login_at(ShardId(1), &OS);
    w.end(first, SessionEnd::Dropped);
    w.messages();
    let back = w.login_at(ShardId(3), &OS);
    let going = w.asked_move().unwrap();
    w.move_failed(going, MoveRefusal::NoRoom);
    assert_eq!(w.sent_to(is_admit), [ShardId(3)]);
    assert_eq!(w.registrar.move_counts().hand_overs_failed, 1);
    // A plain session counts where it came to be.
    for _ in 0..20 {
        let session = w.login_at(ShardId(2), &Login { isid: 50, ..DATA });
        if let Some(going) = w.asked_move() {
            w.move_failed(going, MoveRefusal::NoRoom);
        }
        assert_eq!(w.shard(session), ShardId(2));
        w.end(session, SessionEnd::Logout);
    }
    assert_eq!(w.recount(), w.registrar.loads);
    w.end(back, SessionEnd::Dropped);
}

#[test]
fn a_hand_over_that_hangs_ends_with_try_again() {
    let mut w = World::new();
    let first = w.login_at(ShardId(1), &OS);
    w.end(first, SessionEnd::Dropped);
    let back = w.login_at(ShardId(3), &OS);
    let going = w.asked_move().unwrap();
    w.tick_after(HOLD_NS);
    assert_eq!(w.answer(back), Some(Err(LoginStatus::ServiceUnavailable)));
    assert!(w.out.notices.iter().any(|notice| notice.text.contains("hand-over")));
    w.moved(going, &[]);
    assert_eq!(w.answer(back), None, "answered once");
    assert_eq!(w.shard(back), ShardId(1));
    w.end(back, SessionEnd::Dropped);
    assert_eq!((w.registrar.sessions().count(), w.registrar.moves_pending()), (0, 0));
}

#[test]
fn a_login_that_ends_on_its_way_leaves_nothing_behind() {
    let mut w = World::new();
    let first = w.login_at(ShardId(1), &OS);
    w.end(first, SessionEnd::Dropped);
    let back = w.login_at(ShardId(3), &OS);
    let going = w.asked_move().unwrap();
    w.end(back, SessionEnd::Dropped);
    w.move_failed(going, MoveRefusal::Unknown);
    assert_eq!((w.answer(back), w.registrar.moves_pending(), w.registrar.held_logins()), (None, 0, 0));
    assert_eq!(w.registrar.move_counts().hand_overs_failed, 1, "counted once");
}

#[test]
fn a_login_is_handed_over_only_when_what_it_replaces_has_ended() {
    let mut w = World::new();
    let old = w.login_at(ShardId(1), &OS);
    w.admitted(old);
    w.messages();
    let new = w.login_at(ShardId(2), &OS);
    w.probed(old, false, 1);
    assert_eq!(w.asked_move(), None);
    w.end(old, SessionEnd::Closed);
    let going = w.asked_move().unwrap();
    assert_eq!(going, (new, ShardId(2), ShardId(1)));
    w.moved(going, &[]);
    w.admitted(new);
}

#[test]
fn a_moved_session_takes_its_clone_and_everything_follows() {
    let mut w = World::new();
    let session = w.login_at(ShardId(1), &OS);
    w.admitted(session);
    w.messages();
    assert_eq!(w.start(session, 2), Ok(MoveStart::Begun { from: ShardId(1) }));
    assert_eq!(w.registrar.destination(session), Some(ShardId(2)));
    let going = w.asked_move().unwrap();
    assert_eq!(going, (session, ShardId(1), ShardId(2)));
    w.moved(going, &[LunId(10)]);
    assert_eq!(w.outcomes(), [Ok(())]);
    assert_eq!((w.shard(session), w.registrar.session(session).unwrap().moves), (ShardId(2), 1));
    assert_eq!(w.recount(), w.registrar.loads);
    assert_eq!(w.registrar.loads().0, [0, 0, 1, 0]);
    // A rival is probed and closed where it lives now.
    w.now += SECOND;
    let rival = w.login_at(ShardId(0), &Login { address: 2, ..OS });
    assert_eq!(w.sent_to(|m| matches!(m, FromControl::Probe { .. })), [ShardId(2)]);
    w.probed(session, false, 1);
    assert_eq!(w.sent_to(is_close), [ShardId(2)]);
    w.end(session, SessionEnd::Closed);
    // The clone's next user goes to its new owner, which is also told to drop it.
    let going = w.asked_move().unwrap();
    assert_eq!(going, (rival, ShardId(0), ShardId(2)));
    w.moved(going, &[]);
    let map = w.out.messages.iter().find_map(|(_, message)| match message {
        FromControl::Admit { luns, .. } => luns.find(0),
        _ => None,
    });
    assert_eq!(map.map(|address| address.owner), Some(ShardId(2)));
    w.end(rival, SessionEnd::Dropped);
    w.messages();
    w.login_at(ShardId(3), &FIRMWARE);
    assert_eq!(w.sent_to(is_drop), [ShardId(2)]);
    assert_eq!(w.recount(), w.registrar.loads);
}

#[test]
fn moves_that_cannot_be_are_refused_with_the_reason() {
    let mut w = World::new();
    let session = w.login_at(ShardId(1), &OS);
    w.admitted(session);
    let says = |result: Result<MoveStart, MoveError>, part: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    says(w.start(SessionId(99), 0), "no session 99: `stampede session list`");
    says(w.start(session, 4), "no shard 4: this stampede has 4, numbered from 0");
    assert_eq!(w.start(session, 1), Ok(MoveStart::There));
    assert!(w.asked_move().is_none());
    w.start(session, 0).unwrap();
    says(w.start(session, 2), "on its way to shard 0 already");
    let held = w.login_at(ShardId(1), &Login { address: 2, ..OS });
    says(w.start(held, 0), "still logging in");
    let going = w.asked_move().unwrap();
    w.move_failed(going, MoveRefusal::Busy);
    let [Err(why)] = &w.outcomes()[..] else { panic!() };
    assert!(why.contains("did not come to an end in time"), "{why}");
    assert_eq!(w.shard(session), ShardId(1));
    w.probed(session, false, 1);
    says(w.start(session, 0), "is ending");
    w.end(session, SessionEnd::Closed);
    w.registrar.drain();
    says(w.start(held, 0), "shutting down");
    assert_eq!(w.registrar.move_counts(), MoveCounts { moves_failed: 1, ..MoveCounts::default() });
}

#[test]
fn a_session_that_ends_on_its_way_is_told_once() {
    let mut w = World::new();
    let session = w.login(&DATA);
    w.admitted(session);
    w.start(session, 3).unwrap();
    let going = w.asked_move().unwrap();
    w.end(session, SessionEnd::Dropped);
    assert_eq!(w.outcomes(), [Err("the session has ended".to_owned())]);
    w.move_failed(going, MoveRefusal::Unknown);
    assert!(w.outcomes().is_empty());
    assert_eq!((w.recount(), w.registrar.moves_pending()), (Loads::new(SHARDS), 0));
}

#[test]
fn a_session_is_named_by_number_or_by_its_only_initiator() {
    let mut w = World::new();
    let one = w.login(&DATA);
    let two = w.login(&Login { initiator: "iqn.j", ..DATA });
    let find = |w: &World, name: &str| w.registrar.find_session(name);
    assert_eq!(find(&w, &one.to_string()), Ok(one));
    assert_eq!(find(&w, "IQN.J"), Ok(two));
    let text = find(&w, "iqn.none").unwrap_err().to_string();
    assert!(text.contains("no session of the initiator iqn.none"), "{text}");
    let third = w.login(&Login { initiator: "iqn.j", isid: 2, ..DATA });
    let text = find(&w, "iqn.j").unwrap_err().to_string();
    assert!(text.ends_with(&format!("has 2 sessions: name one by its number: {two}, {third}")), "{text}");
}

/// Logs plain sessions in until the shards carry these loads: what is placed elsewhere stays where it was accepted.
fn tilted(loads: [u32; SHARDS as usize]) -> World {
    let mut w = World::new();
    let mut isid = 0;
    for (shard, load) in ALL.into_iter().zip(loads) {
        for n in 0..load {
            isid += 1;
            let initiator = format!("iqn.n{isid}.{n}");
            w.login_at(shard, &Login { initiator: &initiator, ..DATA });
            if let Some(going) = w.asked_move() {
                w.move_failed(going, MoveRefusal::NoRoom);
            }
        }
    }
    assert_eq!(w.registrar.loads().0, loads);
    w.messages();
    w
}

/// The fewest moves that bring these loads within a bound of each other: for each lowest level there may be, what must
/// leave the shards above and what must come to those below.
fn fewest(loads: &[u32], bound: u32) -> u32 {
    let total: u32 = loads.iter().sum();
    let shards = loads.len() as u32;
    let levels = (0..=total).filter(|low| low * shards <= total && (low + bound) * shards >= total);
    let moves = levels.map(|low| {
        let excess: u32 = loads.iter().map(|load| load.saturating_sub(low + bound)).sum();
        let lack: u32 = loads.iter().map(|load| low.saturating_sub(*load)).sum();
        excess.max(lack)
    });
    moves.min().unwrap()
}

#[test]
fn a_rebalance_moves_the_fewest_sessions_a_few_at_a_time() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..60 {
        let loads = [(); SHARDS as usize].map(|()| random.u32(0..40));
        let mut w = tilted(loads);
        let plan = w.registrar.rebalance(&mut w.out).unwrap();
        assert_eq!(plan.moves.len() as u32, fewest(&loads, plan.bound), "{loads:?}");
        let mut under_way = VecDeque::new();
        let mut most = 0;
        loop {
            while let Some(going) = w.asked_move() {
                under_way.push_back(going);
            }
            most = most.max(under_way.len());
            let Some(going) = under_way.pop_front() else { break };
            assert_eq!(w.registrar.rebalance(&mut w.out), Err(MoveError::Rebalancing));
            w.moved(going, &[]);
        }
        assert_eq!(most, plan.moves.len().min(REBALANCE_AT_ONCE));
        assert_eq!(w.registrar.loads().0, plan.after);
        assert!(w.registrar.loads.spread() <= plan.bound);
        assert_eq!(w.outcomes().len(), plan.moves.len());
        assert!(!w.registrar.is_rebalancing());
        assert!(w.registrar.rebalance(&mut w.out).unwrap().moves.is_empty(), "nothing is left to do");
    }
}

#[test]
fn a_rebalance_leaves_alone_what_would_not_help() {
    // Clones that nobody uses cannot move, and a clone goes with its one session.
    let mut w = World::new();
    for n in 0..20 {
        let initiator = format!("iqn.n{n}");
        let login = Login { initiator: &initiator, ..OS };
        let session = w.login_at(ShardId(0), &login);
        w.move_all();
        if n < 10 {
            w.end(session, SessionEnd::Dropped);
        } else if w.shard(session) != ShardId(0) {
            w.start(session, 0).unwrap();
            w.move_all();
        }
    }
    w.messages();
    w.outcomes();
    assert_eq!(w.recount(), w.registrar.loads);
    let plan = w.registrar.rebalance(&mut w.out).unwrap();
    assert!(plan.before[0] > plan.bound && !plan.moves.is_empty());
    for (session, from, _) in &plan.moves {
        assert_eq!((w.shard(*session), *from), (ShardId(0), ShardId(0)));
    }
    // One of them ends before its turn, and one does not want to.
    let (last, _, _) = *plan.moves.last().unwrap();
    w.end(last, SessionEnd::Dropped);
    let going = w.asked_move().unwrap();
    w.move_failed(going, MoveRefusal::Busy);
    w.move_all();
    let outcomes = w.outcomes();
    assert_eq!(outcomes.len(), plan.moves.len());
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 2, "{outcomes:?}");
    assert_eq!(w.recount(), w.registrar.loads);
    w.registrar.drain();
    assert_eq!(w.registrar.rebalance(&mut w.out), Err(MoveError::Draining));
}

#[test]
fn loads_are_what_a_recount_says_whatever_happens() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut w = World::new();
        let mut under_way = Vec::new();
        for _ in 0..150 {
            let initiator = format!("iqn.n{}", random.u8(0..8));
            let login = if random.bool() { OS } else { DATA };
            let live: Vec<_> = w.registrar.sessions().map(|(id, _)| id).collect();
            match random.u8(0..10) {
                0..4 => {
                    let at = ShardId(random.u16(0..SHARDS));
                    let isid = random.u8(1..4);
                    let stage = if random.bool() { LoginStage::Os } else { LoginStage::Firmware };
                    w.login_at(at, &Login { initiator: &initiator, isid, stage, ..login });
                }
                4..6 => {
                    if let Some(session) = random.choice(live) {
                        w.end(session, SessionEnd::Dropped);
                    }
                }
                6 => {
                    if let Some(session) = random.choice(live) {
                        let _ = w.start(session, random.u16(0..SHARDS));
                    }
                }
                7 => w.tick_after(random.u64(0..2) * 30 * SECOND),
                8 => drop(w.registrar.rebalance(&mut w.out)),
                _ => {}
            }
            while let Some(going) = w.asked_move() {
                under_way.push(going);
            }
            if !under_way.is_empty() && random.bool() {
                let going = under_way.swap_remove(random.usize(0..under_way.len()));
                let gone = w.registrar.session(going.0).is_none();
                if gone || random.u8(0..4) == 0 {
                    w.move_failed(going, if gone { MoveRefusal::Unknown } else { MoveRefusal::Busy });
                } else {
                    let clone = w.registrar.session(going.0).and_then(|entry| entry.clone);
                    let alone = clone.filter(|clone| w.registrar.clones.is_alone_on(*clone, going.0));
                    let clone = alone.and_then(|clone| w.registrar.clones.find(clone));
                    let luns: Vec<_> = clone.into_iter().flat_map(|c| &c.luns).map(|lun| lun.lun).collect();
                    w.moved(going, &luns);
                }
            }
            assert_eq!(w.recount(), w.registrar.loads, "seed {seed}");
        }
    }
}
