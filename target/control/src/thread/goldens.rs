//! Goldens that are cached: recording their first boots, reading them ahead, and noticing their changes.

use super::ControlThread;
use crate::goldens::{Recorder, Use, replaces};
use crate::images::{golden_change, golden_identity};
use crate::registrar::{Backing, Outbox};
use crate::socket::Response;
use crate::status::{GoldenStatus, PrefetchStatus, RecordingStatus};
use stampede_engine::messages::{FromControl, GoldenId, LunId, ShardId, ShardReport, WarmState};
use stampede_image::cache::BLOCK;
use stampede_image::recording::{Recording, Route};
use stampede_ring::file::OpenedFile;
use std::collections::BTreeMap;

/// How often goldens are looked at, and recordings.
const LOOK_NS: u64 = 1_000_000_000;
/// How soon logins begin to read a golden ahead again, if that is over: what they want is mostly still there.
const AGAIN_NS: u64 = 10_000_000_000;

/// What is known of one cached golden.
#[derive(Debug, Default)]
struct Golden {
    recording: Option<Recording>,
    recorder: Recorder,
    /// The recording that is there is to be replaced.
    anew: bool,
    /// When it was last read ahead for a login.
    warmed_ns: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Goldens {
    cached: BTreeMap<GoldenId, Golden>,
    looked_ns: u64,
}

impl ControlThread {
    /// Finds the recordings of earlier runs.
    pub(super) fn find_recordings(&mut self) {
        for (id, file) in &self.setup.goldens {
            if !self.setup.caching.goldens.contains(id) {
                continue;
            }
            let recording = self.setup.caching.recordings.load(file.path(), &golden_identity(file));
            let recorder = match &recording {
                Some(recording) if recording.complete => Recorder::Idle,
                _ => Recorder::Armed,
            };
            self.goldens.cached.insert(*id, Golden { recording, recorder, ..Golden::default() });
        }
    }

    /// Reads what is to be read at the start.
    pub(super) fn warm_at_start(&mut self) {
        let whole = match self.setup.caching.warm {
            crate::config::WarmRule::Off => return,
            crate::config::WarmRule::Auto => false,
            crate::config::WarmRule::All => true,
        };
        for golden in self.goldens.cached.keys().copied().collect::<Vec<_>>() {
            if let Err(why) = self.warm(golden, whole) {
                tracing::warn!("not read at the start: {why}");
            }
        }
    }

    fn file(&self, golden: GoldenId) -> Option<&OpenedFile> {
        self.setup.goldens.iter().find(|(id, _)| *id == golden).map(|(_, file)| file)
    }

    fn route(&self, golden: GoldenId, whole: bool) -> Route {
        match self.goldens.cached.get(&golden).and_then(|golden| golden.recording.as_ref()).filter(|_| !whole)
        {
            Some(recording) => recording.route(),
            None => Route::whole(self.file(golden).map_or(0, |file| file.traits().len_bytes)),
        }
    }

    fn tell_shards(&mut self, message: impl Fn() -> FromControl) {
        self.setup.shards.iter_mut().for_each(|link| link.send(message()));
    }

    /// Has all shards read a golden, or what was recorded of it.
    fn warm(&mut self, golden: GoldenId, whole: bool) -> Result<(), String> {
        let name = self.golden_names(golden).join(", ");
        if self.setup.registrar.is_changed(golden) {
            return Err(format!("the golden of {name} was changed behind our back: restart stampede"));
        }
        let route = self.route(golden, whole);
        let (needed, cache) = (route.order().len() as u64 * BLOCK, self.setup.caching.bytes);
        if needed > cache {
            return Err(format!(
                "{needed} bytes of the golden of {name} are to be read, and the cache has {cache}: give a larger --cache{}",
                if whole { ", or read what was recorded only" } else { "" }
            ));
        }
        self.tell_shards(|| FromControl::Warm { golden, route: route.clone(), paced: false });
        Ok(())
    }

