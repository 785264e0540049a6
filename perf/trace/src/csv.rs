//! The CSV of a recording: one row per command.
//!
//! Columns: `t_us, stage, opcode, op, lun, lba, blocks, bytes, service_us, queued, think_us, status, fua`, of which op,
//! lun and service_us do not matter here.
//!
//! # What the rows do not say
//! - *Sessions.* A stage's first command follows its login. A target tells each new session a unit attention (CHECK
//!   CONDITION) once: the second one of a stage is of another session, so before that row the connection was closed and
//!   the initiator logged in again: firmware with another ISID, as iPXE does, an operating system with its own.
//! - *How long a session of an earlier stage lasts, and where the machine was up.* [`Details`] says it. Without it that
//!   session stays, as it does on machines whose firmware never closes it, and there is no marker.
//! - *Command descriptor blocks.* The usual one of the operation code, with the row's length. SPC's INQUIRY data is of the
//!   standard kind, MODE SENSE asks for all pages, MAINTENANCE IN for the supported operation codes.
//!
//! A row without a status never got an answer and is left out.

use crate::limits::BYTES_MAX;
use crate::trace::{Command, Event, Gatherer, Op, Origin, Stage, Trace, TraceError};
use serde::Deserialize;

/// How the file begins.
pub const FIRST_COLUMN: &str = "t_us,";

/// Operation codes that write, other than WRITE: their data is not in a trace.
pub(crate) const WRITES_DATA: [u8; 19] = [
    0x04, 0x0a, 0x15, 0x1d, 0x2e, 0x3b, 0x41, 0x42, 0x53, 0x55, 0x5f, 0x83, 0x89, 0x8b, 0x8e, 0x93, 0x9c,
    0xa4, 0x7f,
];

/// Whether a command of this operation code, no WRITE, sends data to the unit: data that is not in a trace.
#[must_use]
pub fn writes_other_data(opcode: u8) -> bool {
    WRITES_DATA.contains(&opcode)
}

/// What a recording's CSV does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Details {
    /// The trace's name; without one `trace`.
    pub name: Option<String>,
    /// When the machine was up, and what that is called.
    pub marker: Option<(u64, String)>,
    /// When the firmware's last session was closed.
    pub firmware_end_us: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Row {
    t_us: u64,
    stage: String,
    opcode: String,
    lba: Option<u64>,
    blocks: Option<u32>,
    bytes: u32,
    queued: u16,
    think_us: u64,
    status: Option<u8>,
    fua: Option<u8>,
}

/// Reads a recording.
///
/// # Errors
/// [`TraceError`], with the line.
pub fn read(bytes: &[u8], details: &Details) -> Result<Trace, TraceError> {
    let at = |line: u64| {
        move |what: String| TraceError { line: usize::try_from(line).unwrap_or(usize::MAX), what }
    };
    if bytes.len() > BYTES_MAX {
        return Err(at(1)(format!("a file of {} bytes: at most {BYTES_MAX}", bytes.len())));
    }
    let name = details.name.as_deref().unwrap_or("trace");
    let mut sessions = Sessions {
        details,
        gatherer: Gatherer::new(name, Origin::Recorded).map_err(at(1))?,
        stage: None,
        last: 0,
        open: Vec::new(),
        attentions: 0,
        marked: false,
    };
    let mut reader = ::csv::Reader::from_reader(bytes);
    let mut line = 1;
    for row in reader.deserialize::<Row>() {
        line += 1;
        let row =
            row.map_err(|error| at(error.position().map_or(line, ::csv::Position::line))(error.to_string()))?;
        sessions.row(&row).map_err(at(line))?;
    }
    sessions.marker(u64::MAX).map_err(at(line))?;
    sessions.gatherer.finish().map_err(at(line))
}

struct Sessions<'a> {
    details: &'a Details,
    gatherer: Gatherer,
    stage: Option<Stage>,
    /// The number of the last session.
    last: u8,
    /// Sessions that stand, with their stage.
    open: Vec<(Stage, u8)>,
    /// Unit attentions of the present session.
    attentions: u32,
    marked: bool,
}

impl Sessions<'_> {
    fn row(&mut self, row: &Row) -> Result<(), String> {
        let Some(status) = row.status else { return Ok(()) };
        let stage = match row.stage.as_str() {
            "ipxe" | "firmware" => Stage::Firmware,
            "linux" | "windows" | "os" => Stage::Os,
            other => return Err(format!("stage {other:?}: ipxe, firmware, linux, windows or os")),
        };
        self.marker(row.t_us)?;
        self.firmware_end(row.t_us)?;
        let mut think_us = row.think_us;
        let is_attention = status == 2;
        if self.stage != Some(stage) {
            self.log_in(stage, &mut think_us, false)?;
        } else if is_attention && self.attentions > 0 {
            self.log_in(stage, &mut think_us, true)?;
        }
        self.attentions += u32::from(is_attention);
        self.gatherer.push(Event::Command(Command { op: op(row)?, depth: row.queued, think_us }))
    }

    /// A new session, which takes the think time: what there was to wait for was before the login.
    fn log_in(&mut self, stage: Stage, think_us: &mut u64, again: bool) -> Result<(), String> {
        let own = self.open.iter().position(|(open, _)| *open == stage);
        let mut session = None;
        if let Some(own) = own.filter(|_| again) {
            let (_, number) = self.open.remove(own);
            self.gatherer.push(Event::Close { session: number })?;
            session = (stage == Stage::Os).then_some(number);
        }
        let session = session.unwrap_or_else(|| {
            self.last = self.last.saturating_add(1);
            self.last
        });
        self.gatherer.push(Event::Login { session, stage, think_us: std::mem::take(think_us) })?;
        self.open.push((stage, session));
        self.stage = Some(stage);
        self.attentions = 0;
        Ok(())
    }

    fn marker(&mut self, now_us: u64) -> Result<(), String> {
        match &self.details.marker {
            Some((at_us, name)) if !self.marked && *at_us <= now_us => {
                self.marked = true;
                self.gatherer.push(Event::Marker { name: name.clone() })
            }
            _ => Ok(()),
        }
    }

    fn firmware_end(&mut self, now_us: u64) -> Result<(), String> {
        if self.details.firmware_end_us.is_none_or(|end_us| end_us > now_us) || self.stage != Some(Stage::Os)
        {
            return Ok(());
        }
        match self.open.iter().position(|(stage, _)| *stage == Stage::Firmware) {
            Some(index) => {
                let (_, session) = self.open.remove(index);
                self.gatherer.push(Event::Close { session })
            }
            None => Ok(()),
        }
    }
}

