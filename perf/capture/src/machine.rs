//! One machine's facts, put into a trace: which sessions it had, and which of its commands waited for which.

use crate::CaptureError;
use crate::connection::{Told, What};
use crate::limits::NAMES_MAX;
use crate::report::Report;
use crate::table::{Capture, Fact};
use stampede_trace::{
    BLOCK, BLOCKS_MAX, Command, DEPTH_MAX, Event, Gatherer, LBA_MAX, Op, Origin, SESSION_MAX, Stage,
    TRANSFER_MAX, Trace, writes_other_data,
};
use stampede_wire::{Isid, Lun};
use std::collections::{BTreeMap, BTreeSet};

/// What a capture does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Details {
    /// The trace's name.
    pub name: String,
    /// Whose boot it is, where the capture has several machines.
    pub initiator: Option<String>,
    /// Microseconds from the first login to where the machine was up, and what that is called.
    pub marker: Option<(u64, String)>,
}

/// A fact's place in time: what ends at a moment ends before what begins then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Moment {
    at_us: u64,
    is_begin: bool,
    fact: usize,
}

/// Makes the trace of one machine.
///
/// # Errors
/// [`CaptureError::Nothing`] when there is no such machine, several and none was named, or it did nothing;
/// [`CaptureError::Limit`] for more than a trace may hold.
pub fn build(capture: Capture, details: &Details) -> Result<(Trace, Report), CaptureError> {
    let Capture { mut facts, mut report, .. } = capture;
    let initiator = choose(&facts, &mut report, details.initiator.as_deref())?;
    let own: BTreeSet<u64> = facts.iter().filter_map(|fact| login_of(fact, &initiator)).collect();
    facts.retain(|fact| own.contains(&fact.connection));
    let mut commands = Commands { lun: main_unit(&facts), report };
    let ops: Vec<Option<Op>> = facts.iter().map(|fact| commands.op(fact)).collect();
    let mut builder = Builder::new(details, &facts)?;
    for moment in moments(&facts, &ops) {
        builder.moment(moment, &facts[moment.fact], ops[moment.fact])?;
    }
    let trace = builder.finish()?;
    Ok((trace, commands.report))
}

fn login_of(fact: &Fact, wanted: &str) -> Option<u64> {
    match &fact.what {
        What::Login { initiator, .. } if initiator == wanted => Some(fact.connection),
        _ => None,
    }
}

/// The initiator whose boot it is.
fn choose(facts: &[Fact], report: &mut Report, wanted: Option<&str>) -> Result<String, CaptureError> {
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for fact in facts {
        if let What::Login { initiator, .. } = &fact.what
            && seen.len() < NAMES_MAX
            && seen.insert(initiator.as_str())
        {
            names.push(initiator);
        }
    }
    report.initiators = names.iter().map(|name| (*name).to_owned()).collect();
    let shown = || names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    match (wanted, &names[..]) {
        (_, []) => Err(CaptureError::Nothing(format!(
            "no iSCSI login in {} packets: capture from before the machine is switched on, with whole headers (at \
             least 200 bytes of each packet){}",
            report.packets,
            if report.headless_segments > 0 { "; there are connections that began before it" } else { "" }
        ))),
        (Some(wanted), names) if names.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => {
            Err(CaptureError::Nothing(format!("{wanted} does not log in here; there are: {}", shown())))
        }
        (None, [one]) => Ok((*one).to_owned()),
        (None, many) => Err(CaptureError::Nothing(format!(
            "{} machines log in: say with --initiator which one's boot it is: {}",
            many.len(),
            shown()
        ))),
    }
}

/// The unit that most is read from: an operating system looks at others, too.
fn main_unit(facts: &[Fact]) -> Option<Lun> {
    let mut bytes: BTreeMap<[u8; 8], u64> = BTreeMap::new();
    for fact in facts {
        if let What::Command(told) = &fact.what
            && place(&told.cdb).is_some()
        {
            *bytes.entry(told.lun.0).or_default() += u64::from(told.expected);
        }
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(lun, _)| Lun(lun))
}

/// Begins and ends in the order of time. What is left out has none.
fn moments(facts: &[Fact], ops: &[Option<Op>]) -> Vec<Moment> {
    let mut moments = Vec::with_capacity(facts.len() * 2);
    for (fact, (Fact { at_us, what, .. }, op)) in facts.iter().zip(ops).enumerate() {
        let end_us = match what {
            What::Login { done_us, .. } => Some(*done_us),
            What::Command(told) if op.is_some() => told.end.map(|(end_us, _)| end_us),
            What::Command(_) => continue,
            What::Close => None,
        };
        moments.push(Moment { at_us: *at_us, is_begin: true, fact });
        moments.extend(end_us.map(|at_us| Moment { at_us, is_begin: false, fact }));
    }
    // Facts are numbered in the order of the capture: that decides between those of one moment. A command that begins and
    // ends within one tick of the clock begins first, for its end is looked up by then.
    moments.sort_by_key(|moment| (moment.at_us, moment.fact, !moment.is_begin));
    moments
}

