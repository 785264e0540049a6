//! The smallest iSCSI target that the twin can be tried with: one shard, one LUN, one file, all commands of a
//! connection one after the other.

#![allow(dead_code, reason = "each test that includes this module uses its own part")]

mod pdu;

use pdu::{Parser, Pdu, response};
use stampede_ring::{
    Buffer, Completion, Event, FileId, IoMemory, Operation, Received, Ring, SendList, SocketId, Token, Wait,
};
use std::collections::{BTreeMap, VecDeque};

const MEDIUM_ERROR: [u8; 18] = [0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
const WINDOW: u32 = 16;
const BURST: u32 = 16 * 1024;
const KEYS: &str = "TargetPortalGroupTag=1\0HeaderDigest=None\0DataDigest=None\0MaxRecvDataSegmentLength=8192\0\
    DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0MaxConnections=1\0InitialR2T=Yes\0\
    ImmediateData=No\0MaxBurstLength=512\0FirstBurstLength=512\0MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0\
    DataSequenceInOrder=Yes\0";

/// What a token stands for: the kind in the high byte, the connection below.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const DISK: u64 = 3;
const CANCEL: u64 = 4;
const CLOSE: u64 = 5;

fn token(kind: u64, connection: u64) -> Token {
    Token(kind << 56 | connection)
}

/// The command that a connection works on.
struct Work {
    pdu: Pdu,
    buffer: Option<Buffer>,
    /// Bytes of a write that have come, and bytes that the disk has moved.
    have: u32,
    moved: u32,
    len: u32,
    offset: u64,
    r2ts: u32,
}

struct Connection {
    socket: SocketId,
    name: Vec<u8>,
    logged_in: bool,
    receiving: bool,
    cancelling: bool,
    sending: bool,
    disk: bool,
    dying: bool,
    closed: bool,
    parser: Parser,
    queue: VecDeque<Pdu>,
    work: Option<Work>,
    outgoing: Vec<u8>,
    stat_sn: u32,
    exp_cmd_sn: u32,
    data_max: u32,
    login: Option<Pdu>,
}

pub(crate) struct Target<R: Ring> {
    ring: R,
    memory: IoMemory,
    file: FileId,
    listener: SocketId,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    batch: Vec<Completion>,
}

impl<R: Ring> Target<R> {
    pub(crate) fn new(ring: R, file: FileId, listener: SocketId) -> Self {
        let memory = IoMemory::new(4 << 20).expect("memory for a test");
        let batch = Vec::with_capacity(64);
        let mut target = Self { ring, memory, file, listener, connections: BTreeMap::new(), next: 0, batch };
        target.push(token(ACCEPT, 0), Operation::Accept { listener });
        target
    }

    fn push(&mut self, token: Token, operation: Operation) {
        let mut operation = operation;
        while let Err(back) = self.ring.push(token, operation) {
            operation = back;
            self.ring.submit(Wait::No).expect("a living ring");
        }
    }

    pub(crate) fn turn(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        while self.ring.reap(&mut batch) > 0 {
            for completion in batch.drain(..) {
                self.complete(completion);
            }
        }
        self.batch = batch;
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.progress(id);
        }
        self.connections.retain(|_, connection| !connection.closed);
        self.ring.submit(Wait::Forever).expect("a living ring");
    }

    fn complete(&mut self, Completion { token: Token(raw), event }: Completion) {
        let id = raw & 0x00ff_ffff_ffff_ffff;
        match event {
            Event::Accepted { result, more } => {
                if let Ok(accepted) = result {
                    self.accept(accepted.socket);
                }
                if !more {
                    self.push(token(ACCEPT, 0), Operation::Accept { listener: self.listener });
                }
            }
            Event::Received { received, more } => self.received(id, received, more),
            Event::Sent { result, list: mut sent } => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                connection.sending = false;
                match result {
                    Ok(bytes) => {
                        sent.advance(u64::from(bytes));
                        if !sent.is_empty() && !connection.dying {
                            connection.sending = true;
                            let socket = connection.socket;
                            self.push(token(SEND, id), Operation::Send { socket, list: sent });
                        }
                    }
                    Err(_) => connection.dying = true,
                }
            }
            Event::Transferred { result, buffer } => self.transferred(id, result.ok(), buffer),
            Event::Finished { result } if raw >> 56 == DISK => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                connection.disk = false;
                if let Some(work) = connection.work.take() {
                    let sense: &[u8] = if result.is_ok() { &[] } else { &MEDIUM_ERROR };
                    connection.answer(&work.pdu, sense, 0);
                }
            }
            Event::Finished { .. } if raw >> 56 == CLOSE => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.closed = true;
                }
            }
            Event::Finished { .. } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.cancelling = false;
                }
            }
            // It never releases anything.
            Event::Released { .. } | Event::Surveyed { .. } | Event::Woken => {}
        }
    }

    fn accept(&mut self, socket: SocketId) {
        self.next += 1;
        self.connections.insert(self.next, Connection::new(socket));
    }

    fn received(&mut self, id: u64, received: Received, more: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.receiving = more;
            match received {
                Received::Chunk(chunk) => {
                    connection.parser.feed(chunk.bytes());
                    self.ring.recycle(chunk);
                    connection.queue.extend(std::iter::from_fn(|| connection.parser.next_pdu()));
                }
                Received::End | Received::Failed(_) => connection.dying = true,
                Received::Starved | Received::Cancelled => {}
            }
        }
    }

    fn transferred(&mut self, id: u64, moved: Option<u32>, buffer: Buffer) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.disk = false;
        let Some(mut work) = connection.work.take() else { return };
        let Some(moved) = moved.filter(|moved| *moved > 0) else {
            return connection.answer(&work.pdu, &MEDIUM_ERROR, 0);
        };
        work.moved += moved;
        work.buffer = Some(buffer);
        if work.moved < work.len {
            connection.work = Some(work);
            self.transfer(id);
        } else if work.pdu.cdb()[0] == 0x88 {
            let bytes = work.buffer.take().expect("just put there");
            connection.data_in(&work.pdu, &bytes.bytes()[..work.len as usize]);
            connection.answer(&work.pdu, &[], 0);
        } else if work.pdu.cdb()[1] & 8 != 0 {
            connection.work = Some(work);
            connection.disk = true;
            self.push(token(DISK, id), Operation::Flush { file: self.file });
        } else {
            connection.answer(&work.pdu, &[], 0);
        }
    }

    /// The next part of a command's transfer.
    fn transfer(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(work) = &mut connection.work else { return };
        let (file, offset) = (self.file, work.offset + u64::from(work.moved));
        let (start, len) = (work.moved, work.len - work.moved);
        let buffer = work.buffer.take().expect("a transfer in progress has its buffer");
        connection.disk = true;
        let operation = if work.pdu.cdb()[0] == 0x88 {
            Operation::Read { file, offset, buffer, start, len }
        } else {
            Operation::Write { file, offset, buffer, start, len }
        };
        match self.ring.at_once(operation) {
            Ok(event) => self.complete(Completion { token: token(DISK, id), event }),
            Err(operation) => self.push(token(DISK, id), operation),
        }
    }

    /// Starts what a connection can do now.
    fn progress(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let socket = connection.socket;
        if connection.dying {
            return self.bury(id);
        }
        if !connection.receiving {
            connection.receiving = true;
            self.push(token(RECEIVE, id), Operation::Receive { socket });
        }
        while let Some(pdu) = self.connections.get_mut(&id).and_then(Connection::next_pdu) {
            self.handle(id, pdu);
        }
        self.finish_login(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.sending && !connection.outgoing.is_empty() {
            self.send(id);
        }
    }

    fn send(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut list = SendList::new();
        for piece in connection.outgoing.chunks(64 * 1024) {
            let mut buffer = self.memory.take(piece.len() as u32).expect("enough memory for a test");
            buffer.bytes_mut().expect("a new buffer")[..piece.len()].copy_from_slice(piece);
            let index = list.pin(buffer);
            list.segment(index, 0, piece.len() as u32);
        }
        connection.outgoing.clear();
        connection.sending = true;
        let socket = connection.socket;
        self.push(token(SEND, id), Operation::Send { socket, list });
    }

    /// Ends a connection once nothing of it is in flight.
    fn bury(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if (connection.receiving || connection.sending) && !connection.cancelling {
            connection.cancelling = true;
            let kind = if connection.receiving { RECEIVE } else { SEND };
            self.push(token(CANCEL, id), Operation::Cancel { target: token(kind, id) });
        } else if !(connection.receiving || connection.sending || connection.disk || connection.cancelling) {
            connection.cancelling = true;
            let socket = connection.socket;
            self.push(token(CLOSE, id), Operation::Close { socket });
        }
    }

    fn handle(&mut self, id: u64, pdu: Pdu) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match pdu.opcode() {
            0x03 => connection.login(pdu),
            0x00 => connection.nop(&pdu),
            0x01 => {
                if !pdu.is_immediate() {
                    connection.exp_cmd_sn = connection.exp_cmd_sn.wrapping_add(1);
                }
                self.command(id, pdu);
            }
            0x02 => connection.reply(response(0x22, &pdu), &[]),
            0x05 => {
                let Some(work) = &mut connection.work else { return };
                let at = pdu.word(40) as usize;
                let bytes = work.buffer.as_mut().and_then(Buffer::bytes_mut).expect("a buffer of our own");
                bytes[at..at + pdu.data.len()].copy_from_slice(&pdu.data);
                work.have += pdu.data.len() as u32;
                if work.have == work.len {
                    self.transfer(id);
                } else if pdu.is_final() {
                    connection.r2t();
                }
            }
            0x06 => {
                connection.reply(response(0x26, &pdu), &[]);
            }
            _ => connection.dying = true,
        }
    }

    fn command(&mut self, id: u64, pdu: Pdu) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let cdb = pdu.cdb();
        let lba = u64::from_be_bytes(cdb[2..10].try_into().expect("8 bytes"));
        let blocks = u32::from_be_bytes(cdb[10..14].try_into().expect("4 bytes"));
        let (offset, len) = (lba * 512, blocks * 512);
        let work = Work { pdu, buffer: None, have: 0, moved: 0, len, offset, r2ts: 0 };
        match cdb[0] {
            0x88 | 0x8a => {
                let buffer = self.memory.take(len).expect("enough memory for a test");
                connection.work = Some(Work { buffer: Some(buffer), ..work });
                if cdb[0] == 0x88 { self.transfer(id) } else { connection.r2t() }
            }
            0x91 | 0x93 => {
                let file = self.file;
                connection.disk = true;
                connection.work = Some(Work { have: len, ..work });
                let operation = if cdb[0] == 0x91 {
                    Operation::Flush { file }
                } else {
                    Operation::Zero { file, offset, len: len.into() }
                };
                self.push(token(DISK, id), operation);
            }
            _ => connection.answer(&work.pdu, &[], 0),
        }
    }

    /// Answers a login once every other connection of that initiator is gone.
    fn finish_login(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.login.is_none() {
            return;
        }
        let name = connection.name.clone();
        let mut others = false;
        for (other, connection) in &mut self.connections {
            if *other != id && connection.name == name {
                connection.dying = true;
                others = true;
            }
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !others && let Some(pdu) = connection.login.take() {
            connection.logged_in = true;
            connection.login_response(&pdu, KEYS.as_bytes());
        }
    }
}

