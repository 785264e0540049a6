//! The control thread between a test that plays a shard and a test that plays the control socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::queue::ArrayQueue;
use hdrhistogram::Histogram;
use stampede_control::config::{Origin, Partial, WarmRule};
use stampede_control::goldens::{Caching, RecordingFiles};
use stampede_control::identity::LunIdentity;
use stampede_control::images::Images;
use stampede_control::plan::Plan;
use stampede_control::registrar::Registrar;
use stampede_control::socket::{Request, Response};
use stampede_control::status::{Facts, render};
use stampede_control::store::Store;
use stampede_control::thread::{Command, ControlThread, Ended, Setup, ShardLink};
use stampede_engine::messages::{
    FromControl, GoldenId, GoldenReport, LunId, LunReport, MoveRefusal, SessionEnd, SessionReport, ShardId,
    ShardReport, ToControl, WarmReport, WarmState,
};
use stampede_engine::stats::Counters;
use stampede_image::cache::Ahead;
use stampede_ring::clock::monotonic_ns;
use stampede_ring::{Pool, PoolConfig};
use stampede_scsi::{AccessState, SavedState};
use stampede_session::{Admission, Announcement, LoginRequest, LoginStage, LoginStatus, SessionId};
use stampede_wire::Isid;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const IQN: &str = "iqn.2026-11.io.stampede:os";
/// The plain disk, and its target.
const DISK: LunId = LunId(0);
const DISK_IQN: &str = "iqn.2026-11.io.stampede:data";
/// The image beneath its clones.
const GOLDEN: GoldenId = GoldenId(0);
/// Only the first of them has a queue, which the test reads.
const SHARDS: u16 = 2;

struct World {
    to_control: Sender<ToControl>,
    commands: Sender<Command>,
    queue: Arc<ArrayQueue<FromControl>>,
    woken: Receiver<()>,
    thread: JoinHandle<Ended>,
    folder: tempfile::TempDir,
}

impl World {
    fn new(folder: tempfile::TempDir) -> Self {
        Self::with(folder, Caching::default())
    }

    /// One whose golden is cached, in memory of so many bytes.
    fn cached(folder: tempfile::TempDir, bytes: u64, warm: WarmRule) -> Self {
        let recordings = RecordingFiles::new(Some(folder.path()));
        let caching = Caching { goldens: [GOLDEN].into(), bytes, recordings, warm };
        Self::with(folder, caching)
    }

    fn with(folder: tempfile::TempDir, caching: Caching) -> Self {
        let golden = folder.path().join("golden.img");
        if !golden.exists() {
            std::fs::write(golden, vec![0; 1 << 20]).unwrap();
        }
        std::fs::write(folder.path().join("disk.img"), vec![0; 1 << 20]).unwrap();
        let target = |name: &str, rest: &str| {
            let text = format!("{name}={}/{rest}", folder.path().display());
            (Origin::Flag("--target"), text.parse().unwrap())
        };
        let targets = vec![target("os", "golden.img,clone=ephemeral"), target("data", "disk.img,thin")];
        let config = Partial { targets, ..Partial::default() }.finish().unwrap();
        let images = Images::open(&config).unwrap();
        let store = Store::open(&folder.path().join("state")).unwrap();
        let plan = Plan::new(&config, &images, &store, 1).unwrap();
        let queue = Arc::new(ArrayQueue::new(64));
        let (wake, woken) = bounded(1024);
        let (to_control, from_shards) = bounded(64);
        let (commands, command_queue) = bounded(64);
        let goldens = plan.goldens.iter().map(|(id, file)| (*id, images.files()[*file].try_clone().unwrap()));
        let setup = Setup {
            goldens: goldens.collect(),
            caching,
            keys: std::collections::BTreeMap::new(),
            files: plan
                .disks
                .iter()
                .map(|disk| (disk.lun, images.files()[disk.file].try_clone().unwrap()))
                .collect(),
            registrar: Registrar::new(plan.targets, store.epochs().unwrap(), plan.first_clone, SHARDS),
            store,
            units: plan.disks.into_iter().map(|disk| (disk.lun, disk.name)).collect(),
            from_shards,
            shards: vec![ShardLink::new(
                Arc::clone(&queue),
                Box::new(move || wake.try_send(()).unwrap_or(())),
            )],
            commands: command_queue,
            first: Vec::new(),
            arena: Pool::new(PoolConfig { slot_len: 4096, slots: 256 }).unwrap(),
            scratch: None,
            facts: Facts { version: "7".to_owned(), cores: vec![3], images: plan.images, ..Facts::default() },
            config: config.clone(),
            clock: monotonic_ns,
        };
        let thread = std::thread::spawn(move || ControlThread::new(setup).run());
        Self { to_control, commands, queue, woken, thread, folder }
    }

