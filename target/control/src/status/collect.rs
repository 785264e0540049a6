//! From the shards' reports and the registrar's tables to a [`Status`].

use super::{
    AdmissionStatus, AlertStatus, CloneStatus, FeatureStatus, HomeStatus, InterruptStatus, Latency,
    LatencyPair, LunStatus, PlacementStatus, PortalStatus, SessionStatus, ShardStatus, Status,
    SteeringStatus, TargetStatus, Traffic, Usage,
};
use crate::config::Limits;
use crate::registrar::{Backing, CloneView, Registrar};
use crate::socket::AccessName;
use hdrhistogram::Histogram;
use stampede_engine::messages::{LunId, LunReport, ShardId, ShardReport};
use stampede_image::epoch::EpochState;
use stampede_session::{LoginStage, SessionId};
use stampede_steer::reuseport::{PortalReport, Steering, Step};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One second in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

/// What does not change while the target runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The program's version.
    pub version: String,
    /// When it started, in monotonic nanoseconds.
    pub started_ns: u64,
    /// Where epochs are kept.
    pub state_store: Option<PathBuf>,
    /// How often that store was opened.
    pub run: u64,
    /// Addresses listened on.
    pub listen: Vec<SocketAddr>,
    /// How new connections find their shard; asked anew for each status.
    pub steering: Arc<Steering>,
    /// The shards' cores, in the order of their numbers.
    pub cores: Vec<u16>,
    /// The shards' nodes and memory, in the order of their numbers.
    pub homes: Vec<HomeStatus>,
    /// The limits.
    pub limits: Limits,
    /// The images, by the operator's names.
    pub images: BTreeMap<String, ImageFacts>,
    /// What the kernel can do.
    pub kernel: Vec<FeatureStatus>,
    /// Interrupts of network cards.
    pub interrupts: Vec<InterruptStatus>,
}

/// One published image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its file or device.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whether it may not be written.
    pub read_only: bool,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Why it does not bypass the page cache, if it does not.
    pub buffered_reason: Option<String>,
    /// Whether it bypasses the page cache.
    pub direct_io: bool,
}

/// Puts a status together; shards that did not report are marked so. The caller fills in what only it knows: `pid`,
/// `draining`, `arena`, `scratch`, `goldens` and `alerts`.
#[must_use]
pub fn collect(facts: &Facts, registrar: &Registrar, reports: &[ShardReport], now: u64) -> Status {
    let luns: BTreeMap<LunId, (ShardId, &LunReport)> =
        reports.iter().flat_map(|r| r.luns.iter().map(move |lun| (lun.lun, (r.shard, lun)))).collect();
    let clones: Vec<_> = registrar.clones().map(|view| (clone_status(&view, &luns, now), view)).collect();
    let sessions = session_statuses(registrar, reports);
    Status {
        version: facts.version.clone(),
        pid: 0,
        uptime_s: now.saturating_sub(facts.started_ns) / SECOND_NS,
        state_store: facts.state_store.clone(),
        run: facts.run,
        draining: false,
        listen: facts.listen.clone(),
        steering: steering_status(&facts.steering),
        arena: Usage::default(),
        scratch: None,
        cache: cache(reports),
        held_logins: registrar.held_logins(),
        admission: AdmissionStatus::new(
            registrar.admission_counts(now),
            reports.iter().map(|report| report.counters.logins_displaced).sum(),
            facts.limits,
        ),
        placement: placement_status(registrar),
        latency: LatencyPair {
            read: latency(reports.iter().map(|r| &r.read_latency_ns)),
            write: latency(reports.iter().map(|r| &r.write_latency_ns)),
        },
        shards: shard_statuses(facts, reports),
        targets: target_statuses(facts, registrar, &luns, &clones, &sessions),
        goldens: Vec::new(),
        sessions,
        clones: clones.into_iter().map(|(status, _)| status).collect(),
        kernel: facts.kernel.clone(),
        interrupts: facts.interrupts.clone(),
        alerts: Vec::<AlertStatus>::new(),
    }
}

