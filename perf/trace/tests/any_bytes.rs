//! The fuzz body as a property test, with bytes that are nearly traces.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use proptest::prelude::*;

const HEAD: &str = "stampede-trace 1\nname a\norigin model\nlogin 1 os\n";
const COLUMNS: &str = "t_us,stage,opcode,op,lun,lba,blocks,bytes,service_us,queued,think_us,status,fua\n";

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "r", "w", "s", "c", "on", "close", "login", "marker", "=", "fua", "os", "#", "1"
        ])
        .prop_map(str::to_owned),
        any::<u64>().prop_map(|number| number.to_string()),
        (0..40_000_u32).prop_map(|number| number.to_string()),
        (0..2000_u32).prop_map(|number| format!("@{number}")),
        (0..2000_i32).prop_map(|number| format!("{:+}", number - 1000)),
        "[0-9a-f]{0,34}",
        "\\PC{0,5}",
    ]
}

fn lines() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::collection::vec(word(), 0..5).prop_map(|words| words.join(" ")), 0..30)
        .prop_map(|lines| lines.join("\n"))
}

fn rows() -> impl Strategy<Value = String> {
    let stage = prop::sample::select(vec!["ipxe", "linux", "x"]);
    let opcode = prop::sample::select(vec!["0x28", "0x2a", "0x12", "0x35", "0x42", "0xzz"]);
    let row = (any::<u32>(), stage, opcode, any::<u64>(), 0..300_u32, 0..4_u8, 0..4_u8);
    let row = row.prop_map(|(t, stage, opcode, lba, blocks, queued, status)| {
        format!("{t},{stage},{opcode},X,1,{},{blocks},512,1,{queued},5,{status},0", lba >> (t % 64))
    });
    prop::collection::vec(row, 0..20).prop_map(|rows| rows.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_text_is_read_or_refused(lines in lines()) {
        bodies::read(format!("{HEAD}{lines}").as_bytes());
    }

    #[test]
    fn any_rows_are_read_or_refused(rows in rows()) {
        bodies::read(format!("{COLUMNS}{rows}").as_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), head: bool) {
        let head = if head { HEAD.as_bytes() } else { &[] };
        bodies::read(&[head, &bytes].concat());
    }
}