    /// The next message that is not about space, which is told whenever the file system's changes.
    fn next(&self) -> FromControl {
        loop {
            match self.any() {
                FromControl::Space { .. } => {}
                message => return message,
            }
        }
    }

    fn any(&self) -> FromControl {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(message) = self.queue.pop() {
                return message;
            }
            assert!(Instant::now() < deadline, "no message");
            let _ = self.woken.recv_timeout(Duration::from_millis(50));
        }
    }

    fn ask(&self, request: Request) -> Receiver<Response> {
        let (sender, receiver) = bounded(1);
        self.commands.send(Command::Ask(request, sender)).unwrap();
        receiver
    }

    fn login(&self, session: u64, stage: LoginStage) {
        let request = LoginRequest {
            session: SessionId(session),
            initiator: "iqn.2026-11.test:i".to_owned(),
            alias: None,
            target: IQN.to_owned(),
            user: None,
            isid: Isid([0, 0, 0, 0, 0, 1]),
            tsih: 0,
            cid: 0,
            stage,
            fingerprint: "test",
            peer: SocketAddr::from(([10, 0, 0, 1], 1000)),
            local: SocketAddr::from(([10, 0, 0, 2], 3260)),
        };
        self.to_control.send(ToControl::Login { shard: ShardId(0), request }).unwrap();
    }

    /// Answers a request for a report as a shard with one session and one clone would.
    fn report(&self, request: u64, lun: LunId) {
        let mut latency = Histogram::new_with_bounds(100, 60_000_000_000, 3).unwrap();
        latency.record(250_000).unwrap();
        let session = SessionReport {
            session: SessionId(1),
            user: String::new(),
            initiator: "iqn.2026-11.test:i".to_owned(),
            target: IQN.to_owned(),
            peer: SocketAddr::from(([10, 0, 0, 1], 1000)),
            commands: 5,
            read_bytes: 4096,
            written_bytes: 8192,
            tasks: 0,
        };
        let lun = LunReport {
            lun,
            blocks: 2048,
            loaded: true,
            access: AccessState::default(),
            reads: 1,
            writes: 2,
            read_bytes: 4096,
            written_bytes: 8192,
            overlay_bytes: 8192,
            spilled_bytes: 0,
            failed: 0,
        };
        let report = ShardReport {
            request,
            shard: ShardId(0),
            counters: Counters { commands: 5, ..Counters::default() },
            read_latency_ns: latency.clone(),
            write_latency_ns: latency,
            sessions: vec![session],
            luns: vec![lun],
            buffers_bytes: (1, 2),
            cache_bytes: (3, 4),
            goldens: vec![GoldenReport {
                golden: GOLDEN,
                resident: 5,
                ahead: Ahead { read: 4, unused: 1, wasted: 1 },
                warming: Some(WarmReport { state: WarmState::Reading, blocks: 8, done: 4, failed: 0 }),
            }],
        };
        self.to_control.send(ToControl::Report(Box::new(report))).unwrap();
    }

    fn kill(self) -> tempfile::TempDir {
        let why = "test".to_owned();
        self.commands.send(Command::ShardFailed { shard: ShardId(0), why }).unwrap();
        assert!(matches!(self.thread.join().unwrap(), Ended::Failed(_)));
        self.folder
    }
}