    /// The clones that were made in this batch: the first of a golden is recorded, and the next have it read ahead.
    pub(super) fn meet_clones(&mut self, out: &mut Outbox, now: u64) {
        if !out.messages.iter().any(|(_, message)| matches!(message, FromControl::CreateClone { .. })) {
            return;
        }
        let mut warm: Vec<GoldenId> = Vec::new();
        let mut messages = Vec::with_capacity(out.messages.len() + 1);
        for (shard, message) in out.messages.drain(..) {
            let made = match &message {
                FromControl::CreateClone { lun, golden, .. } => Some((*lun, *golden)),
                _ => None,
            };
            messages.push((shard, message));
            let Some((lun, id)) = made else { continue };
            let Some(golden) = self.goldens.cached.get_mut(&id) else { continue };
            if golden.recorder.clone_made(lun, now) {
                messages.push((shard, FromControl::Record { lun }));
            }
            let rested = golden.warmed_ns.is_none_or(|at| now.saturating_sub(at) >= AGAIN_NS);
            if golden.recording.is_some() && rested {
                golden.warmed_ns = Some(now);
                warm.push(id);
            }
        }
        for golden in warm.into_iter().filter(|golden| !self.setup.registrar.is_changed(*golden)) {
            let route = self.route(golden, false);
            for shard in 0..self.setup.shards.len() {
                let message = FromControl::Warm { golden, route: route.clone(), paced: true };
                // There are far fewer than 2^16 shards.
                messages.push((ShardId(shard as u16), message));
            }
        }
        out.messages = messages;
    }

    /// What a clone that is recorded has used.
    pub(super) fn take_recorded(&mut self, lun: LunId, uses: &[(u32, u64)]) {
        self.goldens.cached.values_mut().for_each(|golden| golden.recorder.recorded(lun, uses));
    }

    /// A clone is gone, and with it its recording.
    pub(super) fn recorded_is_gone(&mut self, lun: LunId) {
        let mut cached = self.goldens.cached.iter();
        if let Some((id, _)) = cached.find(|(_, golden)| golden.recorder.lun() == Some(lun)) {
            self.close_recording(*id, false);
        }
    }

    /// Looks, now and then, whether recordings are over and goldens are still what they were.
    pub(super) fn look_at_goldens(&mut self, now: u64, out: &mut Outbox) {
        if now.saturating_sub(self.goldens.looked_ns) < LOOK_NS {
            return;
        }
        self.goldens.looked_ns = now;
        let all: Vec<GoldenId> = self.setup.goldens.iter().map(|(id, _)| *id).collect();
        self.check_goldens(&all, out);
        let mut over = Vec::new();
        for (id, golden) in &self.goldens.cached {
            let Some(lun) = golden.recorder.lun() else { continue };
            let by = if self.setup.registrar.runs_os(lun) { Use::Os } else { Use::Other };
            over.extend(golden.recorder.is_over(by, now).map(|complete| (*id, lun, complete)));
        }
        for (id, lun, complete) in over {
            self.tell_shards(|| FromControl::StopRecording { lun });
            self.close_recording(id, complete);
        }
    }

    /// When [`ControlThread::look_at_goldens`] has something to do.
    pub(super) fn golden_deadline(&self) -> Option<u64> {
        (!self.setup.goldens.is_empty()).then(|| self.goldens.looked_ns.saturating_add(LOOK_NS))
    }

    /// Keeps what was recorded, if it is good for anything.
    fn close_recording(&mut self, id: GoldenId, complete: bool) {
        let Some(file) = self.setup.goldens.iter().find(|(other, _)| *other == id).map(|(_, file)| file)
        else {
            return;
        };
        let Some(golden) = self.goldens.cached.get_mut(&id) else { return };
        let made = golden.recorder.close(golden_identity(file), complete);
        if !complete {
            golden.recorder = Recorder::Armed;
        }
        let changed = golden_change(file).is_some();
        let anew = golden.anew && complete;
        let old = golden.recording.as_ref().filter(|_| !anew);
        let Some(recording) = made.filter(|made| !changed && replaces(made, old)) else { return };
        golden.anew &= !complete;
        if let Err(error) = self.setup.caching.recordings.save(file.path(), &recording) {
            tracing::warn!(golden = %file.path().display(), %error, "its recorded boot is lost with this process");
        }
        tracing::info!(
            golden = %file.path().display(),
            blocks = recording.uses.len(),
            seconds = recording.duration_us() / 1_000_000,
            complete,
            "its boot is recorded"
        );
        golden.recording = Some(recording);
    }