struct Builder {
    gatherer: Gatherer,
    marker: Option<(u64, String)>,
    began_us: u64,
    /// When something ended last.
    ended_us: u64,
    /// Facts of commands that are under way.
    outstanding: BTreeSet<usize>,
    /// Sessions: by the ISID, with the connection that it has.
    sessions: Vec<(Isid, u64)>,
    current: Option<u8>,
}

impl Builder {
    fn new(details: &Details, facts: &[Fact]) -> Result<Self, CaptureError> {
        let began_us = facts.iter().map(|fact| fact.at_us).min().unwrap_or(0);
        Ok(Self {
            gatherer: Gatherer::new(&details.name, Origin::Recorded).map_err(CaptureError::Nothing)?,
            marker: details.marker.clone(),
            began_us,
            ended_us: began_us,
            outstanding: BTreeSet::new(),
            sessions: Vec::new(),
            current: None,
        })
    }

    fn moment(&mut self, moment: Moment, fact: &Fact, op: Option<Op>) -> Result<(), CaptureError> {
        if !moment.is_begin {
            self.outstanding.remove(&moment.fact);
            self.ended_us = self.ended_us.max(moment.at_us);
            return Ok(());
        }
        self.mark(moment.at_us)?;
        let think_us = moment.at_us.saturating_sub(self.ended_us);
        match (&fact.what, op) {
            (What::Login { isid, stage, .. }, _) => self.login(*isid, fact.connection, *stage, think_us),
            (What::Command(_), Some(op)) => self.command(moment.fact, fact.connection, op, think_us),
            (What::Close, _) => self.close(fact.connection),
            (What::Command(_), None) => Ok(()),
        }
    }

    fn push(&mut self, event: Event) -> Result<(), CaptureError> {
        self.gatherer.push(event).map_err(CaptureError::Limit)
    }

    fn mark(&mut self, now_us: u64) -> Result<(), CaptureError> {
        match self.marker.take_if(|(at_us, _)| self.began_us.saturating_add(*at_us) <= now_us) {
            Some((_, name)) => self.push(Event::Marker { name }),
            None => Ok(()),
        }
    }

    /// A login with an ISID that was there before takes that session's place.
    fn login(
        &mut self,
        isid: Isid,
        connection: u64,
        stage: Stage,
        think_us: u64,
    ) -> Result<(), CaptureError> {
        let known = self.sessions.iter().position(|(own, _)| *own == isid);
        let index = known.unwrap_or(self.sessions.len());
        let number =
            u8::try_from(index + 1).ok().filter(|number| *number <= SESSION_MAX).ok_or_else(|| {
                CaptureError::Limit(format!("the machine has more than {SESSION_MAX} sessions (ISIDs)"))
            })?;
        match known {
            Some(index) => self.sessions[index].1 = connection,
            None => self.sessions.push((isid, connection)),
        }
        self.current = Some(number);
        self.push(Event::Login { session: number, stage, think_us })
    }

    /// The number of the session that has this connection now.
    fn session(&self, connection: u64) -> Option<u8> {
        let index = self.sessions.iter().position(|(_, own)| *own == connection)?;
        u8::try_from(index + 1).ok()
    }

    fn command(&mut self, fact: usize, connection: u64, op: Op, think_us: u64) -> Result<(), CaptureError> {
        // A connection whose session another one has taken over has no place in a trace.
        let Some(session) = self.session(connection) else { return Ok(()) };
        if self.current != Some(session) {
            self.current = Some(session);
            self.push(Event::On { session })?;
        }
        let depth = u16::try_from(self.outstanding.len()).unwrap_or(DEPTH_MAX).min(DEPTH_MAX - 1);
        self.outstanding.insert(fact);
        self.push(Event::Command(Command { op, depth, think_us: if depth == 0 { think_us } else { 0 } }))
    }

    fn close(&mut self, connection: u64) -> Result<(), CaptureError> {
        let Some(session) = self.session(connection) else { return Ok(()) };
        if let Some(entry) = self.sessions.get_mut(usize::from(session) - 1) {
            entry.1 = 0;
        }
        self.current = self.current.filter(|current| *current != session);
        self.push(Event::Close { session })
    }

    fn finish(mut self) -> Result<Trace, CaptureError> {
        self.mark(u64::MAX)?;
        self.gatherer.finish().map_err(CaptureError::Nothing)
    }
}

/// What of the commands a trace can hold.
struct Commands {
    lun: Option<Lun>,
    report: Report,
}