#[test]
fn a_login_is_admitted_shown_and_remembered() {
    let world = World::new(tempfile::tempdir().unwrap());
    world.login(1, LoginStage::Os);
    let FromControl::CreateClone { lun, device, .. } = world.next() else { panic!() };
    assert_eq!(device.identity.naa, LunIdentity::derive(IQN, 0).of_clone("iqn.2026-11.test:i").naa);
    let FromControl::Admit { admission: Admission::Allow { .. }, luns, .. } = world.next() else { panic!() };
    assert_eq!(luns.0[0].1.lun, lun);

    let answer = world.ask(Request::Status);
    let FromControl::Report { request } = world.next() else { panic!() };
    world.report(request, lun);
    let Response::Status(status) = answer.recv_timeout(Duration::from_secs(5)).unwrap() else { panic!() };
    assert_eq!((status.shards[0].core, status.shards[0].answered), (3, true));
    assert_eq!(status.shards[0].counters["commands"], 5);
    assert_eq!(status.clones[0].state, "attached");
    assert_eq!((status.clones[0].overlay_bytes, status.clones[0].traffic.written_bytes), (8192, 8192));
    assert_eq!((status.targets[0].clones, status.targets[0].luns[0].kind.as_str()), (1, "clone"));
    assert_eq!(status.sessions[0].stage, "os");
    assert!((200.0..300.0).contains(&status.latency.read.p50_us));
    let text = render(&status);
    for part in ["iqn.2026-11.test:i", "attached", "8.00 KiB", "250 us"] {
        assert!(text.contains(part), "{text}");
    }
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<stampede_control::status::Status>(&json).unwrap(), *status);

    // After a kill -9 the running system is refused: its clone is gone.
    let world = World::new(world.kill());
    world.login(1, LoginStage::Os);
    let FromControl::Admit { admission: Admission::Refuse { status }, .. } = world.next() else { panic!() };
    assert_eq!(status, LoginStatus::AuthorizationFailure);
    world.login(2, LoginStage::Firmware);
    assert!(matches!(world.next(), FromControl::CreateClone { .. }));
    world.kill();
}

#[test]
fn a_silent_shard_is_shown_as_such() {
    let world = World::new(tempfile::tempdir().unwrap());
    let answer = world.ask(Request::CloneList);
    assert!(matches!(world.next(), FromControl::Report { .. }));
    let second = world.ask(Request::Status);
    let Response::Clones(clones) = answer.recv_timeout(Duration::from_secs(5)).unwrap() else { panic!() };
    assert!(clones.is_empty());
    let Response::Status(status) = second.recv_timeout(Duration::from_secs(5)).unwrap() else { panic!() };
    assert!(!status.shards[0].answered);
    assert!(render(&status).contains("does not answer"));
    world.kill();
}

#[test]
fn small_requests_are_answered_at_once() {
    let world = World::new(tempfile::tempdir().unwrap());
    let answer = |request| world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap();
    let Response::Config(toml) = answer(Request::Config) else { panic!() };
    assert!(toml.contains("[[target]]"));
    assert!(matches!(answer(Request::Ping), Response::Pong { version, .. } if version == "7"));
    let reset = |target: Option<&str>| {
        answer(Request::CloneReset { initiator: "iqn.X".to_owned(), target: target.map(str::to_owned) })
    };
    let Response::Error(text) = reset(None) else { panic!() };
    assert!(text.starts_with("no target knows the initiator iqn.x: `stampede clone list`"), "{text}");
    let Response::Error(text) = reset(Some("os")) else { panic!() };
    assert!(text.starts_with("target os does not know"), "{text}");
    world.kill();
}

#[test]
fn a_clone_is_reset_through_the_socket() {
    let world = World::new(tempfile::tempdir().unwrap());
    world.login(1, LoginStage::Os);
    let (FromControl::CreateClone { lun, .. }, FromControl::Admit { .. }) = (world.next(), world.next())
    else {
        panic!()
    };
    let reset = || {
        let request = Request::CloneReset { initiator: "iqn.2026-11.test:i".to_owned(), target: None };
        let Response::Reset(outcomes) = world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap()
        else {
            panic!()
        };
        outcomes[0].clone()
    };
    let in_use = reset();
    assert!(!in_use.reset && in_use.in_use_by == Some([10, 0, 0, 1].into()));
    let (shard, session) = (ShardId(0), SessionId(1));
    world.to_control.send(ToControl::SessionEnded { shard, session, end: SessionEnd::Dropped }).unwrap();
    // Both queues are read in one batch, messages first; wait until this one is surely in an earlier batch.
    world.ask(Request::Ping).recv_timeout(Duration::from_secs(1)).unwrap();
    assert!(reset().reset);
    assert!(matches!(world.next(), FromControl::DropClone { lun: dropped } if dropped == lun));
    world.kill();
}

#[test]
fn a_drain_waits_for_the_shards() {
    let world = World::new(tempfile::tempdir().unwrap());
    let deadline_ns = monotonic_ns() + 1_000_000_000;
    world.commands.send(Command::Drain { deadline_ns }).unwrap();
    assert!(matches!(world.next(), FromControl::Drain { deadline_ns: d } if d == deadline_ns));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!world.thread.is_finished());
    world.to_control.send(ToControl::Drained { shard: ShardId(0) }).unwrap();
    assert!(matches!(world.next(), FromControl::Stop));
    assert_eq!(world.thread.join().unwrap(), Ended::Drained);
}

