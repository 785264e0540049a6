//! Properties: no input panics, every byte of a write arrives once, every command is answered once.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use stampede_session::{ManagementResponse, Phase, Settings, TaskKey, Transfer};
use stampede_wire::{
    Lun,
    pdu::{self, LoginStep, ReadyToTransfer, ScsiCommand, Stage, TaskAttribute, status},
};

use crate::support::{Event, Harness, INITIATOR, Sent, TARGET, Targets, payload, text};

/// One write of a random schedule.
#[derive(Clone, Debug)]
struct Write {
    len: u32,
    immediate: u32,
    unsolicited: u32,
    grant: u32,
    /// How Data-Out bursts are cut.
    piece: usize,
}

prop_compose! {
    fn write()(len in 1u32..60_000, immediate in 0u32..5000, unsolicited in 0u32..5000, wanted in 0u32..70_000,
               piece in 1usize..9000) -> Write {
        Write { len, immediate, unsolicited, grant: wanted, piece }
    }
}

/// Sends `len` bytes from `offset` as one burst.
fn burst(harness: &mut Harness, itt: u32, tag: Option<u32>, offset: u32, len: u32, piece: usize) {
    let (mut at, end, mut sn) = (offset, offset + len, 0);
    while at < end {
        let now = piece.min((end - at) as usize);
        harness.data_out(itt, tag, sn, at, now, at + now as u32 == end).unwrap();
        at += now as u32;
        sn += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the lengths, cuts and parameters: each wanted byte is stored once, R2Ts keep to what was agreed, and the
    /// command is handed over exactly once, after its last byte.
    #[test]
    fn writes_arrive_whole(
        writes in prop::collection::vec(write(), 1..6),
        first_burst in 512u32..9000,
        max_burst in 512u32..20_000,
        r2ts in 1u32..6,
        order in any::<u64>(),
    ) {
        let keys = format!("InitialR2T=No ImmediateData=Yes FirstBurstLength={first_burst} \
                            MaxBurstLength={max_burst} MaxOutstandingR2T={r2ts}");
        let mut harness = Harness::session(&keys);
        let agreed = harness.connection.info().unwrap().parameters.clone();
        let mut queue: BTreeMap<u32, Vec<ReadyToTransfer>> = BTreeMap::new();
        for (itt, write) in (0u32..).zip(&writes) {
            let limit = agreed.first_burst.min(write.len);
            let immediate = write.immediate.min(limit);
            let unsolicited = write.unsolicited.min(limit - immediate);
            harness.grant = write.grant;
            harness.write(itt, write.len, immediate as usize, unsolicited > 0).unwrap();
            if unsolicited > 0 {
                burst(&mut harness, itt, None, immediate, unsolicited, write.piece);
            }
        }
        let mut random = order;
        loop {
            for event in harness.take() {
                match event {
                    Event::Send(bhs, Sent::None) => {
                        let r2t: &ReadyToTransfer = bhs.try_view().expect("only R2Ts are sent");
                        let outstanding = queue.entry(r2t.initiator_task_tag()).or_default();
                        outstanding.push(*r2t);
                        prop_assert!(outstanding.len() <= usize::from(agreed.max_outstanding_r2t));
                        prop_assert!(r2t.desired_data_transfer_length() <= agreed.max_burst);
                    }
                    Event::Command(task) => {
                        let itt = harness.connection.task(task).unwrap().itt();
                        let write = &writes[itt as usize];
                        let wanted = write.grant.min(write.len);
                        prop_assert_eq!(harness.connection.task(task).unwrap().wanted_len(), wanted);
                        prop_assert_eq!(harness.stored_len(task), wanted as usize);
                        harness.respond(task, status::GOOD, &[], Transfer::Out { wanted: u64::from(write.len) });
                    }
                    Event::Accept(_) | Event::Send(..) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            harness.out.0.retain(|event| !matches!(event, Event::Send(bhs, _) if bhs.try_view::<pdu::ScsiResponse>().is_some()));
            queue.retain(|_, r2ts| !r2ts.is_empty());
            let Some(pick) = queue.keys().nth(random as usize % queue.len().max(1)).copied() else { break };
            random = random.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let r2t = queue.get_mut(&pick).expect("picked").remove(0);
            let (tag, len) = (r2t.target_transfer_tag(), r2t.desired_data_transfer_length());
            let piece = writes[pick as usize].piece;
            burst(&mut harness, pick, Some(tag), r2t.buffer_offset(), len, piece);
        }
        prop_assert_eq!(harness.connection.tasks_len(), 0, "every command ended");
    }

    /// The payload is covered once by Data-In, whatever was agreed.
    #[test]
    fn reads_are_covered_once(segment in 512u32..300_000, burst in 512u32..300_000, expected in 0u32..600_000,
                              available in 0u64..700_000) {
        let keys = format!("MaxRecvDataSegmentLength={segment} MaxBurstLength={burst}");
        let mut harness = Harness::session(&keys);
        let task = harness.read(1, expected);
        harness.take();
        harness.respond(task, status::GOOD, &[], Transfer::In { available });
        let (mut at, mut ends) = (0, 0);
        for event in &harness.out.0 {
            let Event::Send(header, Sent::Task { task: named, offset, len }) = event else { continue };
            prop_assert_eq!((*named, *offset), (task, at));
            prop_assert!(*len <= segment);
            at += len;
            ends += u32::from(header.try_view::<pdu::DataIn>().unwrap().status().is_some());
        }
        prop_assert_eq!(u64::from(at), available.min(u64::from(expected)));
        prop_assert_eq!(ends as usize + harness.responses().len(), 1, "one status");
    }
}

/// Any bytes as a header: mostly of a known opcode, with small lengths so that the stream stays cut well.
fn any_header() -> impl Strategy<Value = [u8; 48]> {
    let opcode = prop_oneof![
        8 => prop::sample::select(vec![0x00u8, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10]),
        1 => any::<u8>(),
    ];
    (opcode, any::<bool>(), any::<[u8; 48]>(), 0u32..8, 0u32..5, prop::option::of(0u32..4)).prop_map(
        |(opcode, immediate, mut bytes, itt, sn, len)| {
            bytes[0] = opcode | if immediate { 0x40 } else { 0 };
            bytes[4] &= 1;
            bytes[5..8].copy_from_slice(&[0, 0, len.unwrap_or(0) as u8 * 3]);
            bytes[16..20].copy_from_slice(&itt.to_be_bytes());
            bytes[24..28].copy_from_slice(&sn.to_be_bytes());
            bytes
        },
    )
}

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    Pdu([u8; 48], bool),
    Read(u32),
    Write(u32, u32, bool),
    Respond(usize),
    Forget(usize),
    Manage,
    Kill(Option<u16>),
    Window(u16),
    Tick(u64),
    Text(Vec<u8>),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_header(), prop::bool::weighted(0.95)).prop_map(|(bytes, ok)| Step::Pdu(bytes, ok)),
        3 => (0u32..9000).prop_map(Step::Read),
        3 => (0u32..9000, 0u32..9000, any::<bool>()).prop_map(|(len, now, more)| Step::Write(len, now, more)),
        4 => any::<usize>().prop_map(Step::Respond),
        2 => any::<usize>().prop_map(Step::Forget),
        2 => Just(Step::Manage),
        1 => prop::option::of(0u16..3).prop_map(Step::Kill),
        1 => (0u16..20).prop_map(Step::Window),
        1 => (0u64..100_000_000_000).prop_map(Step::Tick),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Step::Text),
    ]
}