fn placement_status(registrar: &Registrar) -> PlacementStatus {
    let (loads, bound) = registrar.loads();
    let counts = registrar.move_counts();
    PlacementStatus {
        loads: loads.to_vec(),
        bound,
        handed_over: counts.handed_over,
        hand_overs_failed: counts.hand_overs_failed,
        moved: counts.moved,
        moves_failed: counts.moves_failed,
        pending: registrar.moves_pending(),
        rebalancing: registrar.is_rebalancing(),
    }
}

/// The initiator name of a session; empty when there is no such session.
#[must_use]
pub fn initiator_of(registrar: &Registrar, session: SessionId) -> String {
    registrar.session(session).map(|entry| entry.initiator.clone()).unwrap_or_default()
}

fn latency<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Latency {
    let mut all: Option<Histogram<u64>> = None;
    for histogram in histograms {
        match &mut all {
            None => all = Some(histogram.clone()),
            // Shards make their histograms alike; one that does not fit is better left out than no status.
            Some(all) => drop(all.add(histogram)),
        }
    }
    let Some(all) = all else { return Latency::default() };
    let us = |ns: u64| ns as f64 / 1000.0;
    Latency {
        count: all.len(),
        p50_us: us(all.value_at_quantile(0.5)),
        p99_us: us(all.value_at_quantile(0.99)),
        p999_us: us(all.value_at_quantile(0.999)),
        max_us: us(all.max()),
    }
}

fn steering_status(steering: &Steering) -> SteeringStatus {
    let portal = |PortalReport { address, program_id, chosen }| {
        let chosen = chosen.unwrap_or_default();
        PortalStatus {
            address,
            program: program_id,
            by_cpu: chosen.by_cpu,
            by_hash: chosen.by_hash,
            by_kernel: chosen.by_kernel,
        }
    };
    let step = match steering.step() {
        Step::OneShard => "one-shard",
        Step::PlainReuseport => "plain-reuseport",
        Step::ReuseportByCpu => "reuseport-by-cpu",
    };
    SteeringStatus {
        step: step.to_owned(),
        reason: steering.reason().to_owned(),
        portals: steering.portals().into_iter().map(portal).collect(),
    }
}

/// The golden cache's memory, of all homes together.
fn cache(reports: &[ShardReport]) -> Usage {
    let sum = |of: fn(&ShardReport) -> u64| reports.iter().map(of).sum();
    Usage { used_bytes: sum(|report| report.cache_bytes.0), limit_bytes: sum(|report| report.cache_bytes.1) }
}

