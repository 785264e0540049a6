//! The keys of the operational stage: what is offered, and what an answer makes of it (RFC 7143 13).

use crate::config::{Negotiated, SessionConfig};
use crate::reason::Reason;
use stampede_wire::text::value::{boolean, number_in};
use stampede_wire::text::{Builder, reserved};

/// The smallest and the largest of the lengths that are negotiated, bytes.
const LENGTHS: std::ops::RangeInclusive<u64> = 512..=0x00ff_ffff;

/// Adds all offers to a text.
pub(super) fn offer(text: &mut Builder, config: &SessionConfig) {
    let digest = |wanted: bool| if wanted { "CRC32C" } else { "None" };
    let yes_or_no = |flag: bool| if flag { "Yes" } else { "No" };
    text.push("HeaderDigest", digest(config.header_digest));
    text.push("DataDigest", digest(config.data_digest));
    text.push("MaxConnections", 1);
    text.push("InitialR2T", yes_or_no(config.initial_r2t));
    text.push("ImmediateData", yes_or_no(config.immediate_data));
    text.push("MaxRecvDataSegmentLength", config.max_recv_data_segment_length);
    text.push("MaxBurstLength", config.max_burst_length);
    text.push("FirstBurstLength", config.first_burst_length);
    text.push("MaxOutstandingR2T", config.max_outstanding_r2t);
    text.push("DefaultTime2Wait", 2);
    text.push("DefaultTime2Retain", 0);
    text.push("ErrorRecoveryLevel", 0);
    text.push("DataPDUInOrder", "Yes");
    text.push("DataSequenceInOrder", "Yes");
}

/// Takes the target's answer to one key, or its own declaration, over.
///
/// # Errors
/// [`Reason::Negotiation`] for an answer that the key does not allow, [`Reason::Authentication`] where the target
/// insists on it.
pub(super) fn apply(
    agreed: &mut Negotiated,
    config: &SessionConfig,
    key: &str,
    value: &str,
) -> Result<(), Reason> {
    let wrong = || Reason::Negotiation { key: key.to_owned(), value: value.to_owned() };
    if matches!(value, reserved::NOT_UNDERSTOOD | reserved::IRRELEVANT) {
        // The key's default holds, or the key does not matter.
        return Ok(());
    }
    let flag = || boolean(value).ok_or_else(wrong);
    let length = || number_in(value, LENGTHS).and_then(|length| u32::try_from(length).ok()).ok_or_else(wrong);
    let at_most =
        |offer: u32| length().and_then(|length| if length <= offer { Ok(length) } else { Err(wrong()) });
    let digest = |wanted: bool| match value {
        "CRC32C" if wanted => Ok(true),
        "None" | reserved::REJECT => Ok(false),
        _ => Err(wrong()),
    };
    let exactly = |expected: &str| if value == expected { Ok(()) } else { Err(wrong()) };
    match key {
        "AuthMethod" if value == "None" => Ok(()),
        "AuthMethod" if value == reserved::REJECT => Err(Reason::Authentication("CHAP".to_owned())),
        "AuthMethod" => Err(Reason::Authentication(value.to_owned())),
        "HeaderDigest" => digest(config.header_digest).map(|on| agreed.header_digest = on),
        "DataDigest" => digest(config.data_digest).map(|on| agreed.data_digest = on),
        "InitialR2T" => flag().map(|on| agreed.initial_r2t = on),
        "ImmediateData" => flag().map(|on| agreed.immediate_data = on),
        "MaxBurstLength" => at_most(config.max_burst_length).map(|len| agreed.max_burst_length = len),
        "FirstBurstLength" => at_most(config.first_burst_length).map(|len| agreed.first_burst_length = len),
        "MaxRecvDataSegmentLength" => length().map(|len| agreed.target_data_segment_length = len),
        "ErrorRecoveryLevel" => exactly("0"),
        "MaxConnections" => exactly("1"),
        "DataPDUInOrder" | "DataSequenceInOrder" => exactly("Yes"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_wire::Isid;

    fn config() -> SessionConfig {
        SessionConfig::new("iqn.a".into(), "iqn.b".into(), Isid::random(1, 1))
    }

    #[test]
    fn the_offers_are_legal_text() {
        let mut text = Builder::new();
        offer(&mut text, &config());
        let pairs = stampede_wire::text::Pairs::parse(text.as_bytes()).map(Iterator::count);
        assert_eq!(pairs, Ok(14));
    }

    #[test]
    fn answers_lower_and_never_raise() {
        let config = config();
        let mut agreed = Negotiated::before(&config);
        for (key, value) in [
            ("MaxBurstLength", "65536"),
            ("FirstBurstLength", "8192"),
            ("MaxRecvDataSegmentLength", "16384"),
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("X-com.example.key", "NotUnderstood"),
        ] {
            apply(&mut agreed, &config, key, value).unwrap();
        }
        assert_eq!((agreed.immediate_len(1 << 20), agreed.unsolicited_len(1 << 20)), (8192, 8192));
        for (key, value) in [
            ("MaxBurstLength", "16777215"),
            ("FirstBurstLength", "0"),
            ("InitialR2T", "maybe"),
            ("HeaderDigest", "CRC32C"),
            ("ErrorRecoveryLevel", "2"),
            ("AuthMethod", "CHAP"),
        ] {
            assert!(apply(&mut agreed, &config, key, value).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn without_initial_r2t_data_goes_beyond_the_immediate_part() {
        let config = config();
        let mut agreed = Negotiated::before(&config);
        agreed.initial_r2t = false;
        agreed.first_burst_length = 65_536;
        agreed.target_data_segment_length = 8192;
        assert_eq!((agreed.immediate_len(100_000), agreed.unsolicited_len(100_000)), (8192, 65_536));
        agreed.immediate_data = false;
        assert_eq!((agreed.immediate_len(100_000), agreed.unsolicited_len(100_000)), (0, 65_536));
    }
}
