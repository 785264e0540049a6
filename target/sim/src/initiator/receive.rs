//! What the target sends in the full feature phase, and what it must not.

use super::frame::{Header, parse_keys};
use super::task::{Kind, Task};
use super::{Done, Initiator, NO_TAG, Report, Residual, SessionState, Tag, ViolationKind};

const FINAL: u8 = 0x80;
const STATUS: u8 = 0x01;
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;
const CHECK_CONDITION: u8 = 0x02;

impl Initiator {
    pub(super) fn receive_full_feature(&mut self, header: &Header, data: &[u8]) {
        self.check_numbers(header);
        let tag = Tag(header.tag());
        match header.opcode() {
            0x20 => self.nop_in(header, tag, data),
            0x21 => self.scsi_response(header, tag, data),
            0x22 => self.task_management_response(header, tag),
            0x24 => self.text_response(header, tag, data),
            0x25 => self.data_in(header, tag, data),
            0x26 => self.logout_response(header, tag),
            0x31 => self.r2t(header, tag),
            0x32 => self.reports.push(Report::Async { event: header.0[36] }),
            0x3f => self.rejected(header, data),
            opcode => {
                self.violation(
                    ViolationKind::Format,
                    format!("opcode {opcode:#x} in the full feature phase"),
                );
                self.reset();
            }
        }
    }

    /// StatSN counts statuses; other PDUs say which one is next. RFC 7143 4.2.2.2.
    fn check_numbers(&mut self, header: &Header) {
        let (opcode, tag) = (header.opcode(), header.tag());
        let has_status = match opcode {
            0x25 => header.flags() & STATUS != 0,
            0x20 => tag != NO_TAG,
            0x31 => false,
            _ => true,
        };
        let (stat_sn, expected) = (header.word(24), self.exp_stat_sn);
        if has_status || opcode != 0x25 {
            self.check(stat_sn == expected, ViolationKind::StatSn, || {
                format!("StatSN {stat_sn} where {expected} is next, in opcode {opcode:#x}")
            });
        }
        if has_status {
            self.exp_stat_sn = stat_sn.wrapping_add(1);
        }
        self.see_window(header);
    }

    /// The command of a PDU, which must be one without status.
    fn take_command(&mut self, tag: Tag, what: &str) -> Option<Task> {
        match self.tasks.remove(&tag) {
            Some(task) if matches!(task.kind, Kind::Command) => Some(task),
            Some(other) => {
                self.tasks.insert(tag, other);
                self.violation(
                    ViolationKind::UnknownTask,
                    format!("{what} for {tag:?}, which is no command"),
                );
                None
            }
            None => {
                self.violation(ViolationKind::UnknownTask, format!("{what} for {tag:?}, which has no task"));
                None
            }
        }
    }

    fn data_in(&mut self, header: &Header, tag: Tag, data: &[u8]) {
        let Some(mut task) = self.take_command(tag, "Data-In") else { return };
        let (data_sn, offset) = (header.word(36), header.word(40));
        let (next, received) = (task.data_sn, task.received.len() as u32);
        self.check(data_sn == next, ViolationKind::DataSn, || {
            format!("DataSN {data_sn} where {next} is next")
        });
        task.data_sn = data_sn.wrapping_add(1);
        let fits = received.checked_add(data.len() as u32).is_some_and(|end| end <= task.expected_in);
        self.check(offset == received && fits, ViolationKind::DataIn, || {
            format!("{} bytes at {offset} where {received} of {} have come", data.len(), task.expected_in)
        });
        task.burst = task.burst.saturating_add(data.len() as u32);
        let (burst, most) = (task.burst, self.negotiated.max_burst_length);
        self.check(burst <= most, ViolationKind::DataIn, || {
            format!("a burst of {burst} bytes, more than {most}")
        });
        let last = header.flags() & FINAL != 0;
        if last {
            task.burst = 0;
        }
        if fits {
            task.received.extend_from_slice(data);
        }
        if header.flags() & STATUS == 0 {
            self.tasks.insert(tag, task);
            return;
        }
        let status = header.0[3];
        self.check(last, ViolationKind::Status, || "Data-In with status but without F".to_owned());
        self.check(status != CHECK_CONDITION, ViolationKind::Status, || {
            "CHECK CONDITION without sense, in a Data-In".to_owned()
        });
        self.done(header, tag, task, (0, status), Vec::new());
    }