fn shard_statuses(facts: &Facts, reports: &[ShardReport]) -> Vec<ShardStatus> {
    let one = |(number, core): (u16, &u16)| {
        let home = facts.homes.get(usize::from(number)).cloned().unwrap_or_default();
        let Some(report) = reports.iter().find(|report| report.shard == ShardId(number)) else {
            return ShardStatus { shard: number, core: *core, home, ..ShardStatus::default() };
        };
        ShardStatus {
            shard: number,
            core: *core,
            home,
            answered: true,
            sessions: report.sessions.len(),
            buffers: Usage { used_bytes: report.buffers_bytes.0, limit_bytes: report.buffers_bytes.1 },
            latency: LatencyPair {
                read: latency(std::iter::once(&report.read_latency_ns)),
                write: latency(std::iter::once(&report.write_latency_ns)),
            },
            counters: report.counters.each().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    };
    (0..).zip(&facts.cores).map(one).collect()
}

fn session_statuses(registrar: &Registrar, reports: &[ShardReport]) -> Vec<SessionStatus> {
    let known: BTreeMap<_, _> = registrar.sessions().collect();
    let all =
        reports.iter().flat_map(|report| report.sessions.iter().map(move |session| (report.shard, session)));
    all.map(|(shard, session)| {
        let entry = known.get(&session.session);
        let stage = entry.map(|entry| match entry.stage {
            LoginStage::Firmware => "firmware",
            LoginStage::Os => "os",
        });
        SessionStatus {
            session: session.session.0,
            shard: shard.0,
            moving_to: registrar.destination(session.session).map(|shard| shard.0),
            moves: entry.map_or(0, |entry| entry.moves),
            initiator: session.initiator.clone(),
            user: session.user.clone(),
            target: session.target.clone(),
            peer: session.peer,
            stage: stage.unwrap_or_default().to_owned(),
            tsih: entry.and_then(|entry| entry.tsih).unwrap_or(0),
            commands: session.commands,
            read_bytes: session.read_bytes,
            written_bytes: session.written_bytes,
            tasks: session.tasks,
        }
    })
    .collect()
}

fn clone_status(view: &CloneView, luns: &BTreeMap<LunId, (ShardId, &LunReport)>, now: u64) -> CloneStatus {
    let reports = || view.luns.iter().filter_map(|(_, lun)| luns.get(lun)).map(|(_, report)| *report);
    let (state, expires_in_s) = match view.epoch.state {
        EpochState::Attached { .. } => ("attached", None),
        EpochState::Held { until, .. } => ("held", Some(until.saturating_sub(now) / SECOND_NS)),
        EpochState::Lost => ("lost", None),
        EpochState::Dropped => ("dropped", None),
    };
    CloneStatus {
        target: view.target.clone(),
        initiator: view.epoch.initiator.clone(),
        epoch: view.epoch.epoch,
        stage: view.epoch.stage.to_string(),
        state: state.to_owned(),
        shard: view.owner.map(|shard| shard.0),
        sessions: view.sessions,
        overlay_bytes: reports().map(|report| report.overlay_bytes).sum(),
        spilled_bytes: reports().map(|report| report.spilled_bytes).sum(),
        expires_in_s,
        traffic: reports().fold(Traffic::default(), add),
    }
}

fn add(sum: Traffic, report: &LunReport) -> Traffic {
    Traffic {
        reads: sum.reads.saturating_add(report.reads),
        writes: sum.writes.saturating_add(report.writes),
        read_bytes: sum.read_bytes.saturating_add(report.read_bytes),
        written_bytes: sum.written_bytes.saturating_add(report.written_bytes),
        failed: sum.failed.saturating_add(report.failed),
    }
}

fn target_statuses(
    facts: &Facts,
    registrar: &Registrar,
    luns: &BTreeMap<LunId, (ShardId, &LunReport)>,
    clones: &[(CloneStatus, CloneView)],
    sessions: &[SessionStatus],
) -> Vec<TargetStatus> {
    let lun_status = |iqn: &str, lun: &crate::registrar::TargetLun| {
        let image = facts.images.get(&lun.name).cloned().unwrap_or_default();
        let report = match &lun.backing {
            Backing::Plain(address) => luns.get(&address.lun).map(|(_, report)| *report),
            Backing::Clone { .. } => None,
        };
        let medium =
            report.filter(|_| image.removable).map_or("", |report| if report.loaded { "in" } else { "out" });
        let access = report.map(|report| AccessName::from(report.access).to_string());
        let (kind, shard, traffic) = match &lun.backing {
            Backing::Plain(address) => {
                let kind = if image.read_only { "read-only" } else { "disk" };
                (kind, Some(address.owner.0), report.into_iter().fold(Traffic::default(), add))
            }
            Backing::Clone { .. } => {
                let own =
                    clones.iter().filter(|(_, view)| view.target == iqn).flat_map(|(_, view)| &view.luns);
                let own = own.filter(|(number, _)| *number == lun.number).filter_map(|(_, id)| luns.get(id));
                ("clone", None, own.map(|(_, report)| *report).fold(Traffic::default(), add))
            }
        };
        LunStatus {
            lun: lun.number,
            name: lun.name.clone(),
            kind: kind.to_owned(),
            path: image.path,
            bytes: image.bytes,
            encrypted: image.encrypted,
            medium: medium.to_owned(),
            access: access.unwrap_or_default(),
            direct_io: image.direct_io,
            buffered_reason: image.buffered_reason,
            shard,
            traffic,
        }
    };
    let target_status = |target: &crate::registrar::Target| TargetStatus {
        iqn: target.iqn.clone(),
        sessions: sessions.iter().filter(|session| session.target == target.iqn).count(),
        clones: clones.iter().filter(|(c, _)| c.target == target.iqn && c.shard.is_some()).count(),
        luns: target.luns.iter().map(|lun| lun_status(&target.iqn, lun)).collect(),
    };
    registrar.targets().iter().map(target_status).collect()
}
