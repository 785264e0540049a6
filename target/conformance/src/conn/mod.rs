//! The initiator's end of a connection: it sends whatever it is told to, and watches what comes.
//!
//! Whatever a test is about, the numbers of every PDU that comes are judged by [`vigil`].

mod command;
mod login;
mod vigil;

pub use command::{Cmd, Done, cdb, view_flags, with_byte, with_opcode, with_word};
pub use login::{Keys, LoginText, Step};

use crate::ensure;
use crate::failure::{Failure, Outcome, fail};
use crate::link::Patience;
use crate::pdu::Raw;
use crate::stream::{Arrival, Stream};
use stampede_wire::encode::Digests;
use stampede_wire::pdu::{
    InitiatorSns, LogoutRequest, NopIn, NopOut, Pdu, Reject, RejectReason, TextRequest,
};
use stampede_wire::{Bhs, Lun, RESERVED_TAG, Sn};
use vigil::Vigil;

/// One connection, and so one session.
pub struct Conn {
    stream: Stream,
    vigil: Vigil,
    /// CmdSN of the next command that is not immediate.
    pub cmd_sn: u32,
    /// The tag that was used last.
    tag: u32,
    /// TSIH, once logged in.
    pub tsih: u16,
    /// ISID of its login.
    pub isid: [u8; 6],
    /// Bytes that a Data-Out PDU may have: the target's MaxRecvDataSegmentLength.
    pub target_segment: u32,
}

