//! Each rule of the epoch module's tables, by itself.

use crate::world::{LINUX, TARGET, World, at, attached, ipxe, refused};
use stampede_image::epoch::{
    AlertKind, Decision, Effect, End, EpochState, LoginStage, OnLost, PING_WAIT, Probe, QUIET, RefusalReason,
    ResetOutcome, SECOND, StatusHint, TargetId, TargetPolicy,
};

const HOUR: u64 = 3600 * SECOND;

fn world() -> World {
    World::new(TargetPolicy::default())
}

/// A machine that booted through firmware and runs its system: the clone, and its session.
fn booted(
    world: &mut World,
    name: &str,
    address: u8,
) -> (stampede_image::epoch::CloneId, stampede_image::epoch::LoginFacts) {
    let firmware = world.firmware(name, address, address);
    let (clone, fresh, _) = attached(world.login_silent(&firmware));
    assert!(fresh);
    world.now += 20 * SECOND;
    let linux = world.linux(name, address);
    let (same, fresh, _) = attached(world.login_silent(&linux));
    assert_eq!((same, fresh), (clone, false));
    (clone, linux)
}

#[test]
fn the_first_firmware_login_makes_a_clone_on_its_shard() {
    let mut world = world();
    let facts = world.firmware("iqn.m", 1, 1);
    let Decision::Attach { clone, owner_shard, fresh, epoch, reinstates } = world.login(&facts) else {
        panic!("refused")
    };
    assert!(fresh && reinstates.is_empty());
    assert_eq!((owner_shard, epoch), (3, 1));
    assert!(matches!(&world.effects[0], Effect::Persist(record)
        if record.stage == LoginStage::Firmware && record.firmware && record.target == "debian"));
    assert_eq!(world.effects[1], Effect::CreateClone { clone, target: TARGET, owner_shard: 3 });
    assert_eq!(world.effects.len(), 2);
}

#[test]
fn a_whole_debian_boot_stays_in_one_epoch_with_two_writes() {
    // As in the recorded boot: iPXE twice, iscsistart while iPXE's session still stands, iscsid's take-over.
    let mut world = world();
    let first = world.firmware("iqn.m", 1, 1);
    let (clone, ..) = attached(world.login(&first));
    world.now += SECOND / 50;
    world.end(&first, End::Dropped);
    let second = world.firmware("iqn.m", 2, 1);
    assert_eq!(attached(world.login(&second)), (clone, false, vec![]));

    world.now += 18 * SECOND;
    let initramfs = world.linux("iqn.m", 1);
    let Decision::Probe { sessions, wait } = world.login(&initramfs) else { panic!("iPXE is asked about") };
    assert_eq!(sessions.to_vec(), [Probe { session: second.session, ping: false }]);
    assert_eq!(wait, 0, "nobody waits for firmware that was quiet long enough");
    let last_heard = world.now - 18 * SECOND;
    let decision = world.probed(&initramfs, second.session, wait, last_heard);
    assert_eq!(attached(decision), (clone, false, vec![second.session]));
    // The session that it replaced ends later, which changes nothing.
    world.end(&second, End::Dropped);
    assert!(
        matches!(world.state("iqn.m"), Some(EpochState::Attached { session, .. }) if session == initramfs.session)
    );

    world.now += 30 * SECOND;
    world.end(&initramfs, End::Dropped);
    world.now += 2 * SECOND;
    let iscsid = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login(&iscsid)), (clone, false, vec![]));
    assert_eq!(world.writes, 2, "one at the epoch's start, one when the system came up");
}

#[test]
fn firmware_again_without_a_fin_waits_only_until_the_old_session_is_quiet() {
    let mut world = world();
    let first = world.firmware("iqn.m", 1, 1);
    let (clone, ..) = attached(world.login(&first));
    let second = world.firmware("iqn.m", 2, 1);
    world.login(&second);
    let heard = world.now - QUIET / 5;
    let Decision::Probe { sessions, wait } = world.probed(&second, first.session, 0, heard) else {
        panic!("it was heard just now")
    };
    assert_eq!((sessions[0].session, wait), (first.session, QUIET - QUIET / 5));
    let decision = world.probed(&second, first.session, wait, heard);
    assert_eq!(attached(decision), (clone, false, vec![first.session]));
}

