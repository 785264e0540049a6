//! The text form.
//!
//! ```text
//!   stampede-trace 1            the first line: what it is, and its version
//!   name debian12-boot          the second
//!   origin recorded             the third: recorded, or model
//!   # anything                  a comment; empty lines are comments, too
//!   login 2 firmware 540        session 2 logs in as firmware (or os), 540 us after the last completion
//!   r 2048 62 133               READ of 62 blocks from block 2048 on, 133 us after the last completion
//!   r = 2                       .. from where the last READ or WRITE ended
//!   r +6 50 @2                  .. 6 blocks after where it ended (-6: before), while 2 commands were outstanding
//!   w 81920 8 fua 20            WRITE, here with FUA
//!   s 1043                      SYNCHRONIZE CACHE of everything
//!   c 1200000024 36             any other command: its CDB in hex without zeros at the end, and the bytes it reads
//!   close 2                     the connection goes without a Logout
//!   on 3                        what follows goes to session 3, as after a login
//!   marker multi-user           the machine is there when all before is done
//! ```
//! Blocks have 512 bytes. A think time of 0 may be left out.

use crate::limits::{BYTES_MAX, LINE_MAX};
use crate::trace::{Command, Event, Gatherer, Op, Origin, Stage, Trace, TraceError};
use std::fmt::Write as _;

/// The first line.
const MAGIC: &str = "stampede-trace";
const VERSION: &str = "1";

/// Reads a trace.
///
/// # Errors
/// [`TraceError`], with the line.
pub fn read(bytes: &[u8]) -> Result<Trace, TraceError> {
    let at = |line: usize| move |what: String| TraceError { line, what };
    if bytes.len() > BYTES_MAX {
        return Err(at(1)(format!("a file of {} bytes: at most {BYTES_MAX}", bytes.len())));
    }
    let mut lines = Lines { rest: bytes, number: 0 };
    match lines.next()?.map(|line| line.split_once(' ').unwrap_or((line, ""))) {
        Some((MAGIC, VERSION)) => {}
        Some((MAGIC, version)) => {
            return Err(at(1)(format!("version {version:?} of the form; this program reads {VERSION}")));
        }
        _ => return Err(at(1)(format!("no trace: the first line of one is `{MAGIC} {VERSION}`"))),
    }
    let mut field = |name: &str| -> Result<&str, TraceError> {
        let line = lines.next()?.unwrap_or_default();
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| TraceError { line: lines.number, what: format!("`{name} ..` is expected here") })
    };
    let name = field("name")?;
    let origin = match field("origin")? {
        "recorded" => Origin::Recorded,
        "model" => Origin::Model,
        other => return Err(at(3)(format!("origin {other:?}: `recorded` or `model`"))),
    };
    let mut gatherer = Gatherer::new(name, origin).map_err(at(2))?;
    let mut end_lba = 0;
    while let Some(line) = lines.next()? {
        let event = parse(line, &mut end_lba).map_err(at(lines.number))?;
        gatherer.push(event).map_err(at(lines.number))?;
    }
    gatherer.finish().map_err(at(lines.number.max(1)))
}