    /// A golden is not what it was: nothing more of it is recorded or read ahead.
    pub(super) fn golden_is_changed(&mut self, golden: GoldenId) {
        if let Some(entry) = self.goldens.cached.get_mut(&golden) {
            let lun = entry.recorder.lun();
            (entry.recorder, entry.recording) = (Recorder::Idle, None);
            self.tell_shards(|| FromControl::StopWarming { golden });
            lun.into_iter().for_each(|lun| self.tell_shards(|| FromControl::StopRecording { lun }));
        }
    }

    /// The operator's names of a golden.
    fn golden_names(&self, golden: GoldenId) -> Vec<String> {
        let luns = self.setup.registrar.targets().iter().flat_map(|target| &target.luns);
        let is_it = |backing: &Backing| matches!(backing, Backing::Clone { golden: g, .. } if *g == golden);
        luns.filter(|lun| is_it(&lun.backing)).map(|lun| lun.name.clone()).collect()
    }

    /// The cached golden that an operator means: by the name of its `--target`, or by IQN.
    fn find_golden(&self, name: &str) -> Result<GoldenId, String> {
        let all =
            self.setup.registrar.targets().iter().flat_map(|of| of.luns.iter().map(move |lun| (of, lun)));
        let mut found: Vec<GoldenId> = Vec::new();
        let mut is_plain = false;
        for (_, lun) in all.filter(|(of, lun)| lun.name == name || of.iqn.eq_ignore_ascii_case(name)) {
            match &lun.backing {
                Backing::Clone { golden, .. } if !found.contains(golden) => found.push(*golden),
                Backing::Clone { .. } => {}
                Backing::Plain(_) => is_plain = true,
            }
        }
        match found[..] {
            [golden] if self.goldens.cached.contains_key(&golden) => Ok(golden),
            [_] if self.setup.caching.bytes == 0 => {
                Err("goldens are not cached: stampede runs with --cache 0".to_owned())
            }
            [_] => Err(format!(
                "the golden of `{name}` is in memory, as near as the cache: it is not cached, and need not be read ahead"
            )),
            [] if is_plain => Err(format!("`{name}` is a plain image, no golden: only clones share a cache")),
            [] => Err(format!("there is no golden `{name}`: `stampede golden list` shows all")),
            [..] => Err(format!("{name} has several goldens: give the name of one of its LUNs")),
        }
    }

    pub(super) fn warm_golden(&mut self, name: &str, whole: bool) -> Response {
        let told = self.find_golden(name).and_then(|golden| {
            let recorded = self.goldens.cached.get(&golden).is_some_and(|entry| entry.recording.is_some());
            self.warm(golden, whole)?;
            let what = if whole || !recorded { "whole image" } else { "recorded boot" };
            Ok(what.to_owned())
        });
        told.map_or_else(Response::Error, Response::Golden)
    }

    /// Has the next clone of a golden recorded, whatever there is already.
    pub(super) fn record_golden(&mut self, name: &str) -> Response {
        let told = self.find_golden(name).and_then(|id| {
            let golden = self.goldens.cached.get_mut(&id).ok_or("it is gone")?;
            if let Some(lun) = golden.recorder.lun() {
                return Err(format!(
                    "a clone of `{name}` is being recorded (unit {}): wait, or use forget",
                    lun.0
                ));
            }
            (golden.recorder, golden.anew) = (Recorder::Armed, true);
            Ok("the boot of its next fresh clone is recorded".to_owned())
        });
        told.map_or_else(Response::Error, Response::Golden)
    }

