//! Random lives: machines boot, run, lose their network, are reset and switched off; sessions are reaped late; the
//! target restarts. Some machines share a name, in half of the runs all share an address (NAT).

use stampede_image::epoch::{End, LoginStage, SECOND};

use crate::site::{Life, Site};

const SEEDS: u64 = 3000;
const STEPS: usize = 200;

/// What the runs together must have met, or they prove little.
const MUST_SEE: [&str; 21] = [
    "alert",
    "cut",
    "expired",
    "firmware, fresh",
    "firmware, kept",
    "listened",
    "logged out",
    "pinged",
    "pushed out",
    "reaped",
    "refused: dropped",
    "refused: lost",
    "refused: may return",
    "refused: too many clones",
    "refused: two machines",
    "reset by hand",
    "reset by peer",
    "restarted",
    "system, fresh",
    "system, kept",
    "taken over",
];

/// One thing happens to one machine, as its life allows.
fn live(site: &mut Site, index: usize) {
    let dice = site.random.u8(..100);
    let machine = &site.machines[index];
    match (machine.life, machine.connected) {
        (Life::Off, _) => power_on(site, index),
        (_, false) if dice < 60 => site.machines[index].connected = true,
        (_, true) if dice < 8 => {
            site.saw("cut");
            site.machines[index].connected = false;
        }
        (_, _) if dice < 16 => switch_off(site, index, dice),
        (_, false) => {}
        (Life::Firmware { .. }, true) => firmware_goes_on(site, index, dice),
        (Life::Starting, true) => {
            // Starting a kernel takes longer than firmware may pause.
            site.pass(2 * SECOND);
            if site.login(index, LoginStage::Os) {
                site.machines[index].life = Life::Running;
            }
        }
        (Life::Running, true) => system_goes_on(site, index, dice),
    }
}

fn power_on(site: &mut Site, index: usize) {
    let machine = &mut site.machines[index];
    machine.boot += 1;
    machine.session = None;
    machine.disk = None;
    machine.connected = true;
    machine.life = if machine.firmware { Life::Firmware { reading: true } } else { Life::Starting };
}

/// Without a word, or with a Logout first; or a warm reset, which is both ends of it.
fn switch_off(site: &mut Site, index: usize, dice: u8) {
    let machine = &site.machines[index];
    let may_log_out = machine.connected && machine.life == Life::Running && dice.is_multiple_of(2);
    if may_log_out && let Some(session) = machine.session {
        site.saw("logged out");
        site.end(session, End::Logout);
    }
    site.machines[index].life = Life::Off;
    if dice.is_multiple_of(3) {
        power_on(site, index);
    }
}

fn firmware_goes_on(site: &mut Site, index: usize, dice: u8) {
    match (site.machines[index].session, dice) {
        (None, _) => {
            site.login(index, LoginStage::Firmware);
        }
        // iPXE closes and logs in again.
        (Some(session), ..40) => {
            site.end(session, End::Dropped);
            site.login(index, LoginStage::Firmware);
        }
        (Some(_), ..60) => {
            let reading = site.random.bool();
            site.machines[index].life = Life::Firmware { reading };
        }
        // The firmware's session stays behind, with or without an end.
        (Some(session), ..80) => {
            if dice.is_multiple_of(2) {
                site.end(session, End::Dropped);
            }
            site.machines[index].life = Life::Starting;
        }
        (Some(_), _) => {}
    }
}

fn system_goes_on(site: &mut Site, index: usize, dice: u8) {
    match (site.machines[index].session, dice) {
        // Its session was cut: it logs in again.
        (None, _) => {
            site.login(index, LoginStage::Os);
        }
        // It takes its own session over, or gives up on it while the target still has it.
        (Some(session), ..40) => {
            site.saw("taken over");
            if dice.is_multiple_of(2) {
                site.end(session, End::Dropped);
            }
            site.machines[index].session = None;
            site.login(index, LoginStage::Os);
        }
        (Some(_), _) => {}
    }
}

fn run(seed: u64) -> Site {
    let mut site = Site::new(seed);
    for _ in 0..STEPS {
        match site.random.u8(..100) {
            ..80 => {
                let index = site.random.usize(..site.machines.len());
                live(&mut site, index);
            }
            80..88 => site.reap(),
            88..95 => {
                let seconds = if site.random.u8(..8) == 0 { 700 } else { 40 };
                let time = site.random.u64(..seconds * SECOND);
                site.pass(time);
            }
            95..97 => site.push_out(),
            97..99 => {
                let index = site.random.usize(..site.machines.len());
                site.reset_by_hand(index);
            }
            _ => site.restart(),
        }
        site.check();
    }
    site
}

#[test]
fn no_life_breaks_a_promise() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..SEEDS {
        let done = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed} fails"));
        for (what, count) in done.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    for what in MUST_SEE {
        assert!(seen.get(what).is_some_and(|&count: &u64| count >= 50), "{what} was hardly seen: {seen:?}");
    }
}
