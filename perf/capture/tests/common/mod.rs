//! Captures made up: a little boot as packets, in any container and on any link.

#![allow(dead_code, reason = "each test uses a part")]

use etherparse::{PacketBuilder, PacketBuilderStep, TcpHeader};
use stampede_wire::pdu::{
    DataIn, InitiatorSns, LoginRequest, LoginResponse, LoginStep, Residual, ScsiCommand, ScsiResponse, Stage,
    TargetSns, TaskAttribute,
};
use stampede_wire::text::Builder;
use stampede_wire::{Bhs, Isid, Lun, Sn, Tsih};

/// How packets lie in a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    Ethernet,
    Vlan,
    Ipv6,
    Raw,
    Null,
    Sll,
    Sll2,
}

impl Link {
    pub(crate) const ALL: [Self; 7] =
        [Self::Ethernet, Self::Vlan, Self::Ipv6, Self::Raw, Self::Null, Self::Sll, Self::Sll2];

    fn number(self) -> u32 {
        match self {
            Self::Ethernet | Self::Vlan | Self::Ipv6 => 1,
            Self::Raw => 101,
            Self::Null => 0,
            Self::Sll => 113,
            Self::Sll2 => 276,
        }
    }

    /// A TCP segment as it lies on this link.
    fn frame(self, from_initiator: bool, header: TcpHeader, payload: &[u8]) -> Vec<u8> {
        let ip = |step: PacketBuilderStep<etherparse::Ethernet2Header>| {
            step.ipv4(address(from_initiator), address(!from_initiator), 64)
        };
        let step = match self {
            Self::Vlan => PacketBuilder::ethernet2([1; 6], [2; 6])
                .single_vlan(7u16.try_into().expect("what is made up is legal"))
                .ipv4(address(from_initiator), address(!from_initiator), 64),
            Self::Ipv6 => {
                let (source, destination) =
                    if from_initiator { ([1; 16], [2; 16]) } else { ([2; 16], [1; 16]) };
                PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(source, destination, 64)
            }
            _ => ip(PacketBuilder::ethernet2([1; 6], [2; 6])),
        };
        let mut ethernet = Vec::new();
        step.tcp_header(header).write(&mut ethernet, payload).expect("what is made up is legal");
        let bare = ethernet.get(14..).expect("what is made up is legal");
        match self {
            Self::Ethernet | Self::Vlan | Self::Ipv6 => ethernet,
            Self::Raw => bare.to_vec(),
            Self::Null => [&2_u32.to_le_bytes(), bare].concat(),
            Self::Sll => [&[0; 14][..], &[0x08, 0x00], bare].concat(),
            Self::Sll2 => [&[0x08, 0x00][..], &[0; 18], bare].concat(),
        }
    }
}

fn address(is_initiator: bool) -> [u8; 4] {
    if is_initiator { [10, 0, 0, 1] } else { [10, 0, 0, 2] }
}

/// A packet of a capture.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) at_us: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Packets in the making: one connection of an initiator.
pub(crate) struct Wire {
    pub(crate) link: Link,
    pub(crate) frames: Vec<Frame>,
    port: u16,
    at_us: u64,
    seqs: [u32; 2],
    sns: Sn,
}

impl Wire {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, frames: Vec::new(), port: 50_000, at_us: 5_000_000, seqs: [0; 2], sns: Sn(1) }
    }

    pub(crate) fn wait(&mut self, us: u64) -> &mut Self {
        self.at_us += us;
        self
    }

    /// A segment in front of the connection's present place by `back` bytes, which moves on unless it is an old one.
    fn segment(&mut self, side: usize, payload: &[u8], change: impl FnOnce(&mut TcpHeader)) {
        let (source, destination) = if side == 0 { (self.port, 3260) } else { (3260, self.port) };
        let mut header = TcpHeader::new(source, destination, self.seqs[side], 65_535);
        (header.ack, header.acknowledgment_number) = (true, self.seqs[1 - side]);
        change(&mut header);
        let bytes = self.link.frame(side == 0, header, payload);
        self.frames.push(Frame { at_us: self.at_us, bytes });
        self.seqs[side] = self.seqs[side].wrapping_add(payload.len() as u32);
    }

    pub(crate) fn connect(&mut self) -> &mut Self {
        self.port += 1;
        self.seqs = [u32::MAX - 20, 77];
        self.segment(0, &[], |header| (header.syn, header.ack) = (true, false));
        self.seqs[0] = self.seqs[0].wrapping_add(1);
        self.segment(1, &[], |header| header.syn = true);
        self.seqs[1] = self.seqs[1].wrapping_add(1);
        self
    }

    pub(crate) fn fin(&mut self) -> &mut Self {
        self.segment(0, &[], |header| header.fin = true);
        self
    }

    pub(crate) fn send(&mut self, side: usize, bhs: impl Into<Bhs>, data: &[u8]) -> &mut Self {
        let mut bhs: Bhs = bhs.into();
        bhs.set_data_segment_len(data.len() as u32);
        let padding = vec![0; data.len().wrapping_neg() % 4];
        self.segment(side, &[&bhs.0[..], data, &padding].concat(), |_| {});
        self
    }

    pub(crate) fn login(&mut self, name: &str, isid: [u8; 6]) -> &mut Self {
        let sns = InitiatorSns { cmd_sn: Sn(1), exp_stat_sn: Sn(0) };
        let step = LoginStep::Transit(Stage::FullFeature);
        let mut text = Builder::new();
        text.push("InitiatorName", name);
        text.push("TargetName", "iqn.2026-11.test:t");
        text.push("SessionType", "Normal");
        let request = LoginRequest::new(Isid(isid), Tsih::NEW, 0, 0, Stage::Operational, step, sns);
        self.send(0, request, text.as_bytes()).wait(100);
        let response = LoginResponse::new(Isid(isid), Tsih(1), 0, Stage::Operational, step, self.target());
        self.send(1, response, b"HeaderDigest=None\0").wait(10)
    }

    fn target(&self) -> TargetSns {
        TargetSns { stat_sn: self.sns, exp_cmd_sn: Sn(1), max_cmd_sn: Sn(99) }
    }

    pub(crate) fn ask(&mut self, tag: u32, cdb: &[u8], expected: u32) -> &mut Self {
        let mut all = [0; 16];
        all[..cdb.len()].copy_from_slice(cdb);
        let sns = InitiatorSns { cmd_sn: Sn(1), exp_stat_sn: Sn(1) };
        let command = ScsiCommand::new(tag, Lun::ZERO, TaskAttribute::Simple, &all, sns);
        let writes = [0x2a, 0x42].contains(&cdb[0]);
        let command = if writes { command.writing(expected, false) } else { command.reading(expected) };
        let data = if cdb[0] == 0x2a { vec![7; expected as usize] } else { Vec::new() };
        self.send(0, command, &data)
    }

    /// The answer to a read, with its status in the last Data-In.
    pub(crate) fn data(&mut self, tag: u32, len: u32) -> &mut Self {
        let (sns, stat_sn) = (self.target(), self.sns);
        let pdu = DataIn::new(tag, 0, 0, true, sns).with_status(0, Residual::None, stat_sn);
        self.send(1, pdu, &vec![9; len as usize])
    }

    pub(crate) fn status(&mut self, tag: u32, status: u8) -> &mut Self {
        let pdu = ScsiResponse::new(tag, status, Residual::None, self.target());
        self.send(1, pdu, &[])
    }
}