#[test]
fn a_session_that_ends_while_it_is_asked_is_gone() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    let again = world.linux("iqn.m", 1);
    assert!(matches!(world.login(&again), Decision::Probe { .. }));
    world.end(&linux, End::Dropped);
    assert_eq!(attached(world.login(&again)), (clone, false, vec![]));
}

#[test]
fn a_warm_reset_gets_a_fresh_overlay_and_the_old_session_is_closed() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    world.now += HOUR;
    let firmware = world.firmware("iqn.m", 9, 1);
    let Decision::Probe { sessions, wait } = world.login(&firmware) else { panic!("the system is asked") };
    assert_eq!(sessions.to_vec(), [Probe { session: linux.session, ping: true }]);
    assert_eq!(wait, PING_WAIT);
    let (fresh_clone, fresh, reinstates) = attached(world.probed(&firmware, linux.session, wait, 0));
    assert!(fresh && fresh_clone != clone && reinstates.is_empty());
    assert_eq!(world.closed(), [linux.session]);
    assert_eq!(world.dropped(), [clone]);
    assert_eq!(world.registry.clones(TARGET), 1);
    let order = world.effects.iter().position(|effect| matches!(effect, Effect::CloseSession { .. }));
    assert!(order < world.effects.iter().position(|effect| matches!(effect, Effect::DropClone { .. })));
}

#[test]
fn a_reboot_after_the_session_ended_is_a_new_epoch() {
    for how in [End::Logout, End::Dropped, End::Reinstated] {
        let mut world = world();
        let (clone, linux) = booted(&mut world, "iqn.m", 1);
        world.end(&linux, how);
        world.now += 5 * SECOND;
        let firmware = world.firmware("iqn.m", 9, 1);
        let (fresh_clone, fresh, _) = attached(world.login(&firmware));
        assert!(fresh && fresh_clone != clone, "{how:?}");
        assert_eq!(world.dropped(), [clone]);
        assert_eq!(world.registry.next_deadline(), None, "{how:?}: the old overlay's time is off");
    }
}

#[test]
fn a_reset_in_firmware_keeps_the_epoch() {
    let mut world = world();
    let first = world.firmware("iqn.m", 1, 1);
    let (clone, ..) = attached(world.login(&first));
    world.now += HOUR;
    let again = world.firmware("iqn.m", 2, 1);
    assert_eq!(attached(world.login_silent(&again)), (clone, false, vec![first.session]));
    assert_eq!(world.writes, 1);
}

#[test]
fn a_system_that_was_cut_off_gets_its_own_overlay_back_hours_later() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    world.end(&linux, End::Dropped);
    world.tick(23 * HOUR);
    assert_eq!(world.dropped(), []);
    let again = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login(&again)), (clone, false, vec![]));
    assert_eq!(world.registry.next_deadline(), None);
}

#[test]
fn a_silent_session_is_reinstated_in_place() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    let again = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login_silent(&again)), (clone, false, vec![linux.session]));
    // The session count never touched zero: nothing was held, nothing dropped.
    assert_eq!(world.dropped(), []);
    world.end(&linux, End::Reinstated);
    assert!(
        matches!(world.state("iqn.m"), Some(EpochState::Attached { session, .. }) if session == again.session)
    );
}

#[test]
fn a_system_at_a_new_address_with_its_isid_replaces_its_silent_session() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    let moved = world.linux("iqn.m", 2);
    assert_eq!(attached(world.login_silent(&moved)), (clone, false, vec![linux.session]));
}

