//! Overload: limits on logins and sessions, who waits, who goes first, and what those hear who waited for nothing.

use super::*;

fn world(admissions: usize, sessions: usize) -> World {
    let mut w = World::new();
    w.registrar.set_limits(AdmissionLimits { admissions, sessions });
    w
}

fn data(w: &mut World, initiator: &str, address: u8) -> SessionId {
    w.login(&Login { initiator, address, ..DATA })
}

fn counts(w: &World) -> AdmissionCounts {
    w.registrar.admission_counts(w.now)
}

#[test]
fn beyond_the_sessions_a_login_waits_for_one_to_end_and_then_hears_0302() {
    let mut w = world(9, 2);
    let (a, b) = (data(&mut w, "iqn.a", 1), data(&mut w, "iqn.b", 2));
    w.admitted(a);
    w.admitted(b);
    let (c, d) = (data(&mut w, "iqn.c", 3), data(&mut w, "iqn.d", 4));
    assert_eq!((w.answer(c), w.answer(d)), (None, None));
    assert_eq!((counts(&w).queued, counts(&w).sessions), (2, 2));
    w.now += SECOND;
    w.end(a, SessionEnd::Logout);
    w.admitted(c);
    assert_eq!((w.answer(d), counts(&w).oldest_wait_ns), (None, SECOND));
    w.tick_after(HOLD_NS - SECOND - 1);
    assert_eq!(w.answer(d), None);
    w.tick_after(1);
    assert_eq!(w.answer(d), Some(Err(LoginStatus::OutOfResources)));
    assert!(w.out.notices.iter().any(|notice| notice.alert && notice.text.contains("limits.sessions")));
    w.end(d, SessionEnd::Dropped);
    assert_eq!((counts(&w).refused_full, counts(&w).waited, counts(&w).admitted), (1, 2, 3));
    assert_eq!(w.registrar.held_logins(), 0);
}

#[test]
fn a_session_that_replaces_another_waits_for_no_room() {
    let mut w = world(9, 1);
    let old = data(&mut w, "iqn.a", 1);
    w.admitted(old);
    let other = data(&mut w, "iqn.b", 2);
    let again = data(&mut w, "iqn.a", 1);
    assert_eq!(w.closed(), [old]);
    w.end(old, SessionEnd::Closed);
    w.admitted(again);
    assert_eq!(w.answer(other), None, "the room is the one that came back");
}

#[test]
fn beyond_the_admissions_logins_take_turns_and_then_hear_0301() {
    let mut w = world(1, 100);
    // One whose rival is asked for a sign of life takes up the one place.
    let old = w.login(&OS);
    w.admitted(old);
    let new = w.login(&Login { address: 2, ..OS });
    assert_eq!(w.answer(new), None);
    let waiting: Vec<_> = ["iqn.a", "iqn.b", "iqn.c"].map(|name| data(&mut w, name, 3)).into();
    assert_eq!((counts(&w).admitting, counts(&w).queued), (1, 3));
    w.now += SECOND;
    w.probed(old, true, w.now);
    assert!(w.answer(new).unwrap().is_err());
    for session in waiting {
        w.admitted(session);
        w.end(session, SessionEnd::Dropped);
    }

    let new = w.login(&Login { address: 2, ..OS });
    let late = data(&mut w, "iqn.d", 3);
    w.end(new, SessionEnd::Dropped);
    w.admitted(late);

    // Nobody is let in any more, so nobody has a turn.
    w.registrar.set_limits(AdmissionLimits { admissions: 0, sessions: 100 });
    let late = data(&mut w, "iqn.e", 3);
    w.tick_after(HOLD_NS - 1);
    assert_eq!(w.answer(late), None);
    w.tick_after(1);
    assert_eq!(w.answer(late), Some(Err(LoginStatus::ServiceUnavailable)));
    assert_eq!((counts(&w).refused_busy, counts(&w).queued), (1, 0));
}

#[test]
fn machines_that_have_a_clone_come_first_and_sources_take_turns() {
    let mut w = world(9, 2);
    // A clone is held for this one.
    let first = w.login(&OS);
    w.admitted(first);
    w.end(first, SessionEnd::Dropped);
    let (a, b) = (data(&mut w, "iqn.a", 1), data(&mut w, "iqn.b", 1));
    w.admitted(a);
    w.admitted(b);
    let greedy: Vec<_> = (0..5).map(|n| data(&mut w, &format!("iqn.greedy{n}"), 50)).collect();
    let modest = data(&mut w, "iqn.modest", 60);
    let back = w.login(&OS);
    let mut order = Vec::new();
    let mut live = VecDeque::from([a, b]);
    for _ in 0..7 {
        w.end(live.pop_front().unwrap(), SessionEnd::Dropped);
        let all = greedy.iter().chain([&modest, &back]);
        let admitted: Vec<_> =
            all.copied().filter(|session| w.answer(*session).is_some_and(|a| a.is_ok())).collect();
        assert_eq!(admitted.len(), 1, "one place, one login");
        live.extend(&admitted);
        order.extend(admitted);
    }
    assert_eq!(order[..3], [back, greedy[0], modest], "the clone's machine, then each source in its turn");
    assert_eq!(order[3..], greedy[1..]);
}

