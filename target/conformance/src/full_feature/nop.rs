//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19).

use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{NopIn, NopOut};

pub(super) const TESTS: &[Test] = &[
    test!(
        nop_out_is_answered_with_its_data,
        "RFC 7143 11.18, 11.19",
        "a NOP-Out with a task tag is answered by a NOP-In with that tag, the reserved transfer tag and the data that \
         came",
        "session/src/full_feature/nop.rs#nop_out"
    )
    .must(&[21])
    .broken_by(Mutation::new("the echo is cut short", short_echo)),
    test!(
        nop_out_without_a_tag_is_not_answered,
        "RFC 7143 11.18.1",
        "a NOP-Out whose task tag is ffffffff wants no answer and gets none",
        "session/src/full_feature/nop.rs#nop_out"
    )
    .must(&[21])
    .broken_by(Mutation::new("a NOP-Out without a tag is answered", answers_all)),
];

fn short_echo(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::NopIn) && !pdu.data.is_empty() {
        let half = pdu.data[..pdu.data.len() / 2].to_vec();
        pdu.set_data(half);
    }
    middle.pass(pdu);
}

fn answers_all(middle: &mut Middle, pdu: Raw) {
    let unwanted = |bhs: &&stampede_wire::Bhs| {
        bhs.opcode() == Ok(Opcode::NopOut) && bhs.initiator_task_tag() == u32::MAX
    };
    let count = middle.sent.iter().filter(unwanted).count() as u32;
    if pdu.opcode() == Some(Opcode::NopIn) && middle.memory < count {
        middle.memory = count;
        let mut answer = pdu.clone();
        answer.set_word(16, u32::MAX);
        middle.invent(answer);
    }
    middle.pass(pdu);
}

fn nop_out_is_answered_with_its_data(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for len in [0usize, 1, 3, 4, 100, 8192] {
        let data: Vec<u8> = (0..len).map(|at| at as u8 ^ 0x5a).collect();
        let tag = conn.new_tag();
        let ping = NopOut::ping(tag, conn.next_sns());
        conn.send(ping, &data);
        let pong = conn.expect::<NopIn>()?;
        ensure_eq!(pong.word(16), tag, "the tag");
        ensure_eq!(pong.word(20), u32::MAX, "the Target Transfer Tag of an answer");
        ensure!(pong.data == data, "{} bytes came back of {len}", pong.data.len());
    }
    Ok(())
}

fn nop_out_without_a_tag_is_not_answered(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    for _ in 0..3 {
        let news = NopOut::notify(conn.sns());
        conn.send(news.into_immediate(), &[]);
    }
    conn.expect_quiet().map(drop)
}