impl Work {
    fn is_waiting_for_data(&self) -> bool {
        self.pdu.cdb()[0] == 0x8a && self.have < self.len
    }
}

impl Connection {
    fn new(socket: SocketId) -> Self {
        Self {
            socket,
            name: Vec::new(),
            logged_in: false,
            receiving: false,
            cancelling: false,
            sending: false,
            disk: false,
            dying: false,
            closed: false,
            parser: Parser::default(),
            queue: VecDeque::new(),
            work: None,
            outgoing: Vec::new(),
            stat_sn: 1,
            exp_cmd_sn: 0,
            data_max: 8192,
            login: None,
        }
    }

    /// What to handle next: while a write waits for its data, only that.
    fn next_pdu(&mut self) -> Option<Pdu> {
        match &self.work {
            _ if self.dying => None,
            None => self.queue.pop_front(),
            Some(work) if work.is_waiting_for_data() => {
                let index = self.queue.iter().position(|pdu| pdu.opcode() == 0x05)?;
                self.queue.remove(index)
            }
            Some(_) => None,
        }
    }

    fn login(&mut self, pdu: Pdu) {
        if self.name.is_empty() {
            self.name = pdu.data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            self.exp_cmd_sn = pdu.word(24);
        }
        if let Some(at) = pdu.data.windows(25).position(|text| text == b"MaxRecvDataSegmentLength=") {
            let digits = pdu.data[at + 25..].split(|byte| *byte == 0).next().unwrap_or_default();
            self.data_max = String::from_utf8_lossy(digits).parse().unwrap_or(8192);
        }
        if pdu.header[1] & 3 == 3 {
            self.login = Some(pdu)
        } else {
            self.login_response(&pdu, b"AuthMethod=None\0")
        }
    }