#[test]
fn a_golden_written_to_behind_our_back_makes_no_more_clones() {
    let world = World::new(tempfile::tempdir().unwrap());
    let golden: PathBuf = world.folder.path().join("golden.img");
    let mut file = std::fs::OpenOptions::new().append(true).open(golden).unwrap();
    file.write_all(&[1; 512]).unwrap();
    world.login(1, LoginStage::Firmware);
    let FromControl::Admit { admission: Admission::Refuse { status }, .. } = world.next() else { panic!() };
    assert_eq!(status, LoginStatus::ServiceUnavailable);
    let answer = world.ask(Request::Status);
    assert!(matches!(world.next(), FromControl::Report { .. }));
    let Response::Status(status) = answer.recv_timeout(Duration::from_secs(5)).unwrap() else { panic!() };
    assert!(status.alerts[0].text.contains("was changed while in use"), "{:?}", status.alerts);
    world.kill();
}

#[test]
fn a_session_is_moved_through_the_socket_and_shown() {
    let world = World::new(tempfile::tempdir().unwrap());
    world.login(1, LoginStage::Os);
    let (FromControl::CreateClone { lun, .. }, FromControl::Admit { .. }) = (world.next(), world.next())
    else {
        panic!()
    };
    let ask = |session: &str, shard| world.ask(Request::SessionMove { session: session.to_owned(), shard });
    let said = |answer: Receiver<Response>| answer.recv_timeout(Duration::from_secs(5)).unwrap();
    let Response::Error(text) = said(ask("9", 1)) else { panic!() };
    assert!(text.contains("no session 9"), "{text}");
    let Response::Error(text) = said(ask("1", 2)) else { panic!() };
    assert!(text.contains("no shard 2"), "{text}");
    let Response::Moved(there) = said(ask("1", 0)) else { panic!() };
    assert_eq!((there.from, there.to), (0, 0));

    let session = SessionId(1);
    let answer = ask("iqn.2026-11.test:I", 1);
    let FromControl::Move { to, .. } = world.next() else { panic!() };
    let refused = ToControl::MoveFailed { session, shard: ShardId(0), why: MoveRefusal::Busy };
    world.to_control.send(refused).unwrap();
    let Response::Error(text) = said(answer) else { panic!() };
    assert!(text.starts_with("session 1 was not moved: its commands"), "{text}");

    let answer = ask("1", 1);
    assert!(matches!(world.next(), FromControl::Move { .. }));
    let moved = ToControl::Moved { session, from: ShardId(0), to, luns: vec![lun] };
    world.to_control.send(moved).unwrap();
    let Response::Moved(moved) = said(answer) else { panic!() };
    assert_eq!((moved.from, moved.to, moved.initiator.as_str()), (0, 1, "iqn.2026-11.test:i"));

    let Response::Rebalancing(plan) = said(world.ask(Request::SessionRebalance)) else { panic!() };
    assert_eq!((plan.before, plan.sessions), (vec![0, 1], vec![]));
    let answer = world.ask(Request::Status);
    let FromControl::Report { request } = world.next() else { panic!() };
    world.report(request, lun);
    let Response::Status(status) = said(answer) else { panic!() };
    let place = &status.placement;
    assert_eq!((place.moved, place.moves_failed, place.pending, place.bound), (1, 1, 0, 4));
    assert_eq!((status.sessions[0].moves, status.clones[0].shard), (1, Some(1)));
    let text = render(&status);
    assert!(text.contains("between shards: 1 sessions moved, 1 moves failed"), "{text}");
    world.kill();
}

#[test]
fn an_initiator_is_told_through_the_socket() {
    let world = World::new(tempfile::tempdir().unwrap());
    let ask = |request| world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap();
    let Response::Error(text) = ask(Request::SessionDrop { session: "1".to_owned() }) else { panic!() };
    assert!(text.starts_with("there is no session 1"), "{text}");
    world.login(1, LoginStage::Os);
    while !matches!(world.next(), FromControl::Admit { .. }) {}
    let name = || "iqn.2026-11.test:i".to_owned();
    for (request, what) in [
        (Request::SessionLogout { session: name(), seconds: 7 }, Announcement::Logout { seconds: 7 }),
        (
            Request::SessionRenegotiate { session: "1".to_owned(), seconds: 3 },
            Announcement::Renegotiate { seconds: 3 },
        ),
        (Request::SessionDrop { session: "1".to_owned() }, Announcement::DropSession),
    ] {
        let Response::Told(told) = ask(request) else { panic!() };
        assert_eq!((told.session, told.initiator), (1, name()));
        let FromControl::Announce { session, what: told } = world.next() else { panic!() };
        assert_eq!((session, told), (SessionId(1), what));
    }
    world.kill();
}