    fn scsi_response(&mut self, header: &Header, tag: Tag, data: &[u8]) {
        let Some(task) = self.take_command(tag, "a SCSI Response") else { return };
        let (response, status) = (header.0[2], header.0[3]);
        let (exp_data_sn, data_sn) = (header.word(36), task.data_sn);
        self.check(response != 0 || exp_data_sn == data_sn, ViolationKind::DataSn, || {
            format!("ExpDataSN {exp_data_sn} after {data_sn} data PDUs and R2Ts")
        });
        let sense = self.sense(data);
        self.check(
            response != 0 || (status == CHECK_CONDITION) != sense.is_empty(),
            ViolationKind::Status,
            || format!("status {status:#x} with {} bytes of sense", sense.len()),
        );
        self.check(header.flags() & !(OVERFLOW | UNDERFLOW) == FINAL, ViolationKind::Format, || {
            format!("flags {:#x} in a SCSI Response", header.flags())
        });
        self.done(header, tag, task, (response, status), sense);
    }

    fn sense(&mut self, data: &[u8]) -> Vec<u8> {
        let Some((len, rest)) = data.split_first_chunk::<2>() else { return Vec::new() };
        let len = usize::from(u16::from_be_bytes(*len));
        self.check(len <= rest.len(), ViolationKind::Format, || {
            format!("SenseLength {len} of {}", rest.len())
        });
        rest[..len.min(rest.len())].to_vec()
    }

    fn done(&mut self, header: &Header, tag: Tag, task: Task, (response, status): (u8, u8), sense: Vec<u8>) {
        let count = header.word(44);
        let residual = match header.flags() & (OVERFLOW | UNDERFLOW) {
            0 => Residual::None,
            OVERFLOW => Residual::Overflow(count),
            UNDERFLOW => Residual::Underflow(count),
            _ => {
                self.violation(ViolationKind::Residual, "underflow and overflow at once");
                Residual::None
            }
        };
        self.check_residual(&task, residual, response == 0 && status == 0);
        self.reports.push(Report::Done(Done { tag, response, status, sense, data: task.received, residual }));
    }

    /// RFC 7143 11.4.5: what came and what did not must add up to what was expected.
    fn check_residual(&mut self, task: &Task, residual: Residual, good: bool) {
        let expected = if task.out.is_empty() { task.expected_in } else { task.out.len() as u32 };
        let moved = if task.out.is_empty() { task.received.len() as u32 } else { task.solicited };
        let right = match residual {
            Residual::None => !good || moved == expected,
            Residual::Underflow(count) if task.out.is_empty() && good => {
                moved.checked_add(count) == Some(expected)
            }
            Residual::Underflow(count) => count > 0 && count <= expected,
            Residual::Overflow(count) => count > 0 && (!good || moved == expected),
        };
        self.check(right, ViolationKind::Residual, || {
            format!("{residual:?} with {moved} of {expected} bytes moved")
        });
    }

    fn r2t(&mut self, header: &Header, tag: Tag) {
        let Some(mut task) = self.take_command(tag, "an R2T") else { return };
        let (transfer_tag, r2t_sn) = (header.word(20), header.word(36));
        let (offset, len) = (header.word(40), header.word(44));
        let (next, start, most) = (task.data_sn, task.solicited, self.negotiated.max_burst_length);
        self.check(r2t_sn == next, ViolationKind::DataSn, || format!("R2TSN {r2t_sn} where {next} is next"));
        task.data_sn = r2t_sn.wrapping_add(1);
        let end = offset.checked_add(len).filter(|end| *end as usize <= task.out.len());
        let right = transfer_tag != NO_TAG && offset == start && len > 0 && len <= most;
        let right = self.check(right && end.is_some(), ViolationKind::R2t, || {
            format!("{len} bytes at {offset} of {} after {start}, bursts of {most}", task.out.len())
        });
        task.r2ts.retain(|end| *end > self.sent);
        let (open, limit) = (task.r2ts.len(), self.negotiated.max_outstanding_r2t as usize);
        self.check(open < limit, ViolationKind::R2t, || format!("an R2T beside {open} others, of {limit}"));
        if let (true, Some(end)) = (right, end) {
            task.solicited = end;
            self.data_out(tag, &task, transfer_tag, offset as usize..end as usize);
            task.r2ts.push(self.queued);
        }
        self.tasks.insert(tag, task);
    }