/// Lines that are no comments, without spaces at their ends.
struct Lines<'a> {
    rest: &'a [u8],
    /// Of the line last given.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<Option<&'a str>, TraceError> {
        while !self.rest.is_empty() {
            self.number += 1;
            let window = &self.rest[..self.rest.len().min(LINE_MAX + 1)];
            let len = match window.iter().position(|byte| *byte == b'\n') {
                Some(len) => len,
                None if window.len() <= LINE_MAX => window.len(),
                None => return Err(self.wrong(format!("a line of more than {LINE_MAX} bytes"))),
            };
            let line = std::str::from_utf8(&self.rest[..len]);
            let line = line.map_err(|error| self.wrong(format!("no text: {error}")))?.trim();
            self.rest = self.rest.get(len + 1..).unwrap_or_default();
            if !line.is_empty() && !line.starts_with('#') {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    fn wrong(&self, what: String) -> TraceError {
        TraceError { line: self.number, what }
    }
}

/// Reads one line; `end_lba` is where the last READ or WRITE ended.
fn parse(line: &str, end_lba: &mut u64) -> Result<Event, String> {
    let mut words = Words(line.split(' ').filter(|word| !word.is_empty()));
    let event = match words.word("an event")? {
        "login" => Event::Login {
            session: words.number("a session's number")?,
            stage: match words.word("firmware or os")? {
                "firmware" => Stage::Firmware,
                "os" => Stage::Os,
                other => return Err(format!("stage {other:?}: `firmware` or `os`")),
            },
            think_us: words.number_or_zero("a think time")?,
        },
        "close" => Event::Close { session: words.number("a session's number")? },
        "on" => Event::On { session: words.number("a session's number")? },
        "marker" => Event::Marker { name: words.word("a name")?.to_owned() },
        kind @ ("r" | "w") => {
            let lba = address(words.word("a block")?, *end_lba)?;
            let blocks = words.number("a number of blocks")?;
            *end_lba = lba.checked_add(u64::from(blocks)).ok_or("blocks beyond every address")?;
            if kind == "r" {
                words.command(Op::Read { lba, blocks })?
            } else {
                let mut ahead = words.0.clone();
                let fua = ahead.next() == Some("fua");
                if fua {
                    words.0 = ahead;
                }
                words.command(Op::Write { lba, blocks, fua })?
            }
        }
        "s" => words.command(Op::Sync)?,
        "c" => {
            let cdb = cdb(words.word("a CDB")?)?;
            let len = words.number("a number of bytes")?;
            words.command(Op::Other { cdb, len })?
        }
        other => return Err(format!("{other:?} is no event")),
    };
    match words.0.next() {
        Some(word) => Err(format!("{word:?} is too much")),
        None => Ok(event),
    }
}

struct Words<I>(I);

impl<'a, I: Iterator<Item = &'a str> + Clone> Words<I> {
    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<N: std::str::FromStr>(&mut self, what: &str) -> Result<N, String> {
        number(self.word(what)?, what)
    }

    fn number_or_zero(&mut self, what: &str) -> Result<u64, String> {
        self.0.next().map_or(Ok(0), |word| number(word, what))
    }

    /// What is behind a command: `@DEPTH`, or the think time.
    fn command(&mut self, op: Op) -> Result<Event, String> {
        let (depth, think_us) = match self.0.next() {
            None => (0, 0),
            Some(word) => match word.strip_prefix('@') {
                Some(depth) => (number(depth, "the commands outstanding")?, 0),
                None => (0, number(word, "a think time")?),
            },
        };
        Ok(Event::Command(Command { op, depth, think_us }))
    }
}

fn number<N: std::str::FromStr>(word: &str, what: &str) -> Result<N, String> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| format!("{word:?} is not {what}"))
}

fn address(word: &str, end_lba: u64) -> Result<u64, String> {
    let beyond = || format!("{word:?} leads to no block");
    if word == "=" {
        Ok(end_lba)
    } else if let Some(ahead) = word.strip_prefix('+') {
        end_lba.checked_add(number(ahead, "a block")?).ok_or_else(beyond)
    } else if let Some(back) = word.strip_prefix('-') {
        end_lba.checked_sub(number(back, "a block")?).ok_or_else(beyond)
    } else {
        number(word, "a block")
    }
}

fn cdb(word: &str) -> Result<[u8; 16], String> {
    let mut cdb = [0; 16];
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || !word.len().is_multiple_of(2) || !(2..=32).contains(&word.len()) {
        return Err(format!("{word:?} is no CDB: 1 to 16 bytes in hex"));
    }
    for (byte, digits) in cdb.iter_mut().zip(word.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|error| error.to_string())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
    }
    Ok(cdb)
}