#[test]
fn two_machines_never_share_a_live_overlay() {
    // What the newcomer looks like, against a system that answers. The last is two machines behind one NAT.
    let newcomers = [
        (LoginStage::Firmware, ipxe(7), 1),
        (LoginStage::Firmware, ipxe(7), 2),
        (LoginStage::Os, ipxe(8), 1),
        (LoginStage::Os, LINUX, 2),
        (LoginStage::Os, ipxe(8), 2),
        (LoginStage::Os, LINUX, 1),
    ];
    for (stage, isid, address) in newcomers {
        let mut world = world();
        let (_, linux) = booted(&mut world, "iqn.m", 1);
        let newcomer = world.facts("iqn.m", stage, isid, at(address));
        let decision = world.login_answered(&newcomer);
        let Decision::Refuse(refusal) = decision else { panic!("{stage} {address}: {decision:?}") };
        assert_eq!(refusal.reason, RefusalReason::DuplicateName);
        assert_eq!(refusal.status.code(), 0x0202);
        assert!(refusal.message.contains("10.0.0.1"), "{}", refusal.message);
        assert!(world.alerted(AlertKind::DuplicateName));
        assert!(
            matches!(world.state("iqn.m"), Some(EpochState::Attached { session, .. }) if session == linux.session)
        );
    }
}

#[test]
fn a_stranger_waits_until_a_silent_session_is_reaped() {
    for stage in [LoginStage::Firmware, LoginStage::Os] {
        let mut world = world();
        let (clone, linux) = booted(&mut world, "iqn.m", 1);
        let stranger = world.facts("iqn.m", stage, ipxe(7), at(2));
        let Decision::Refuse(refusal) = world.login_silent(&stranger) else { panic!("it took the overlay") };
        assert_eq!(
            (refusal.reason, refusal.status),
            (RefusalReason::SessionMayReturn, StatusHint::ServiceUnavailable)
        );
        // The machine comes back after 20 s, with its overlay.
        world.now += 20 * SECOND;
        let back = world.linux("iqn.m", 1);
        assert_eq!(attached(world.login_silent(&back)), (clone, false, vec![linux.session]));
        // Or it does not, and the session is reaped.
        world.end(&back, End::Dropped);
        let (got, fresh, _) = attached(world.login(&stranger));
        assert_eq!((got == clone, fresh), (stage == LoginStage::Os, stage == LoginStage::Firmware));
    }
}

#[test]
fn a_machine_whose_firmware_and_system_have_two_addresses_is_known_by_either() {
    let mut world = world();
    let firmware = world.firmware("iqn.m", 1, 5);
    attached(world.login(&firmware));
    world.now += 20 * SECOND;
    let linux = world.linux("iqn.m", 6);
    attached(world.login_silent(&linux));
    // A reset: the system at the other address is silent, the firmware's address says whose it is.
    let reset = world.firmware("iqn.m", 2, 5);
    let (_, fresh, _) = attached(world.login_silent(&reset));
    assert!(fresh);
    assert_eq!(world.closed(), [linux.session]);
}

#[test]
fn two_machines_in_firmware_at_once_are_told_apart() {
    let mut world = world();
    let one = world.firmware("iqn.m", 1, 1);
    let (clone, ..) = attached(world.login(&one));
    // Another address, heard two seconds ago: refused at once.
    world.now += 10 * SECOND;
    let other = world.firmware("iqn.m", 2, 2);
    world.login(&other);
    let heard = world.now - 2 * SECOND;
    assert_eq!(refused(world.probed(&other, one.session, 0, heard)), RefusalReason::DuplicateName);
    assert!(world.alerted(AlertKind::DuplicateName));
    // The same address (NAT), reading while it is watched: refused.
    let behind_nat = world.firmware("iqn.m", 3, 1);
    assert_eq!(refused(world.login_answered(&behind_nat)), RefusalReason::DuplicateName);
    // Silent for long, at whatever address: it has gone on or was switched off.
    world.now += 10 * SECOND;
    assert_eq!(attached(world.login_silent(&other)), (clone, false, vec![one.session]));
}

#[test]
fn a_system_does_not_take_over_from_firmware_that_is_reading() {
    let mut world = world();
    let firmware = world.firmware("iqn.m", 1, 1);
    attached(world.login(&firmware));
    for address in [1, 2] {
        let linux = world.linux("iqn.m", address);
        assert_eq!(refused(world.login_answered(&linux)), RefusalReason::DuplicateName);
    }
}