#[test]
fn without_room_for_a_clone_a_login_waits_and_gets_the_next_one() {
    let mut w = World::new();
    let target = TargetId(0);
    let policy = TargetPolicy { max_clones: 1, ..TargetPolicy::default() };
    w.registrar.registry.add_target(target, CLONED, policy);
    let first = w.login(&OS);
    w.admitted(first);
    let second = w.login(&Login { initiator: "iqn.j", address: 2, ..OS });
    let third = w.login(&Login { initiator: "iqn.k", address: 3, ..OS });
    let plain = data(&mut w, "iqn.l", 4);
    w.admitted(plain);
    assert_eq!((w.answer(second), w.answer(third), counts(&w).no_room), (None, None, 2));
    w.now += SECOND;
    // A system that began without firmware, and logs out: its epoch is over.
    w.end(first, SessionEnd::Logout);
    w.admitted(second);
    w.tick_after(SECOND);
    assert_eq!(w.answer(third), None);
    w.tick_after(HOLD_NS);
    assert_eq!(w.answer(third), Some(Err(LoginStatus::OutOfResources)));
    assert_eq!((counts(&w).no_room, counts(&w).refused_full), (0, 1));
}

#[test]
fn while_memory_is_short_only_those_that_need_a_new_clone_wait() {
    let mut w = World::new();
    let first = w.login(&OS);
    w.admitted(first);
    w.end(first, SessionEnd::Dropped);
    w.registrar.set_memory_short(true);
    let back = w.login(&OS);
    w.admitted(back);
    let plain = data(&mut w, "iqn.l", 4);
    w.admitted(plain);
    let newcomer = w.login(&Login { initiator: "iqn.j", address: 2, ..OS });
    let gone = w.login(&Login { initiator: "iqn.k", address: 3, ..OS });
    w.end(gone, SessionEnd::Dropped);
    assert_eq!((w.answer(newcomer), counts(&w).no_room), (None, 1));
    w.tick_after(SECOND);
    assert!(w.registrar.next_deadline().unwrap() > w.now, "nobody is asked again and again for nothing");
    w.registrar.set_memory_short(false);
    w.tick_after(SECOND / 10);
    w.admitted(newcomer);
}

/// Many sources, one of which floods: everybody who keeps trying gets in, and nobody is held longer than it may be.
#[test]
fn nobody_starves_in_a_storm() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut w = world(4, 10);
        let mut waiting: BTreeMap<SessionId, (u64, u8)> = BTreeMap::new();
        let mut live: VecDeque<SessionId> = VecDeque::new();
        let mut served: BTreeMap<u8, u32> = BTreeMap::new();
        for step in 0..600u32 {
            // The flood's address tries five times as often as all others together.
            for _ in 0..5 {
                let name = format!("iqn.flood{}", random.u32(..));
                let session = data(&mut w, &name, 200);
                waiting.insert(session, (w.now, 200));
            }
            let host = (step % 20) as u8;
            let session = data(&mut w, &format!("iqn.host{host}.{step}"), host);
            waiting.insert(session, (w.now, host));
            w.tick_after(20_000_000);
            if live.len() >= 8 || random.bool() {
                live.pop_front().into_iter().for_each(|session| w.end(session, SessionEnd::Dropped));
            }
            let asked: Vec<_> = waiting.keys().copied().collect();
            for session in asked {
                let Some(answer) = w.answer(session) else { continue };
                let (since, source) = waiting.remove(&session).unwrap();
                assert!(w.now - since <= HOLD_NS + 20_000_000, "held too long");
                if answer.is_ok() {
                    live.push_back(session);
                    *served.entry(source).or_default() += 1;
                } else {
                    w.end(session, SessionEnd::Dropped);
                }
            }
            assert!(counts(&w).sessions <= 10, "more sessions than may be");
        }
        let modest: u32 = (0..20).map(|host| served.get(&host).copied().unwrap_or(0)).sum();
        let flood = served.get(&200).copied().unwrap_or(0);
        assert!((0..20).all(|host| served.contains_key(&host)), "seed {seed}: somebody starved: {served:?}");
        assert!(flood < modest / 2, "seed {seed}: {flood} of the flood, {modest} of the others");
    }
}