/// Writes a trace, with `comment` (lines without `#`) below its head.
#[must_use]
pub fn write(trace: &Trace, comment: &str) -> String {
    let mut out = format!("{MAGIC} {VERSION}\nname {}\norigin {}\n", trace.name, trace.origin);
    for line in comment.lines() {
        out.push_str(&format!("# {line}"));
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let mut end_lba = 0;
    for event in &trace.events {
        // Writing to a String cannot fail.
        let _ = match event {
            Event::Login { session, stage, think_us } => {
                write!(out, "login {session} {stage}{}", Tail(0, *think_us))
            }
            Event::Close { session } => write!(out, "close {session}"),
            Event::On { session } => write!(out, "on {session}"),
            Event::Marker { name } => write!(out, "marker {name}"),
            Event::Command(command) => write_command(&mut out, command, &mut end_lba),
        };
        out.push('\n');
    }
    out
}

fn write_command(out: &mut String, command: &Command, end_lba: &mut u64) -> std::fmt::Result {
    match command.op {
        Op::Read { lba, blocks } => {
            write!(out, "r {} {blocks}", near(lba, *end_lba))?;
            *end_lba = lba + u64::from(blocks);
        }
        Op::Write { lba, blocks, fua } => {
            write!(out, "w {} {blocks}{}", near(lba, *end_lba), if fua { " fua" } else { "" })?;
            *end_lba = lba + u64::from(blocks);
        }
        Op::Sync => out.push('s'),
        Op::Other { cdb, len } => {
            let used = cdb.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
            out.push_str("c ");
            cdb[..used].iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            write!(out, " {len}")?;
        }
    }
    write!(out, "{}", Tail(command.depth, command.think_us))
}

/// The shorter of an address and a distance.
fn near(lba: u64, end_lba: u64) -> String {
    if lba == end_lba {
        return "=".to_owned();
    }
    let sign = if lba > end_lba { '+' } else { '-' };
    let distance = format!("{sign}{}", lba.abs_diff(end_lba));
    let plain = lba.to_string();
    if distance.len() < plain.len() { distance } else { plain }
}

/// Depth and think time behind a command.
struct Tail(u16, u64);

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self(0, 0) => Ok(()),
            Self(0, think_us) => write!(f, " {think_us}"),
            Self(depth, _) => write!(f, " @{depth}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "stampede-trace 1\nname a\norigin recorded\nlogin 1 firmware\n";

    fn wrong(lines: &str) -> String {
        read(format!("{SHORT}{lines}").as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = format!(
            "{SHORT}c 00 0 7\nr 70064 4 588\nr = 2\nr -6 1 @3\nw +100 8 fua 20\nw = 8 @1\ns 1043\nc 1200000024 36\nclose 1\n\
             login 2 os 2000000\nmarker there\nlogin 3 os\non 2\nr 1000000 1\n"
        );
        let trace = read(text.as_bytes()).unwrap();
        assert_eq!(write(&trace, ""), text);
        let commented = write(&trace, "two\n\nlines");
        assert!(commented.contains("# two\n#\n# lines\n"), "{commented}");
        assert_eq!(read(commented.as_bytes()), Ok(trace.clone()));
        let totals = trace.totals();
        assert_eq!((totals.commands, totals.reads, totals.blocks_unique), (9, 4, 7));
        assert_eq!((totals.writes, totals.end_lba, totals.depth, totals.logins), (2, 1_000_001, 4, 3));
        assert_eq!(trace.marker(), Some("there"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (lines, says) in [
            ("", "line 4: a trace without commands"),
            ("r 1\n", "line 5: a number of blocks is missing"),
            ("\n# x\nr 1 0\n", "line 7: 0 blocks"),
            ("r 1 40000\n", "40000 blocks in one command"),
            ("r -1 1\n", "leads to no block"),
            ("r +x 1\n", "\"x\" is not a block"),
            ("r 281474976710656 1\n", "beyond what a trace may address"),
            ("r 18446744073709551615 1\n", "beyond every address"),
            ("r 1 1 @2000\n", "2000 commands outstanding"),
            ("r 1 1 5 6\n", "\"6\" is too much"),
            ("r 1 1 99999999999999\n", "more than a day"),
            ("c 4200 8\n", "operation code 0x42 writes"),
            ("c 120 8\n", "is no CDB"),
            ("c 12 99999999\n", "99999999 bytes"),
            ("close 2\nr 1 1\n", "line 5: session 2 does not stand"),
            ("close 1\nr 1 1\n", "line 6: a command, and no session stands"),
            ("login 16 os\n", "the highest number is 15"),
            ("login 1 bios\n", "`firmware` or `os`"),
            ("marker\n", "a name is missing"),
            ("boot\n", "\"boot\" is no event"),
        ] {
            let told = wrong(lines);
            assert!(told.contains(says), "{lines:?}: {told}");
        }
        assert!(wrong(&"x".repeat(300)).contains("line 5: a line of more than 200 bytes"));
        assert!(read(b"stampede-trace 2\n").unwrap_err().to_string().contains("version \"2\""));
        assert!(read(b"\xff").unwrap_err().to_string().starts_with("line 1: no text"));
        assert!(read(b"stampede-trace 1\nname a b\norigin model\n").unwrap_err().what.contains("no spaces"));
    }
}