#[test]
fn a_session_that_changed_under_the_probe_means_try_again() {
    let mut world = world();
    let (_, linux) = booted(&mut world, "iqn.m", 1);
    let slow = world.linux("iqn.m", 1);
    world.login(&slow);
    let quick = world.linux("iqn.m", 1);
    attached(world.login_silent(&quick));
    assert_eq!(refused(world.probed(&slow, linux.session, PING_WAIT, 0)), RefusalReason::Busy);
}

#[test]
fn after_a_restart_a_running_system_is_refused_and_a_booting_one_starts_fresh() {
    let mut world = world();
    booted(&mut world, "iqn.m", 1);
    world.restart();
    assert_eq!(world.state("iqn.m"), Some(EpochState::Lost));
    let linux = world.linux("iqn.m", 1);
    let Decision::Refuse(refusal) = world.login(&linux) else { panic!("a blank disk") };
    assert_eq!(refusal.reason, RefusalReason::OverlayLost);
    assert!(refusal.message.contains("reboot"), "{}", refusal.message);
    assert!(world.alerted(AlertKind::OverlayGone));
    let firmware = world.firmware("iqn.m", 9, 1);
    let Decision::Attach { fresh: true, epoch, .. } = world.login(&firmware) else { panic!("not fresh") };
    assert_eq!(epoch, 2, "numbers go on after a restart");
    let linux = world.linux("iqn.m", 1);
    world.now += 20 * SECOND;
    let (_, fresh, _) = attached(world.login_silent(&linux));
    assert!(!fresh);
}

#[test]
fn a_restart_between_firmware_and_system_refuses_the_system_too() {
    let mut world = world();
    let firmware = world.firmware("iqn.m", 1, 1);
    attached(world.login(&firmware));
    world.restart();
    let linux = world.linux("iqn.m", 1);
    assert_eq!(refused(world.login(&linux)), RefusalReason::OverlayLost);
}

#[test]
fn on_lost_fresh_gives_a_running_system_a_blank_disk_because_it_was_asked_to() {
    let mut world = World::new(TargetPolicy { on_lost: OnLost::Fresh, ..TargetPolicy::default() });
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    world.end(&linux, End::Dropped);
    let again = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login(&again)), (clone, false, vec![]), "what is not lost is kept");
    world.restart();
    let again = world.linux("iqn.m", 1);
    assert!(attached(world.login(&again)).1);
}

#[test]
fn an_overlay_that_survived_the_restart_is_adopted() {
    let mut world = world();
    let (clone, _) = booted(&mut world, "iqn.m", 1);
    let record = world.records.values().next().unwrap().clone();
    world.restart();
    let (registry, now) = (&mut world.registry, world.now);
    assert!(!registry.adopt(&record.key(), record.epoch + 1, clone, 0, now), "another epoch's");
    assert!(registry.adopt(&record.key(), record.epoch, clone, 0, now));
    assert!(!registry.adopt(&record.key(), record.epoch, clone, 0, now), "once");
    let linux = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login(&linux)), (clone, false, vec![]));
    let other = world.linux("iqn.other", 2);
    assert_ne!(attached(world.login(&other)).0, clone, "its number is not given out again");
}

#[test]
fn after_a_clean_logout_a_booted_machine_has_a_short_grace() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    world.end(&linux, End::Logout);
    world.tick(59 * SECOND);
    assert_eq!(world.dropped(), []);
    let again = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login(&again)), (clone, false, vec![]));
    world.end(&again, End::Logout);
    assert_eq!(world.registry.next_deadline(), Some(world.now + 60 * SECOND));
    world.tick(60 * SECOND);
    assert_eq!(world.dropped(), [clone]);
    let late = world.linux("iqn.m", 1);
    assert_eq!(refused(world.login(&late)), RefusalReason::OverlayDropped);
    let firmware = world.firmware("iqn.m", 9, 1);
    assert!(attached(world.login(&firmware)).1);
}