/// Everything that may happen, in any order: nothing panics, bounds hold, dead connections are silent.
fn live_through(harness: &mut Harness, steps: Vec<Step>) -> Result<(), TestCaseError> {
    for (itt, step) in (100u32..).zip(steps) {
        let pick = |harness: &Harness, at: usize| -> Option<TaskKey> {
            let tasks: Vec<_> = harness.connection.tasks().collect();
            (!tasks.is_empty()).then(|| tasks[at % tasks.len()])
        };
        let outcome = match step {
            Step::Pdu(bytes, ok) => {
                harness.digest_ok = ok;
                let mut whole = bytes.to_vec();
                let segments = usize::from(bytes[4]) * 4 + usize::from(bytes[7]).next_multiple_of(4);
                whole.extend(std::iter::repeat_n(0x41, segments));
                harness.feed_bytes(&whole).map(drop)
            }
            Step::Read(len) => {
                let sns = harness.take_sns();
                let pdu =
                    ScsiCommand::new(itt, Lun::ZERO, TaskAttribute::Simple, &[0x28; 16], sns).reading(len);
                harness.feed(&pdu, &[]).map(drop)
            }
            Step::Write(len, now, more) => harness.write(itt, len, now as usize, more).map(drop),
            Step::Respond(at) => {
                if let Some(task) = pick(harness, at) {
                    harness.respond(task, status::GOOD, &[], Transfer::In { available: at as u64 % 9000 });
                }
                Ok(())
            }
            Step::Forget(at) => {
                if let Some(task) =
                    pick(harness, at).filter(|task| harness.connection.task(*task).unwrap().killed())
                {
                    harness.connection.forget(task);
                }
                Ok(())
            }
            Step::Manage => {
                for request in harness.managed() {
                    harness.connection.managed(
                        request.id(),
                        ManagementResponse::Complete,
                        0,
                        &mut harness.out,
                    );
                }
                harness.out.0.retain(|event| !matches!(event, Event::Manage(_)));
                Ok(())
            }
            Step::Kill(lun) => {
                harness.connection.kill(lun.and_then(Lun::encode), &mut harness.out);
                Ok(())
            }
            Step::Window(commands) => {
                harness.connection.set_window(commands, &mut harness.out);
                Ok(())
            }
            Step::Tick(later) => {
                harness.now_ns += later;
                harness.connection.tick(harness.now_ns, &mut harness.out)
            }
            Step::Text(bytes) => {
                let sns = harness.take_sns();
                harness.feed(&pdu::TextRequest::new(itt, pdu::TextStep::Final, sns), &bytes).map(drop)
            }
        };
        prop_assert!(harness.connection.tasks_len() <= harness.connection.tasks_max());
        if outcome.is_err() {
            break;
        }
        if let Some(info) = harness.connection.info() {
            for event in &harness.out.0 {
                let Event::Send(bhs, _) = event else { continue };
                prop_assert!(bhs.data_segment_len() <= info.parameters.initiator_recv_data_segment.max(8192));
            }
        }
        if harness.connection.phase() == Phase::FullFeature {
            // Keep in step with what the session counted, so that many commands are taken.
            harness.take_stale_numbers();
        }
    }
    harness.connection.disconnect(&mut harness.out);
    harness.take();
    let left: Vec<_> = harness.connection.tasks().collect();
    for task in left {
        prop_assert!(harness.connection.task(task).unwrap().killed(), "what is left is the engine's");
        harness.respond(task, status::GOOD, &[], Transfer::None);
    }
    prop_assert!(harness.take().is_empty() && harness.connection.tasks_len() == 0);
    Ok(())
}