    fn task_management_response(&mut self, header: &Header, tag: Tag) {
        let response = header.0[2];
        let Some(Task { kind: Kind::TaskManagement { ends }, .. }) =
            self.take_answered(tag, "a TMF response")
        else {
            return;
        };
        if response == 0 {
            for ended in ends {
                if self.tasks.remove(&ended).is_some() {
                    self.reports.push(Report::Aborted { tag: ended });
                }
            }
        }
        self.reports.push(Report::TaskManagement { tag, response });
    }

    /// The request of this tag, which is not a command.
    fn take_answered(&mut self, tag: Tag, what: &str) -> Option<Task> {
        let task = self.tasks.remove(&tag);
        if task.is_none() {
            self.violation(ViolationKind::UnknownTask, format!("{what} for {tag:?}, which has no task"));
        }
        task
    }

    fn nop_in(&mut self, header: &Header, tag: Tag, data: &[u8]) {
        if tag.0 == NO_TAG {
            if header.word(20) != NO_TAG && self.config.answers_pings {
                self.pong(header, data);
            }
            return;
        }
        let Some(Task { kind: Kind::Nop { data: sent }, .. }) = self.take_answered(tag, "a NOP-In") else {
            return;
        };
        self.check(sent.starts_with(data), ViolationKind::Format, || "a NOP-In with other data".to_owned());
        self.reports.push(Report::Nop { tag, data: data.to_vec() });
    }

    fn text_response(&mut self, header: &Header, tag: Tag, data: &[u8]) {
        let Some(task) = self.take_answered(tag, "a Text Response") else { return };
        let Kind::Text { mut partial } = task.kind else { return };
        partial.extend_from_slice(data);
        let transfer_tag = header.word(20);
        if header.flags() & FINAL == 0 {
            self.check(transfer_tag != NO_TAG, ViolationKind::Format, || {
                "a Text Response that neither ends nor has a tag".to_owned()
            });
            self.text_request(tag, transfer_tag, &[]);
            self.tasks.insert(tag, Task::new(Kind::Text { partial }, 0));
            return;
        }
        match parse_keys(&partial) {
            Some(keys) => self.reports.push(Report::Text { tag, keys }),
            None => self.violation(ViolationKind::Key, "text that is no key=value"),
        }
    }

    fn logout_response(&mut self, header: &Header, tag: Tag) {
        let expected =
            self.state == SessionState::LoggingOut && self.take_answered(tag, "a Logout Response").is_some();
        self.check(expected, ViolationKind::UnknownTask, || "a Logout Response without a Logout".to_owned());
        self.reports.push(Report::LoggedOut { response: header.0[2] });
        if header.0[2] == 0 {
            self.close_after_logout();
        } else {
            self.state = SessionState::FullFeature;
        }
    }

    fn close_after_logout(&mut self) {
        let outstanding: Vec<Tag> = std::mem::take(&mut self.tasks).into_keys().collect();
        self.close_quietly();
        if !outstanding.is_empty() {
            self.reports.push(Report::Disconnected { outstanding });
        }
    }

    fn rejected(&mut self, header: &Header, data: &[u8]) {
        self.check(header.tag() == NO_TAG, ViolationKind::Format, || "a Reject with a task tag".to_owned());
        let tag = data.get(16..20).map(|tag| Tag(u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]])));
        let tag = tag.filter(|tag| self.tasks.remove(tag).is_some());
        self.reports.push(Report::Rejected { reason: header.0[2], tag });
    }
}