#[test]
fn firmware_that_logs_out_has_not_ended_the_epoch() {
    let mut world = world();
    let firmware = world.firmware("iqn.m", 1, 1);
    let (clone, ..) = attached(world.login(&firmware));
    world.end(&firmware, End::Logout);
    world.tick(300 * SECOND);
    let linux = world.linux("iqn.m", 1);
    assert_eq!(attached(world.login(&linux)), (clone, false, vec![]));
}

#[test]
fn without_a_firmware_stage_a_logout_ends_the_epoch_and_a_cut_does_not() {
    let mut world = world();
    let qemu = world.facts("iqn.qemu", LoginStage::Os, ipxe(1), at(1));
    let (clone, fresh, _) = attached(world.login(&qemu));
    assert!(fresh);
    world.end(&qemu, End::Dropped);
    let again = world.facts("iqn.qemu", LoginStage::Os, ipxe(2), at(1));
    assert_eq!(attached(world.login(&again)), (clone, false, vec![]), "killed and started again");
    world.end(&again, End::Logout);
    assert_eq!(world.dropped(), [clone]);
    assert!(world.records.is_empty(), "nothing is left of it");
    let next = world.facts("iqn.qemu", LoginStage::Os, ipxe(3), at(1));
    let (next_clone, fresh, _) = attached(world.login(&next));
    assert!(fresh && next_clone != clone, "at once, and in any case");
    world.end(&next, End::Logout);
    world.restart();
    let after = world.facts("iqn.qemu", LoginStage::Os, ipxe(4), at(1));
    assert!(attached(world.login(&after)).1, "nor does a restart remember it");
}

#[test]
fn a_qemu_that_reconnects_with_a_new_isid_is_let_in_when_its_old_session_is_silent() {
    let mut world = world();
    let qemu = world.facts("iqn.qemu", LoginStage::Os, ipxe(1), at(1));
    let (clone, ..) = attached(world.login(&qemu));
    let again = world.facts("iqn.qemu", LoginStage::Os, ipxe(2), at(1));
    assert_eq!(attached(world.login_silent(&again)), (clone, false, vec![qemu.session]));
}

#[test]
fn an_overlay_held_too_long_is_dropped_and_its_system_refused() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    world.end(&linux, End::Dropped);
    world.tick(24 * HOUR);
    assert_eq!(world.dropped(), [clone]);
    assert_eq!(world.state("iqn.m"), Some(EpochState::Dropped));
    assert_eq!(world.registry.clones(TARGET), 0);
    let linux = world.linux("iqn.m", 1);
    assert_eq!(refused(world.login(&linux)), RefusalReason::OverlayDropped);
}

#[test]
fn under_pressure_who_logged_out_goes_first_and_then_the_oldest() {
    let mut world = world();
    let mut clones = Vec::new();
    for address in 1..=4 {
        let (clone, linux) = booted(&mut world, &format!("iqn.{address}"), address);
        clones.push(clone);
        match address {
            1 | 2 => world.end(&linux, End::Dropped),
            3 => world.end(&linux, End::Logout),
            _ => {}
        }
    }
    let mut effects = Vec::new();
    assert_eq!(world.registry.drop_oldest_unclean(world.now, &mut effects), Some(clones[2]));
    assert_eq!(
        world.registry.drop_oldest_unclean(world.now, &mut effects),
        None,
        "they may be back any moment"
    );
    world.tick(120 * SECOND);
    let mut push_out = |world: &mut World| world.registry.drop_oldest_unclean(world.now, &mut effects);
    assert_eq!(push_out(&mut world), Some(clones[0]));
    assert_eq!(push_out(&mut world), Some(clones[1]));
    assert_eq!(push_out(&mut world), None, "a clone in use is never taken");
    let alerts = effects.iter().filter(|effect| matches!(effect, Effect::Alert { .. })).count();
    assert_eq!(alerts, 2);
    assert_eq!(world.registry.next_deadline(), None);
}

