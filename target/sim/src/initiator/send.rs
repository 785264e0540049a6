//! What the initiator sends in the full feature phase.

use super::frame::{Header, encode, encode_keys};
use super::task::{Kind, Task};
use super::{Command, Initiator, NO_TAG, SessionState, Tag, Transfer};

const FINAL: u8 = 0x80;
const IMMEDIATE: u8 = 0x40;

impl Initiator {
    /// Sends a SCSI command; `None` when [`Initiator::has_room`] says no (an immediate command needs no window).
    pub fn command(&mut self, command: Command) -> Option<Tag> {
        let room = self.has_room() || (command.immediate && self.state == SessionState::FullFeature);
        if !room {
            return None;
        }
        let tag = self.new_tag();
        let mut task = Task::new(Kind::Command, command.lun);
        task.cmd_sn = self.cmd_sn;
        let (direction, expected) = match command.transfer {
            Transfer::None => (0, 0),
            Transfer::In(len) => {
                task.expected_in = len;
                (0x40, len)
            }
            Transfer::Out(data) => {
                task.out = data;
                (0x20, task.out.len() as u32)
            }
        };
        let (immediate, burst) = self.unsolicited(task.out.len());
        let more = burst > immediate;
        let first = 0x01 | if command.immediate { IMMEDIATE } else { 0 };
        // F unless unsolicited Data-Out follows.
        let attribute = command.attribute & 7;
        let mut header = Header::new(first, direction | attribute | if more { 0 } else { FINAL }, tag.0);
        header.set_lun(command.lun);
        header.set(20, expected);
        self.number(&mut header, command.immediate);
        header.0[32..48].copy_from_slice(&command.cdb);
        self.emit(header, &task.out[..immediate]);
        if more {
            self.data_out(tag, &task, NO_TAG, immediate..burst);
        }
        task.solicited = burst as u32;
        self.tasks.insert(tag, task);
        self.flush();
        Some(tag)
    }

    /// How many bytes of a write go with the command, and up to where unsolicited data goes.
    fn unsolicited(&mut self, len: usize) -> (usize, usize) {
        let negotiated = &self.negotiated;
        let first = len.min(negotiated.first_burst_length as usize);
        let most = first.min(negotiated.target_data_segment_length as usize);
        let mut immediate = if negotiated.immediate_data { most } else { 0 };
        let initial_r2t = negotiated.initial_r2t;
        if immediate > 0 && self.rng.u8(..4) == 0 {
            immediate = self.rng.usize(..immediate) & !3;
        }
        let burst = if initial_r2t { immediate } else { first };
        (immediate, burst.max(immediate))
    }

    /// Sends one burst of Data-Out PDUs for `task.out[range]`.
    pub(super) fn data_out(
        &mut self,
        tag: Tag,
        task: &Task,
        transfer_tag: u32,
        range: std::ops::Range<usize>,
    ) {
        let most = (self.negotiated.target_data_segment_length as usize).max(4);
        let mut at = range.start;
        let mut data_sn = 0;
        while at < range.end {
            let end = range.end.min(at + most);
            let last = end == range.end;
            let mut header = Header::new(0x05, if last { FINAL } else { 0 }, tag.0);
            if transfer_tag != NO_TAG {
                header.set_lun(task.lun);
            }
            header.set(20, transfer_tag);
            header.set(28, self.exp_stat_sn);
            header.set(36, data_sn);
            header.set(40, at as u32);
            self.emit(header, &task.out[at..end]);
            at = end;
            data_sn += 1;
        }
    }

    /// Sends a task management function (RFC 7143 11.5.1: 1 ABORT TASK, 2 ABORT TASK SET, 3 CLEAR ACA, 4 CLEAR TASK
    /// SET, 5 LOGICAL UNIT RESET, 6 TARGET WARM RESET, 7 TARGET COLD RESET) as an immediate request. `referenced`
    /// is the command to abort.
    pub fn task_management(&mut self, function: u8, lun: u16, referenced: Option<Tag>) -> Option<Tag> {
        if self.state != SessionState::FullFeature {
            return None;
        }
        let is_ended = |(tag, task): &(&Tag, &Task)| {
            matches!(task.kind, Kind::Command)
                && match function {
                    1 => Some(**tag) == referenced,
                    2 | 4 | 5 => task.lun == lun,
                    6 | 7 => true,
                    _ => false,
                }
        };
        let ends: Vec<Tag> = self.tasks.iter().filter(is_ended).map(|(tag, _)| *tag).collect();
        let tag = self.new_tag();
        let mut header = Header::new(0x02 | IMMEDIATE, FINAL | function, tag.0);
        header.set_lun(lun);
        header.set(20, referenced.map_or(NO_TAG, |tag| tag.0));
        self.number(&mut header, true);
        if let Some(task) = referenced.and_then(|tag| self.tasks.get(&tag)) {
            header.set(32, task.cmd_sn);
        } else if referenced.is_some() {
            header.set(32, self.cmd_sn.wrapping_sub(1));
        }
        self.emit(header, &[]);
        self.tasks.insert(tag, Task::new(Kind::TaskManagement { ends }, lun));
        self.flush();
        Some(tag)
    }