impl Commands {
    /// A command that ended, as a trace has it; none for what is left out, which is counted.
    fn op(&mut self, fact: &Fact) -> Option<Op> {
        let What::Command(told) = &fact.what else { return None };
        let Some((_, status)) = told.end else {
            self.report.unanswered += 1;
            return None;
        };
        let Told { cdb, lun, expected, writes, .. } = **told;
        if matches!(cdb[0], 0x35 | 0x91) {
            return self.good(status).then_some(Op::Sync);
        }
        let Some(place) = place(&cdb) else {
            if writes || writes_other_data(cdb[0]) {
                self.report.writing_others += 1;
                return None;
            }
            return Some(Op::Other { cdb, len: expected.min(TRANSFER_MAX) });
        };
        if self.lun != Some(lun) {
            self.report.other_units += 1;
            return None;
        }
        if !self.good(status) {
            return None;
        }
        let op = scaled(place, expected).map(|(lba, blocks)| match place.is_write {
            true => Op::Write { lba, blocks, fua: place.fua },
            false => Op::Read { lba, blocks },
        });
        self.report.odd += u64::from(op.is_none());
        op
    }

    fn good(&mut self, status: u8) -> bool {
        self.report.failed += u64::from(status != 0);
        status == 0
    }
}

/// A READ's or WRITE's place, in the unit's own blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    lba: u64,
    blocks: u32,
    is_write: bool,
    fua: bool,
}

/// READ and WRITE of 6, 10, 12 and 16 bytes (SBC-4 5.13 to 5.16 and 5.37 to 5.40).
fn place(cdb: &[u8; 16]) -> Option<Place> {
    let is_write = match cdb[0] {
        0x08 | 0x28 | 0xa8 | 0x88 => false,
        0x0a | 0x2a | 0xaa | 0x8a => true,
        _ => return None,
    };
    let word = |at: usize| cdb[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let (lba, blocks) = match cdb[0] >> 5 {
        // A length of 0 means 256 in the short form.
        0 => (u64::from(word(0) & 0x1f_ffff), if cdb[4] == 0 { 256 } else { u32::from(cdb[4]) }),
        1 => (u64::from(word(2)), word(6) >> 8 & 0xffff),
        5 => (u64::from(word(2)), word(6)),
        _ => (u64::from(word(2)) << 32 | u64::from(word(6)), word(10)),
    };
    Some(Place { lba, blocks, is_write, fua: cdb[0] >> 5 != 0 && cdb[1] & 0x08 != 0 })
}

/// In blocks of 512 bytes; a unit's block is as long as the bytes that were expected tell.
fn scaled(place: Place, expected: u32) -> Option<(u64, u32)> {
    if place.blocks == 0 || !expected.is_multiple_of(place.blocks) {
        return None;
    }
    let block = expected / place.blocks;
    let factor = block / BLOCK as u32;
    if !block.is_power_of_two() || factor == 0 {
        return None;
    }
    let blocks = place.blocks.checked_mul(factor).filter(|blocks| *blocks <= BLOCKS_MAX)?;
    let lba = place.lba.checked_mul(u64::from(factor)).filter(|lba| *lba <= LBA_MAX - u64::from(blocks))?;
    Some((lba, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdb(bytes: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn reads_and_writes_have_their_places() {
        let of = |bytes: &[u8]| {
            place(&cdb(bytes)).map(|place| (place.lba, place.blocks, place.is_write, place.fua))
        };
        assert_eq!(of(&[0x08, 0xff, 1, 2, 0]), Some((0x1f_0102, 256, false, false)));
        assert_eq!(of(&[0x28, 0, 0, 1, 0, 0, 0, 1, 2]), Some((0x1_0000, 0x102, false, false)));
        assert_eq!(of(&[0x2a, 8, 0, 0, 0, 9, 0, 0, 7]), Some((9, 7, true, true)));
        assert_eq!(of(&[0xa8, 0, 0, 0, 0, 9, 0, 1, 0, 0]), Some((9, 0x1_0000, false, false)));
        assert_eq!(of(&[0x8a, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]), Some((1 << 32 | 2, 3, true, false)));
        assert_eq!(of(&[0x12]), None);
    }

    #[test]
    fn blocks_are_scaled_to_512_bytes() {
        let place = |lba, blocks| Place { lba, blocks, is_write: false, fua: false };
        assert_eq!(scaled(place(5, 2), 1024), Some((5, 2)));
        assert_eq!(scaled(place(5, 2), 8192), Some((40, 16)));
        for (blocks, expected) in [(0, 0), (2, 1000), (2, 512), (3, 1024), (65_536, 65_536 * 512)] {
            assert_eq!(scaled(place(5, blocks), expected), None, "{blocks} {expected}");
        }
        assert_eq!(scaled(place(u64::MAX, 1), 512), None);
    }
}