fn op(row: &Row) -> Result<Op, String> {
    let hex = row.opcode.strip_prefix("0x").unwrap_or(&row.opcode);
    let opcode = u8::from_str_radix(hex, 16)
        .map_err(|_| format!("operation code {:?} is no byte in hex", row.opcode))?;
    let place = || row.lba.zip(row.blocks).ok_or("a READ or WRITE without lba and blocks");
    let len = row.bytes;
    let short = len.min(255) as u8;
    let [_, _, high, low] = len.to_be_bytes();
    let other = |bytes: &[u8]| {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        Op::Other { cdb, len }
    };
    let long = len.to_be_bytes();
    let with_length = |head: [u8; 4], at: usize| {
        let mut cdb = [0; 16];
        cdb[..4].copy_from_slice(&head);
        cdb[at..at + 4].copy_from_slice(&long);
        Op::Other { cdb, len }
    };
    Ok(match opcode {
        0x28 | 0x88 | 0xa8 => {
            let (lba, blocks) = place()?;
            Op::Read { lba, blocks }
        }
        0x2a | 0x8a | 0xaa => {
            let (lba, blocks) = place()?;
            Op::Write { lba, blocks, fua: row.fua == Some(1) }
        }
        0x35 | 0x91 => Op::Sync,
        0x12 => other(&[0x12, 0, 0, high, low]),
        0x1a => other(&[0x1a, 0, 0x3f, 0, short]),
        0x5a => other(&[0x5a, 0, 0x3f, 0, 0, 0, 0, high, low]),
        0x9e => with_length([0x9e, 0x10, 0, 0], 10),
        0xa0 => with_length([0xa0, 0, 0, 0], 6),
        0xa3 => with_length([0xa3, 0x0c, 0, 0], 6),
        opcode => other(&[opcode]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    const HEAD: &str = "t_us,stage,opcode,op,lun,lba,blocks,bytes,service_us,queued,think_us,status,fua\n";
    const ROWS: &str = "\
10,ipxe,0x00,TUR,1,,,0,6,0,0,2,0
20,ipxe,0x28,READ10,1,64,4,2048,6,0,5,0,0
30,ipxe,0x00,TUR,1,,,0,6,0,540,2,0
40,ipxe,0x28,READ10,1,68,4,2048,6,0,5,0,0
50,linux,0x12,INQUIRY,0,,,36,6,0,900,0,0
60,linux,0x00,TUR,1,,,0,6,0,7,2,0
70,linux,0x2a,WRITE10,1,100,8,4096,6,0,9,0,1
75,linux,0x28,READ10,1,200,8,4096,6,1,0,0,0
80,linux,0x28,READ10,1,200,8,4096,6,0,2000,2,0
90,linux,0x35,SYNC,1,0,0,0,6,0,1,0,0
99,linux,0x28,READ10,1,0,8,4096,,0,1,,0
";

    #[test]
    fn sessions_are_found_from_unit_attentions() {
        let details =
            Details { name: Some("boot".into()), marker: Some((85, "up".into())), firmware_end_us: Some(65) };
        let trace = read(format!("{HEAD}{ROWS}").as_bytes(), &details).unwrap();
        let text = text::write(&trace, "");
        let wanted = "stampede-trace 1\nname boot\norigin recorded\nlogin 1 firmware\nc 00 0\nr 64 4 5\nclose 1\n\
            login 2 firmware 540\nc 00 0\nr = 4 5\nlogin 3 os 900\nc 1200000024 36\nc 00 0 7\nclose 2\n\
            w 100 8 fua 9\nr 200 8 @1\nclose 3\nlogin 3 os 2000\nr -8 8\nmarker up\ns 1\n";
        assert_eq!(text, wanted);
        assert_eq!(text::read(text.as_bytes()), Ok(trace));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let wrong = |rows: &str| {
            read(format!("{HEAD}{rows}").as_bytes(), &Details::default()).unwrap_err().to_string()
        };
        assert!(wrong("").contains("a trace without commands"));
        assert!(wrong("1,bios,0x28,,1,0,1,512,1,0,0,0,0\n").starts_with("line 2: stage \"bios\""));
        assert!(wrong("1,ipxe,0x28,,1,,,512,1,0,0,0,0\n").contains("without lba"));
        assert!(wrong("1,ipxe,zz,,1,0,1,512,1,0,0,0,0\n").contains("no byte in hex"));
        assert!(wrong("1,ipxe,0x28\n").starts_with("line 2: "), "{}", wrong("1,ipxe,0x28\n"));
        assert!(wrong("x,ipxe,0x28,,1,0,1,512,1,0,0,0,0\n").starts_with("line 2: "));
    }
}