    /// Sends a NOP-Out that wants its data back.
    pub fn nop(&mut self, data: &[u8]) -> Option<Tag> {
        if self.state != SessionState::FullFeature {
            return None;
        }
        let tag = self.new_tag();
        let mut header = Header::new(IMMEDIATE, FINAL, tag.0);
        header.set(20, NO_TAG);
        self.number(&mut header, true);
        self.emit(header, data);
        self.tasks.insert(tag, Task::new(Kind::Nop { data: data.to_vec() }, 0));
        self.flush();
        Some(tag)
    }

    /// Sends a text request, such as `SendTargets=All`.
    pub fn text(&mut self, keys: &[(&str, &str)]) -> Option<Tag> {
        if self.state != SessionState::FullFeature {
            return None;
        }
        let keys: Vec<(String, String)> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let tag = self.new_tag();
        self.text_request(tag, NO_TAG, &encode_keys(&keys));
        self.tasks.insert(tag, Task::new(Kind::Text { partial: Vec::new() }, 0));
        self.flush();
        Some(tag)
    }

    pub(super) fn text_request(&mut self, tag: Tag, transfer_tag: u32, text: &[u8]) {
        let mut header = Header::new(0x04 | IMMEDIATE, FINAL, tag.0);
        header.set(20, transfer_tag);
        self.number(&mut header, true);
        self.emit(header, text);
    }

    /// Asks to close the session.
    pub fn logout(&mut self) -> Option<Tag> {
        if self.state != SessionState::FullFeature {
            return None;
        }
        let tag = self.new_tag();
        let mut header = Header::new(0x06 | IMMEDIATE, FINAL, tag.0);
        self.number(&mut header, true);
        self.emit(header, &[]);
        self.tasks.insert(tag, Task::new(Kind::Logout, 0));
        self.state = SessionState::LoggingOut;
        self.flush();
        Some(tag)
    }

    /// Answers a target's ping.
    pub(super) fn pong(&mut self, ping: &Header, data: &[u8]) {
        let mut header = Header::new(IMMEDIATE, FINAL, NO_TAG);
        header.0[8..16].copy_from_slice(&ping.0[8..16]);
        header.set(20, ping.word(20));
        self.number(&mut header, true);
        self.emit(header, data);
    }

    fn new_tag(&mut self) -> Tag {
        loop {
            self.next_tag = self.next_tag.wrapping_add(1) % NO_TAG;
            if !self.tasks.contains_key(&Tag(self.next_tag)) {
                return Tag(self.next_tag);
            }
        }
    }

    /// Puts CmdSN and ExpStatSN in, and uses the CmdSN up unless the request is immediate.
    fn number(&mut self, header: &mut Header, immediate: bool) {
        header.set(24, self.cmd_sn);
        header.set(28, self.exp_stat_sn);
        if !immediate {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
    }

    fn emit(&mut self, header: Header, data: &[u8]) {
        let pdu = encode(header, data, self.negotiated.header_digest, self.negotiated.data_digest);
        self.queue(&pdu);
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.queued += bytes.len() as u64;
        self.outgoing.extend(bytes);
    }

    /// Sends what fits.
    pub(super) fn flush(&mut self) {
        let Some(client) = self.client else { return };
        while !self.outgoing.is_empty() {
            let (head, _) = self.outgoing.as_slices();
            let sent = self.world.client_send(client, head);
            if sent == 0 {
                return;
            }
            self.outgoing.drain(..sent);
            self.sent += sent as u64;
        }
    }

    /// Closes without a report; the state is idle afterwards.
    pub(super) fn close_quietly(&mut self) {
        if let Some(client) = self.client {
            self.world.client_close(client);
        }
        self.tasks.clear();
        self.lose(false);
    }
}