    fn login_response(&mut self, pdu: &Pdu, keys: &[u8]) {
        let mut header = response(0x23, pdu);
        header[1] = pdu.header[1];
        header[8..14].copy_from_slice(&pdu.header[8..14]);
        header[15] = u8::from(self.logged_in);
        self.reply(header, keys);
    }

    fn nop(&mut self, pdu: &Pdu) {
        if pdu.tag() != u32::MAX {
            let mut header = response(0x20, pdu);
            header[20..24].copy_from_slice(&[0xff; 4]);
            self.reply(header, &pdu.data);
        }
    }

    /// Queues a PDU with a status number of its own.
    fn reply(&mut self, header: [u8; 48], data: &[u8]) {
        self.emit(header, data);
        self.stat_sn = self.stat_sn.wrapping_add(1);
    }

    fn emit(&mut self, mut header: [u8; 48], data: &[u8]) {
        header[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.exp_cmd_sn.to_be_bytes());
        header[32..36].copy_from_slice(&self.exp_cmd_sn.wrapping_add(WINDOW).to_be_bytes());
        header[4..8].copy_from_slice(&(data.len() as u32).to_be_bytes());
        self.outgoing.extend_from_slice(&header);
        self.outgoing.extend_from_slice(data);
        self.outgoing.resize(self.outgoing.len().next_multiple_of(4), 0);
    }

