//! NOP-Out and NOP-In (RFC 7143 11.18, 11.19).

use crate::conn::{Cmd, Conn, LoginText};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::mutation::{Middle, Mutation};
use crate::pdu::Raw;
use crate::registry::Test;
use crate::run::Side;
use crate::site::{CLONE, DATA, Site};
use crate::{ensure, ensure_eq, test};
use stampede_wire::Opcode;
use stampede_wire::pdu::{LoginStep, NopIn, NopOut, Stage};

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
    test!(
        nop_out_without_a_tag_and_not_immediate_is_not_answered,
        "RFC 7143 11.18.1",
        "a NOP-Out whose task tag is ffffffff must be immediate; one that is not gets no answer either",
        "session/src/full_feature/nop.rs#nop_out"
    )
    .must(&[21]),
    test!(
        echo_is_cut_to_the_initiators_segment,
        "RFC 7143 11.19.2, 13.12",
        "a NOP-In brings back no more than the initiator's MaxRecvDataSegmentLength",
        "session/src/full_feature/nop.rs#nop_out"
    )
    .must(&[21, 12]),
    test!(
        ping_of_the_target_has_a_transfer_tag,
        "RFC 7143 11.19",
        "a NOP-In that wants an answer has the task tag ffffffff, a transfer tag that is not, and takes no StatSN; \
         answered, the session goes on",
        "session/src/full_feature/nop.rs#ping"
    )
    .must(&[22, 6])
    .broken_by(Mutation::new("a ping has no transfer tag", ping_without_tag)),
    test!(
        silence_after_a_ping_ends_the_session,
        "RFC 7143 11.19",
        "an initiator that answered a ping before and does not answer one now is dropped; one that never did is not, \
         for boot ROMs never do",
        "session/src/full_feature/nop.rs#ping_unanswered"
    )
    .must(&[22])
    .on(Site { ping_interval_s: 1, ..Site::PLAIN })
    .only(Side::Twin, "the daemon pings only rivals of a clone, and has no setting for it")
    .broken_by(Mutation::stays_open("an initiator that fell silent is kept")),
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

fn ping_without_tag(middle: &mut Middle, mut pdu: Raw) {
    if pdu.opcode() == Some(Opcode::NopIn) && pdu.word(16) == u32::MAX {
        pdu.set_word(20, u32::MAX);
    }
    middle.pass(pdu);
}

fn nop_out_without_a_tag_and_not_immediate_is_not_answered(lab: &mut Lab) -> Outcome {
    let mut conn = lab.plain()?;
    let news = NopOut::notify(conn.sns());
    let mut bhs = stampede_wire::Bhs::from(news);
    bhs.0[0] = 0;
    conn.next_sns();
    conn.send(bhs, &[]);
    match conn.listen(crate::link::Patience::Short)? {
        crate::stream::Arrival::Pdu(pdu) => {
            ensure_eq!(pdu.opcode(), Some(Opcode::Reject), "what comes instead of nothing");
            Ok(())
        }
        crate::stream::Arrival::Closed => crate::failure::fail("the connection is closed"),
        crate::stream::Arrival::Silence => conn.expect_quiet().map(drop),
    }
}

fn echo_is_cut_to_the_initiators_segment(lab: &mut Lab) -> Outcome {
    let mut conn = lab.ready(&LoginText::plain().with("MaxRecvDataSegmentLength", "512"))?;
    let data = [0x77; 2000];
    let tag = conn.new_tag();
    let ping = NopOut::ping(tag, conn.next_sns());
    conn.send(ping, &data);
    let pong = conn.expect::<NopIn>()?;
    ensure!(pong.data == data[..512], "{} bytes came back", pong.data.len());
    Ok(())
}

/// Hears a ping.
fn expect_ping(conn: &mut Conn) -> Outcome<NopIn> {
    let ping = conn.expect_view::<NopIn>()?;
    ensure_eq!(ping.initiator_task_tag(), u32::MAX, "the task tag of a ping");
    ensure!(ping.target_transfer_tag() != u32::MAX, "a ping without a transfer tag");
    Ok(ping)
}

fn ping_of_the_target_has_a_transfer_tag(lab: &mut Lab) -> Outcome {
    // Another machine of the same name wants the clone: its owner is asked for a sign of life.
    let text = LoginText::normal(CLONE, 1);
    let mut owner = lab.ready(&text)?;
    let rival = LoginText { isid: [0, 2, 0x3d, 9, 9, 9], ..text };
    let mut conn = lab.connect()?;
    let request = rival.request(Stage::Operational, LoginStep::Transit(Stage::FullFeature), 0);
    conn.send(request, &rival.keys.to_bytes());
    let before = owner.exp_stat_sn();
    let ping = expect_ping(&mut owner)?;
    ensure_eq!(ping.stat_sn().0, before, "StatSN of a ping: the next one");
    let pong = NopOut::reply(ping.target_transfer_tag(), ping.lun(), owner.sns());
    owner.send(pong.into_immediate(), &[]);
    owner.expect_quiet()?;
    // The rival is told no, and the owner goes on.
    let step = conn.login_response(&request)?;
    ensure!(step.status() != 0, "a second machine gets the live clone");
    owner.run(&Cmd::read(0, 1))?.good().map(drop)
}

fn silence_after_a_ping_ends_the_session(lab: &mut Lab) -> Outcome {
    // One that never answers is let be.
    let mut rude = lab.ready(&LoginText::normal(DATA, 2))?;
    expect_ping(&mut rude)?;
    rude.expect_silence()?;
    rude.run(&Cmd::test_unit_ready())?.good()?;
    let mut conn = lab.plain()?;
    let ping = expect_ping(&mut conn)?;
    let pong = NopOut::reply(ping.target_transfer_tag(), ping.lun(), conn.sns());
    conn.send(pong.into_immediate(), &[]);
    expect_ping(&mut conn)?;
    conn.expect_closed()
}