#[test]
fn at_the_limit_of_clones_the_oldest_held_makes_room_and_else_the_newcomer_is_refused() {
    let mut world = World::new(TargetPolicy { max_clones: 2, ..TargetPolicy::default() });
    let (first, linux) = booted(&mut world, "iqn.1", 1);
    world.end(&linux, End::Dropped);
    booted(&mut world, "iqn.2", 2);
    let third = world.firmware("iqn.3", 3, 3);
    let Decision::Refuse(refusal) = world.login(&third) else { panic!("the first may be back any moment") };
    assert_eq!(refusal.reason, RefusalReason::TooManyClones);
    world.tick(120 * SECOND);
    let third = world.firmware("iqn.3", 3, 3);
    attached(world.login(&third));
    assert_eq!(world.dropped(), [first]);
    assert!(world.alerted(AlertKind::PushedOut));
    let fourth = world.firmware("iqn.4", 4, 4);
    let Decision::Refuse(refusal) = world.login(&fourth) else { panic!("a clone too many") };
    assert_eq!((refusal.reason, refusal.status.code()), (RefusalReason::TooManyClones, 0x0302));
    assert!(world.effects.is_empty() && world.state("iqn.4").is_none(), "a refused login leaves nothing");
    // A machine that reboots needs no room: its old clone goes.
    let reset = world.firmware("iqn.2", 9, 2);
    assert!(attached(world.login_silent(&reset)).1);
    assert_eq!(world.registry.clones(TARGET), 2);
}

#[test]
fn a_reset_by_hand_makes_the_next_login_a_first_contact() {
    let mut world = world();
    let (clone, linux) = booted(&mut world, "iqn.m", 1);
    let mut effects = Vec::new();
    let now = world.now;
    assert_eq!(world.registry.reset(TARGET, "iqn.m", now, &mut effects), ResetOutcome::InUse(at(1)));
    assert!(effects.is_empty());
    world.end(&linux, End::Dropped);
    assert_eq!(world.registry.reset(TARGET, "IQN.M", now, &mut effects), ResetOutcome::Reset);
    assert_eq!(effects[0], Effect::DropClone { clone, owner_shard: 3 });
    assert!(matches!(&effects[1], Effect::Forget(key) if key.initiator == "iqn.m"));
    assert_eq!(world.registry.reset(TARGET, "iqn.m", now, &mut effects), ResetOutcome::NotFound);
    assert_eq!(world.registry.next_deadline(), None);
    let linux = world.linux("iqn.m", 1);
    assert!(attached(world.login(&linux)).1);
}

#[test]
fn names_are_compared_without_case_and_addresses_without_mapping() {
    let mut world = world();
    let (clone, _) = booted(&mut world, "iqn.m", 1);
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    let again = world.facts("IQN.M", LoginStage::Os, ipxe(1), mapped);
    assert_eq!(attached(world.login_silent(&again)).0, clone);
}

#[test]
fn targets_keep_their_initiators_apart() {
    let mut world = world();
    world.registry.add_target(TargetId(2), "rescue", TargetPolicy::default());
    let (clone, _) = booted(&mut world, "iqn.m", 1);
    let mut other = world.linux("iqn.m", 1);
    other.target = TargetId(2);
    let (other_clone, fresh, _) = attached(world.login(&other));
    assert!(fresh && other_clone != clone);
    other.target = TargetId(3);
    other.session.0 += 1;
    assert_eq!(refused(world.login(&other)), RefusalReason::UnknownTarget);
}

#[test]
fn a_target_added_later_takes_up_its_records() {
    let mut world = world();
    booted(&mut world, "iqn.m", 1);
    world.registry = stampede_image::epoch::Registry::restore(world.records.values().cloned());
    assert_eq!(world.registry.list().count(), 0);
    world.registry.add_target(TARGET, "debian", world.policy);
    assert_eq!(world.state("iqn.m"), Some(EpochState::Lost));
}

#[test]
fn one_session_is_attached_once() {
    let mut world = world();
    let (_, linux) = booted(&mut world, "iqn.m", 1);
    assert_eq!(refused(world.login(&linux)), RefusalReason::SessionInUse);
    let stray = world.linux("iqn.m", 1);
    world.end(&stray, End::Logout);
    assert!(world.effects.is_empty(), "a session without a clone ends without effect");
}