    fn data_in(&mut self, pdu: &Pdu, bytes: &[u8]) {
        let step = self.data_max.min(512) as usize;
        for (index, piece) in bytes.chunks(step).enumerate() {
            let mut header = response(0x25, pdu);
            header[1] = 0x80;
            header[36..40].copy_from_slice(&(index as u32).to_be_bytes());
            header[40..44].copy_from_slice(&((index * step) as u32).to_be_bytes());
            self.emit(header, piece);
        }
    }

    fn answer(&mut self, pdu: &Pdu, sense: &[u8], _residual: u32) {
        let mut header = response(0x21, pdu);
        let good = sense.is_empty();
        header[3] = if good { 0 } else { 2 };
        let cdb = pdu.cdb();
        let len = pdu.word(20);
        let pdus = match cdb[0] {
            0x88 if good => len / self.data_max.min(512),
            0x8a => len / 512,
            _ => 0,
        };
        header[36..40].copy_from_slice(&pdus.to_be_bytes());
        if !good || matches!(cdb[0], 0x93) || (cdb[0] != 0x88 && cdb[0] != 0x8a && len > 0) {
            header[1] |= if len > 0 { 2 } else { 0 };
            header[44..48].copy_from_slice(&len.to_be_bytes());
        }
        let mut data = Vec::new();
        if !good {
            data.extend_from_slice(&(sense.len() as u16).to_be_bytes());
            data.extend_from_slice(sense);
        }
        self.reply(header, &data);
    }

    fn r2t(&mut self) {
        let Some(work) = &mut self.work else { return };
        let mut header = response(0x31, &work.pdu);
        header[20..24].copy_from_slice(&1u32.to_be_bytes());
        header[36..40].copy_from_slice(&work.r2ts.to_be_bytes());
        header[40..44].copy_from_slice(&work.have.to_be_bytes());
        header[44..48].copy_from_slice(&512u32.min(work.len - work.have).to_be_bytes());
        work.r2ts += 1;
        self.emit(header, &[]);
    }
}