/// A READ of `blocks` blocks.
pub(crate) fn read10(lba: u8, blocks: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}

/// A firmware's session, an operating system's two connections (the second takes the first one's session over), with what
/// a trace leaves out among it.
pub(crate) fn boot(link: Link) -> Wire {
    let mut wire = Wire::new(link);
    wire.connect().login("iqn.2026-11.test:m", [0x40, 0, 0x27, 0x23, 1, 1]);
    wire.wait(40).ask(1, &[0], 0).wait(5).status(1, 2);
    wire.wait(50).ask(2, &read10(0, 2), 1024).wait(5).data(2, 1024);
    wire.wait(10).fin().wait(1000);
    wire.connect().login("iqn.2026-11.test:m", [0, 2, 0x3d, 0, 0, 1]);
    wire.wait(60).ask(3, &[0x12, 0, 0, 0, 36], 36).wait(5).data(3, 36);
    wire.wait(70)
        .ask(4, &read10(8, 8), 4096)
        .ask(5, &read10(16, 8), 4096)
        .wait(9)
        .data(4, 4096)
        .wait(5)
        .data(5, 4096);
    wire.wait(20).ask(6, &[0x2a, 8, 0, 0, 0, 3, 0, 0, 1], 512).wait(5).status(6, 0);
    wire.wait(10).ask(7, &[0x42], 24).wait(1).status(7, 0);
    wire.wait(10).ask(8, &read10(1, 1), 512);
    wire.wait(10).ask(9, &[0x35], 0).wait(5).status(9, 0).fin().wait(2_000_000);
    wire.connect().login("iqn.2026-11.test:m", [0, 2, 0x3d, 0, 0, 1]);
    wire.wait(30).ask(1, &read10(8, 8), 4096).wait(5).data(1, 4096);
    wire
}

/// What `boot` is as a trace.
pub(crate) const BOOT: &str = "stampede-trace 1\nname boot\norigin recorded\nlogin 1 firmware\nc 00 0 50\nr = 2 50\n\
    close 1\nlogin 2 os 1010\nc 1200000024 36 70\nr 8 8 70\nr = 8 @1\nw 3 1 fua 20\ns 31\nclose 2\nlogin 2 os 2000000\n\
    r 8 8 40\n";

/// A classic file.
pub(crate) fn pcap(link: Link, frames: &[Frame], big_endian: bool, nanoseconds: bool) -> Vec<u8> {
    let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
    let mut file = word(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
    file.extend([half(2), half(4)].concat());
    file.extend([word(0), word(0), word(262_144), word(link.number())].concat());
    for Frame { at_us, bytes } in frames {
        let fraction = (at_us % 1_000_000) as u32 * if nanoseconds { 1000 } else { 1 };
        let len = bytes.len() as u32;
        file.extend([word((at_us / 1_000_000) as u32), word(fraction), word(len), word(len)].concat());
        file.extend(bytes);
    }
    file
}

/// The newer form, with a clock of `resolution` (10 to the power of minus it) and another block in between.
pub(crate) fn pcapng(link: Link, frames: &[Frame], resolution: u8) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let len = (12 + padded) as u32;
        let mut block = [kind.to_le_bytes(), len.to_le_bytes()].concat();
        block.extend(body);
        block.extend(vec![0; padded - body.len()]);
        block.extend(len.to_le_bytes());
        block
    };
    let mut file =
        block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    let mut interface = (link.number() as u16).to_le_bytes().to_vec();
    interface.extend([0, 0, 0, 0, 0, 0]);
    interface.extend([9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(block(1, &interface));
    file.extend(block(0x0bad, b"something else"));
    for Frame { at_us, bytes } in frames {
        let units = at_us * 10_u64.pow(u32::from(resolution)) / 1_000_000;
        let len = (bytes.len() as u32).to_le_bytes();
        let [low, high] = [units as u32, (units >> 32) as u32].map(u32::to_le_bytes);
        file.extend(block(6, &[&0_u32.to_le_bytes()[..], &high, &low, &len, &len, bytes].concat()));
    }
    file
}