#[test]
fn who_asked_for_a_move_that_hangs_is_told() {
    let world = World::new(tempfile::tempdir().unwrap());
    world.login(1, LoginStage::Os);
    let (FromControl::CreateClone { .. }, FromControl::Admit { .. }) = (world.next(), world.next()) else {
        panic!()
    };
    let answer = world.ask(Request::SessionMove { session: "1".to_owned(), shard: 1 });
    assert!(matches!(world.next(), FromControl::Move { .. }));
    let Response::Error(text) = answer.recv_timeout(Duration::from_secs(8)).unwrap() else { panic!() };
    assert!(text.contains("still on its way to shard 1 after 4 s"), "{text}");
    world.kill();
}

#[test]
fn a_units_state_is_stored_before_it_is_said_to_be() {
    let world = World::new(tempfile::tempdir().unwrap());
    let state = vec![1, 3, 0, 0, 0, 1, 2];
    let save = |lun, number| {
        let state = state.clone();
        world.to_control.send(ToControl::Save { shard: ShardId(0), lun, number, state }).unwrap();
        let FromControl::Saved { lun: of, number: which, durable } = world.next() else { panic!() };
        assert_eq!((of, which), (lun, number));
        durable
    };
    assert!(save(DISK, 7));
    // A clone has no place in the store: it is not offered APTPL.
    assert!(!save(LunId(77), 8));
    let folder = world.kill();
    let store = Store::open(&folder.path().join("state")).unwrap();
    assert_eq!(store.unit_state(DISK_IQN, 0).unwrap(), SavedState::decode(&state).unwrap());
}

/// Ends the session and its clone, as the operator's reset does.
fn drop_clone(world: &World, session: u64, lun: LunId) {
    let ended = SessionId(session);
    let end = SessionEnd::Dropped;
    world.to_control.send(ToControl::SessionEnded { shard: ShardId(0), session: ended, end }).unwrap();
    world.ask(Request::Ping).recv_timeout(Duration::from_secs(1)).unwrap();
    let request = Request::CloneReset { initiator: "iqn.2026-11.test:i".to_owned(), target: None };
    assert!(matches!(world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap(), Response::Reset(_)));
    assert!(matches!(world.next(), FromControl::DropClone { lun: dropped } if dropped == lun));
    world.to_control.send(ToControl::CloneDropped { lun }).unwrap();
    world.ask(Request::Ping).recv_timeout(Duration::from_secs(1)).unwrap();
}

#[test]
fn the_first_clone_is_recorded_and_the_next_has_its_golden_read_ahead() {
    let world = World::cached(tempfile::tempdir().unwrap(), 1 << 30, WarmRule::Off);
    world.login(1, LoginStage::Os);
    let FromControl::CreateClone { lun, .. } = world.next() else { panic!() };
    assert!(matches!(world.next(), FromControl::Record { lun: recorded } if recorded == lun));
    assert!(matches!(world.next(), FromControl::Admit { .. }));
    let uses = vec![(9, monotonic_ns()), (3, monotonic_ns() + 2_000_000)];
    world.to_control.send(ToControl::Recorded { lun, uses }).unwrap();
    drop_clone(&world, 1, lun);

    // The machine went away, so another is recorded, but what there is helps it.
    world.login(2, LoginStage::Os);
    let FromControl::CreateClone { lun, .. } = world.next() else { panic!() };
    assert!(matches!(world.next(), FromControl::Record { .. }));
    assert!(matches!(world.next(), FromControl::Admit { .. }));
    let FromControl::Warm { golden: GOLDEN, route, paced: true } = world.next() else { panic!() };
    assert_eq!(route.order(), [3, 9]);
    drop_clone(&world, 2, lun);
    // Soon after it is not read ahead again, and another process finds the recording.
    world.login(3, LoginStage::Os);
    for _ in 0..3 {
        assert!(!matches!(world.next(), FromControl::Warm { .. }));
    }
    let world = World::cached(world.kill(), 1 << 30, WarmRule::Auto);
    let FromControl::Warm { route, paced: false, .. } = world.next() else { panic!() };
    assert_eq!(route.order(), [3, 9]);
    world.kill();
}

