//! One sector's possible values, each with what is known of when it took effect.

use crate::stamp::Value;

/// One value that the sector held, holds or may come to hold. Times count what the model was told.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) value: Value,
    /// When its write was sent; it had no effect before. Identifies the write.
    pub(super) begun: u64,
    /// When its write was known to have ended; `None` while it is in flight. It has no effect after.
    ended: Option<u64>,
    /// Whether it is known to have had its effect by `ended`.
    certain: bool,
    /// Reads that begin from this time on cannot see it.
    gone: Option<u64>,
    /// Whether a flush covered it.
    flushed: bool,
    /// Whether a power loss cannot bring it back.
    durably_gone: bool,
}

impl Version {
    pub(super) fn begun(value: Value, now: u64) -> Self {
        Self {
            value,
            begun: now,
            ended: None,
            certain: false,
            gone: None,
            flushed: false,
            durably_gone: false,
        }
    }

    fn settled(value: Value, at: u64) -> Self {
        Self { ended: Some(at), flushed: true, ..Self::begun(value, at) }
    }

    fn ended_before(&self, time: u64) -> bool {
        self.ended.is_some_and(|ended| ended <= time)
    }

    fn leave(&mut self, time: u64) {
        self.gone = Some(self.gone.map_or(time, |gone| gone.min(time)));
    }
}

/// One sector.
pub(super) struct Sector {
    pub(super) versions: Vec<Version>,
}

impl Sector {
    pub(super) fn new(initial: Value) -> Self {
        Self { versions: vec![Version { certain: true, ..Version::settled(initial, 0) }] }
    }

    /// The write that began at `begun` had its effect by `now`.
    pub(super) fn finish(&mut self, begun: u64, now: u64, durable: bool) {
        for version in &mut self.versions {
            if version.begun == begun {
                version.ended = Some(now);
                version.certain = true;
                version.flushed = durable;
            } else if version.ended_before(begun) {
                version.leave(now);
                version.durably_gone |= durable;
            }
        }
    }

    /// The write that began at `begun` has no effect after `now`, and perhaps had none at all.
    pub(super) fn abandon(&mut self, begun: u64, now: u64) {
        for version in self.versions.iter_mut().filter(|version| version.begun == begun) {
            version.ended = Some(now);
        }
    }

    /// Values that a read which began at `begun` may return now.
    pub(super) fn allowed(&self, begun: u64) -> Vec<Value> {
        let visible = |version: &&Version| version.gone.is_none_or(|gone| gone > begun);
        let mut values: Vec<Value> =
            self.versions.iter().filter(visible).map(|version| version.value).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// A read from `begun` to `now` returned `value`: what ended before the read, or before that value's write
    /// began, cannot be read later.
    pub(super) fn observe(&mut self, value: Value, begun: u64, now: u64) {
        let mut holders = self
            .versions
            .iter()
            .filter(|version| version.value == value && version.gone.is_none_or(|gone| gone > begun));
        // Zeros may stem from several writes; then nothing follows.
        let (Some(holder), None) = (holders.next(), holders.next()) else { return };
        let (origin, survivor) = (holder.begun, holder.is_survivor());
        for version in
            self.versions.iter_mut().filter(|version| version.begun != origin || version.value != value)
        {
            if version.ended_before(begun) || version.ended_before(origin) {
                version.leave(now);
            }
            // The crash settled which of its survivors is on the disk.
            version.durably_gone |= survivor && version.is_survivor() && version.begun == origin;
        }
    }

    /// A flush that began at `begun` succeeded.
    pub(super) fn flush(&mut self, begun: u64) {
        let covered: Vec<u64> = self
            .versions
            .iter_mut()
            .filter(|version| version.certain && version.ended_before(begun))
            .map(|version| {
                version.flushed = true;
                version.begun
            })
            .collect();
        let Some(last) = covered.into_iter().max() else { return };
        for version in &mut self.versions {
            version.durably_gone |= version.ended_before(last) && version.begun != last;
        }
    }

    /// Power loss at `now`: any version that is not durably gone is what is on the disk.
    pub(super) fn crash(&mut self, now: u64) {
        let mut values: Vec<Value> = self
            .versions
            .iter()
            .filter(|version| !version.durably_gone)
            .map(|version| version.value)
            .collect();
        values.sort_unstable();
        values.dedup();
        let alone = values.len() == 1;
        self.versions = values
            .into_iter()
            .map(|value| Version { certain: alone, ..Version::settled(value, now) })
            .collect();
    }

    /// Whether a power loss could leave more than one value.
    pub(super) fn is_dirty(&self) -> bool {
        self.versions.iter().any(|version| !version.flushed)
    }

    /// Forgets versions that can never be seen again, by reads that began at or after `horizon` or by a crash.
    pub(super) fn prune(&mut self, horizon: u64) {
        self.versions
            .retain(|version| !version.durably_gone || version.gone.is_none_or(|gone| gone > horizon));
    }
}

impl Version {
    /// Whether it is one of several values that a crash may have left.
    fn is_survivor(&self) -> bool {
        !self.certain && self.ended == Some(self.begun)
    }
}