impl Conn {
    /// A connection that has said nothing yet.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            vigil: Vigil::default(),
            cmd_sn: 1,
            tag: 0,
            tsih: 0,
            isid: [0; 6],
            target_segment: 8192,
        }
    }

    // ---- sending ----

    /// A tag that no task of this connection has.
    pub fn new_tag(&mut self) -> u32 {
        self.tag += 1;
        self.tag
    }

    /// The numbers of an immediate request.
    pub fn sns(&self) -> InitiatorSns {
        InitiatorSns { cmd_sn: Sn(self.cmd_sn), exp_stat_sn: Sn(self.exp_stat_sn()) }
    }

    /// The numbers of a request that uses up a CmdSN.
    pub fn next_sns(&mut self) -> InitiatorSns {
        let sns = self.sns();
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        sns
    }

    /// The StatSN waited for.
    pub fn exp_stat_sn(&self) -> u32 {
        self.vigil.stat_sn.unwrap_or(0)
    }

    /// Sends a PDU, with its lengths, padding and digests right.
    pub fn send(&mut self, pdu: impl Into<Bhs>, data: &[u8]) {
        let raw = Raw::new(pdu.into(), data, self.digests());
        self.stream.send(&raw);
    }

    /// The same with additional header segments.
    pub fn send_with_ahs(&mut self, pdu: impl Into<Bhs>, ahs: &[u8], data: &[u8]) {
        let raw = Raw::with_ahs(pdu.into(), ahs, data, self.digests());
        self.stream.send(&raw);
    }

    /// Sends a PDU as it is, right or wrong.
    pub fn send_raw(&mut self, raw: &Raw) {
        self.stream.send(raw);
    }

    /// Sends bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.send_bytes(bytes);
    }

    /// The digests in force.
    pub fn digests(&self) -> Digests {
        self.stream.digests
    }

    /// What the initiator declared to take: its MaxRecvDataSegmentLength, bytes.
    pub fn declare_segment(&mut self, bytes: u32) {
        self.vigil.segment = bytes;
    }

    /// Ends the connection by a reset.
    pub fn vanish(&mut self) {
        self.stream.reset();
    }

    // ---- hearing ----

    /// The next thing that comes, its numbers judged.
    ///
    /// # Errors
    /// A PDU breaks a rule that holds for all.
    pub fn listen(&mut self, patience: Patience) -> Outcome<Arrival> {
        let arrival = self.stream.receive(patience);
        if let Arrival::Pdu(pdu) = &arrival {
            self.vigil.judge(pdu)?;
        }
        Ok(arrival)
    }

    /// The next PDU.
    ///
    /// # Errors
    /// None comes.
    pub fn hear(&mut self) -> Outcome<Raw> {
        match self.listen(Patience::Long)? {
            Arrival::Pdu(pdu) => Ok(pdu),
            Arrival::Closed => fail("the target closed the connection instead of answering"),
            Arrival::Silence => fail("the target did not answer"),
        }
    }

    /// The next PDU, which is a `T`.
    ///
    /// # Errors
    /// It is not.
    pub fn expect<T: Pdu>(&mut self) -> Outcome<Raw> {
        let pdu = self.hear()?;
        ensure!(pdu.is::<T>(), "{pdu:?} came instead of a {:?}", T::OPCODE);
        Ok(pdu)
    }

    /// The next PDU, as a value.
    ///
    /// # Errors
    /// It is something else.
    pub fn expect_view<T: Pdu>(&mut self) -> Outcome<T> {
        let pdu = self.expect::<T>()?;
        pdu.view::<T>().copied().ok_or_else(|| Failure("another opcode".to_owned()))
    }

    /// A Reject for this reason, that shows the header of `bad`.
    ///
    /// # Errors
    /// Something else comes, or another reason, or another header.
    pub fn expect_reject(&mut self, reason: RejectReason, bad: &Bhs) -> Outcome {
        let pdu = self.expect::<Reject>()?;
        ensure!(
            pdu.byte(2) == reason as u8,
            "rejected for reason {:#04x} instead of {:#04x} ({reason:?})",
            pdu.byte(2),
            reason as u8
        );
        ensure!(pdu.word(16) == RESERVED_TAG, "a Reject's tag is {:08x}, not ffffffff", pdu.word(16));
        ensure!(
            pdu.data.get(..48) == Some(&bad.0[..]),
            "the Reject does not show the header of the PDU that it rejects"
        );
        Ok(())
    }

    /// The target closes the connection, and says nothing before.
    ///
    /// # Errors
    /// It says something, or stays.
    pub fn expect_closed(&mut self) -> Outcome {
        match self.listen(Patience::Long)? {
            Arrival::Closed => Ok(()),
            Arrival::Pdu(pdu) => fail(format!("{pdu:?} came instead of the end of the connection")),
            Arrival::Silence => fail("the target keeps the connection open"),
        }
    }

    /// The target closes the connection, whatever it says before: what that was.
    ///
    /// # Errors
    /// It stays.
    pub fn until_closed(&mut self) -> Outcome<Vec<Raw>> {
        let mut heard = Vec::new();
        loop {
            match self.listen(Patience::Long)? {
                Arrival::Closed => return Ok(heard),
                Arrival::Pdu(pdu) => heard.push(pdu),
                Arrival::Silence => return fail("the target keeps the connection open"),
            }
        }
    }

    /// Nothing comes for a short while. Where a ping can tell, [`Conn::expect_quiet`] is better.
    ///
    /// # Errors
    /// Something comes.
    pub fn expect_silence(&mut self) -> Outcome {
        match self.listen(Patience::Short)? {
            Arrival::Silence => Ok(()),
            Arrival::Closed => fail("the target closed the connection"),
            Arrival::Pdu(pdu) => fail(format!("{pdu:?} came, where nothing should")),
        }
    }

    // ---- the small requests ----

    /// Pings the target, and the next thing that comes is the answer: nothing else was on its way.
    ///
    /// # Errors
    /// Something else comes.
    pub fn expect_quiet(&mut self) -> Outcome<NopIn> {
        let tag = self.new_tag();
        let ping = NopOut::ping(tag, self.sns()).into_immediate();
        self.send(ping, b"quiet?");
        let pdu = self.expect::<NopIn>()?;
        ensure!(pdu.word(16) == tag, "a NOP-In for tag {:08x} came instead of {tag:08x}", pdu.word(16));
        pdu.view::<NopIn>().copied().ok_or_else(|| Failure("no NOP-In".to_owned()))
    }

    /// Sends a Text Request with these pairs, whole, and returns its header.
    pub fn send_text(&mut self, pairs: &[(&str, &str)]) -> TextRequest {
        let tag = self.new_tag();
        let request = TextRequest::new(tag, stampede_wire::pdu::TextStep::Final, self.next_sns());
        self.send(request, &Keys::new(pairs).to_bytes());
        request
    }

    /// Logs out, and hears the answer and the end.
    ///
    /// # Errors
    /// It goes otherwise.
    pub fn log_out(&mut self) -> Outcome {
        let tag = self.new_tag();
        let request = LogoutRequest::close_session(tag, self.sns()).into_immediate();
        self.send(request, &[]);
        let pdu = self.expect::<stampede_wire::pdu::LogoutResponse>()?;
        ensure!(pdu.byte(2) == 0, "Logout Response {}", pdu.byte(2));
        self.expect_closed()
    }
}

/// LUN `number` as initiators write it: peripheral addressing up to 255.
pub fn lun(number: u16) -> Lun {
    Lun::encode(number).unwrap_or(Lun::ZERO)
}