#[test]
fn goldens_are_warmed_recorded_and_forgotten_through_the_socket() {
    let world = World::cached(tempfile::tempdir().unwrap(), 1 << 20, WarmRule::Off);
    let ask = |request| world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap();
    let warm = |golden: &str| ask(Request::GoldenWarm { golden: golden.to_owned(), all: false });
    assert_eq!(warm("os"), Response::Golden("whole image".to_owned()));
    let FromControl::Warm { route, paced: false, .. } = world.next() else { panic!() };
    assert_eq!(route.order().len(), 32);
    assert_eq!(warm(IQN), Response::Golden("whole image".to_owned()));
    assert!(matches!(world.next(), FromControl::Warm { .. }));
    for (name, what) in [("nothing", "no golden `nothing`"), ("data", "a plain image")] {
        let Response::Error(text) = warm(name) else { panic!() };
        assert!(text.contains(what), "{text}");
    }
    assert!(matches!(ask(Request::GoldenRecord { golden: "os".to_owned() }), Response::Golden(_)));
    assert!(matches!(ask(Request::GoldenForget { golden: "os".to_owned() }), Response::Golden(_)));
    assert!(matches!(world.next(), FromControl::StopWarming { golden: GOLDEN }));

    let answer = world.ask(Request::GoldenList);
    let FromControl::Report { request } = world.next() else { panic!() };
    world.report(request, LunId(9));
    // The other shard of this world never reports.
    let Response::Goldens(goldens) = answer.recv_timeout(Duration::from_secs(5)).unwrap() else { panic!() };
    let golden = &goldens[0];
    assert_eq!(
        (golden.names.join(","), golden.cached, golden.cached_bytes),
        ("os".to_owned(), true, 5 << 15)
    );
    let ahead = &golden.prefetch;
    assert_eq!((ahead.read, ahead.used, ahead.unused, ahead.wasted), (4, 2, 1, 1));
    assert_eq!((ahead.state.as_str(), ahead.blocks, ahead.done), ("reading", 8, 4));
    world.kill();
}

#[test]
fn a_golden_that_cannot_be_warmed_says_why() {
    let refused = |world: &World| {
        let request = Request::GoldenWarm { golden: "os".to_owned(), all: true };
        let Response::Error(text) = world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap() else {
            panic!()
        };
        text
    };
    let world = World::cached(tempfile::tempdir().unwrap(), 1 << 19, WarmRule::All);
    assert!(refused(&world).contains("give a larger --cache"));
    world.kill();
    let world = World::new(tempfile::tempdir().unwrap());
    assert!(refused(&world).contains("--cache 0"));
    world.kill();
}

#[test]
fn a_golden_that_changes_is_noticed_without_a_login_and_not_read_any_more() {
    let world = World::cached(tempfile::tempdir().unwrap(), 1 << 30, WarmRule::Off);
    world.login(1, LoginStage::Os);
    let FromControl::CreateClone { lun, .. } = world.next() else { panic!() };
    assert!(matches!((world.next(), world.next()), (FromControl::Record { .. }, FromControl::Admit { .. })));
    let golden: PathBuf = world.folder.path().join("golden.img");
    std::fs::OpenOptions::new().append(true).open(golden).unwrap().write_all(&[1; 512]).unwrap();
    assert!(matches!(world.next(), FromControl::StopWarming { golden: GOLDEN }));
    assert!(matches!(world.next(), FromControl::StopRecording { lun: recorded } if recorded == lun));
    let request = Request::GoldenWarm { golden: "os".to_owned(), all: false };
    let Response::Error(text) = world.ask(request).recv_timeout(Duration::from_secs(1)).unwrap() else {
        panic!()
    };
    assert!(text.contains("was changed behind our back"), "{text}");
    world.kill();
}

#[test]
fn the_space_of_a_thin_unit_is_told_when_it_changes() {
    let world = World::new(tempfile::tempdir().unwrap());
    let used = || loop {
        match world.any() {
            FromControl::Space { units } => match units.first() {
                Some((DISK, space)) => break space.used_bytes,
                Some(other) => panic!("{other:?}"),
                None => {}
            },
            message => panic!("{message:?}"),
        }
    };
    let before = used();
    let mut image =
        std::fs::OpenOptions::new().append(true).open(world.folder.path().join("disk.img")).unwrap();
    image.write_all(&vec![1; 4 << 20]).unwrap();
    image.sync_all().unwrap();
    // What others write to the file system is told, too.
    while used() < before + (4 << 20) {}
    world.kill();
}