impl Harness {
    /// Takes CmdSN from the last PDU sent, as an initiator that lost count would.
    fn take_stale_numbers(&mut self) {
        let last = self.out.0.iter().rev().find_map(|event| match event {
            Event::Send(bhs, _) => Some(bhs.view::<pdu::NopIn>().exp_cmd_sn()),
            _ => None,
        });
        if let Some(sn) = last.filter(|sn| self.cmd_sn.lt(*sn)) {
            self.cmd_sn = sn;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_sequence_of_events_panics(steps in prop::collection::vec(any_step(), 1..60), digests in any::<bool>()) {
        let settings = Settings {
            window: 8,
            ping_interval_ns: 20_000_000_000,
            ..Settings::new(Arc::new(Targets::default()))
        };
        let keys = if digests { "InitialR2T=No FirstBurstLength=4096 MaxOutstandingR2T=4" } else { "ImmediateData=No" };
        let mut harness = Harness::session_with(settings, keys);
        harness.grant = 4096;
        live_through(&mut harness, steps)?;
    }

    #[test]
    fn no_login_panics(requests in prop::collection::vec((any_header(), any::<[u8; 3]>(), prop::collection::vec(any::<u8>(), 0..120)), 1..8),
                       named in any::<bool>()) {
        let mut harness = Harness::new();
        if named {
            let keys = text(&format!("InitiatorName={INITIATOR} TargetName={TARGET}"));
            harness.feed(&harness.login_request(Stage::Operational, LoginStep::Stay), &keys).unwrap();
        }
        for (mut bytes, flags, mut keys) in requests {
            (bytes[0], bytes[1]) = (0x43, flags[0]);
            bytes[4] = 0;
            if flags[1] & 1 == 0 {
                bytes[2..4].fill(0);
                bytes[8..16].copy_from_slice(&[0, 2, 0x3d, 0, 0, 1, 0, 0]);
            }
            if flags[2] & 1 == 0 {
                keys.retain(|byte| byte.is_ascii_graphic() || *byte == 0);
                keys.push(0);
            }
            bytes[5..8].copy_from_slice(&[0, 0, keys.len() as u8]);
            let mut whole = bytes.to_vec();
            whole.extend(&keys);
            whole.resize(whole.len().next_multiple_of(4), 0);
            if harness.feed_bytes(&whole).is_err() || harness.closed().is_some() {
                break;
            }
            harness.admit(1);
        }
        harness.connection.disconnect(&mut harness.out);
    }
}

#[test]
fn the_pattern_tells_offsets_apart() {
    let bytes = payload(4096);
    assert!(bytes.windows(64).zip(bytes[64..].windows(64)).all(|(a, b)| a != b));
}