    /// Deletes what was recorded of a golden, and records the next clone.
    pub(super) fn forget_golden(&mut self, name: &str) -> Response {
        let told = self.find_golden(name).and_then(|id| {
            let path = self.file(id).map(|file| file.path().to_owned()).unwrap_or_default();
            let forgotten = self.setup.caching.recordings.forget(&path);
            forgotten.map_err(|error| format!("cannot delete the recording of `{name}`: {error}"))?;
            let golden = self.goldens.cached.get_mut(&id).ok_or("it is gone")?;
            let lun = golden.recorder.lun();
            *golden = Golden { recorder: Recorder::Armed, ..Golden::default() };
            lun.into_iter().for_each(|lun| self.tell_shards(|| FromControl::StopRecording { lun }));
            self.tell_shards(|| FromControl::StopWarming { golden: id });
            Ok("its recording is gone; the boot of its next fresh clone is recorded".to_owned())
        });
        told.map_or_else(Response::Error, Response::Golden)
    }

    /// All goldens, for status.
    pub(super) fn golden_statuses(&self, reports: &[ShardReport]) -> Vec<GoldenStatus> {
        let status = |(id, file): &(GoldenId, OpenedFile)| {
            let cached = self.goldens.cached.get(id);
            let mine = || reports.iter().flat_map(|report| &report.goldens).filter(|of| of.golden == *id);
            GoldenStatus {
                names: self.golden_names(*id),
                path: file.path().to_owned(),
                bytes: file.traits().len_bytes,
                cached: cached.is_some(),
                changed: self.setup.registrar.is_changed(*id),
                cached_bytes: mine().map(|of| of.resident).sum::<u64>() * BLOCK,
                recording: cached.map_or_else(RecordingStatus::default, recording_status),
                prefetch: PrefetchStatus {
                    state: state(mine().filter_map(|of| of.warming).map(|warming| warming.state)),
                    blocks: mine().filter_map(|of| of.warming).map(|warming| warming.blocks).sum(),
                    done: mine().filter_map(|of| of.warming).map(|warming| warming.done).sum(),
                    failed: mine().filter_map(|of| of.warming).map(|warming| warming.failed).sum(),
                    read: mine().map(|of| of.ahead.read).sum(),
                    used: mine()
                        .map(|of| of.ahead.read.saturating_sub(of.ahead.unused + of.ahead.wasted))
                        .sum(),
                    unused: mine().map(|of| of.ahead.unused).sum(),
                    wasted: mine().map(|of| of.ahead.wasted).sum(),
                },
            }
        };
        self.setup.goldens.iter().map(status).collect()
    }
}

fn recording_status(golden: &Golden) -> RecordingStatus {
    let state = match (&golden.recorder, &golden.recording) {
        (Recorder::Open(_), _) => "recording",
        (Recorder::Armed, None) => "none",
        (Recorder::Armed, Some(_)) => "to be made anew",
        (Recorder::Idle, Some(recording)) if recording.complete => "complete",
        (Recorder::Idle, Some(_)) => "cut off",
        (Recorder::Idle, None) => "not made",
    };
    let kept = golden.recording.as_ref();
    RecordingStatus {
        state: state.to_owned(),
        blocks: kept.map_or(0, |recording| recording.uses.len() as u64),
        seconds: kept.map_or(0, |recording| recording.duration_us() / 1_000_000),
        underway: golden.recorder.len() as u64,
    }
}

/// How it goes on all shards together: whoever is not done says it for all.
fn state(states: impl Iterator<Item = WarmState>) -> String {
    let worst = states.max_by_key(|state| match state {
        WarmState::Done => 0,
        WarmState::Unused => 1,
        WarmState::Full => 2,
        WarmState::Diverged => 3,
        WarmState::Stopped => 4,
        WarmState::Failed => 5,
        WarmState::Waiting => 6,
        WarmState::Reading => 7,
    });
    let text = match worst {
        None => "",
        Some(WarmState::Done) => "done",
        Some(WarmState::Unused) => "nobody used it",
        Some(WarmState::Full) => "no room",
        Some(WarmState::Diverged) => "clients diverged",
        Some(WarmState::Stopped) => "stopped",
        Some(WarmState::Failed) => "reads failed",
        Some(WarmState::Waiting) => "waiting for clients",
        Some(WarmState::Reading) => "reading",
    };
    text.to_owned()
}
