//! Operational negotiation: one answer per key, by the result functions of RFC 7143 13.

use std::ops::RangeInclusive;

use stampede_wire::text::{
    reserved,
    value::{boolean, boolean_text, list, number_in},
};

use crate::{DigestPolicy, Parameters, Settings};

/// DataSegmentLength and burst lengths: the range of RFC 7143 13.12 to 13.14, bytes.
const SEGMENT_RANGE: RangeInclusive<u64> = 512..=0x00ff_ffff;
/// Seconds of RFC 7143 13.15 and 13.16.
const TIME_RANGE: RangeInclusive<u64> = 0..=3600;

/// What is said to an offered key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Nothing: the key declares, or the answer was given already.
    Silence,
    /// `key=value`.
    Text(&'static str),
    /// `key=number`.
    Number(u32),
    /// The offer cannot be agreed to and the login cannot go on without.
    Refuse,
}

const REJECT: Answer = Answer::Text(reserved::REJECT);
const NOT_UNDERSTOOD: Answer = Answer::Text(reserved::NOT_UNDERSTOOD);

/// The operational keys we know, each to be offered at most once in a login (RFC 7143 6.2).
const KEYS: &[&str] = &[
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "InitialR2T",
    "ImmediateData",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "ErrorRecoveryLevel",
    "IFMarker",
    "OFMarker",
    "IFMarkInt",
    "OFMarkInt",
    "TaskReporting",
    "iSCSIProtocolLevel",
    "SendTargets",
    "TargetAddress",
    "TargetAlias",
    "TargetPortalGroupTag",
];

/// A key was offered a second time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Duplicate;

/// The negotiation of one login: what was agreed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Negotiation {
    pub(crate) parameters: Parameters,
    /// One bit per entry of `KEYS`.
    seen: u32,
    /// What the initiator offered, for its fingerprint.
    pub(crate) offered_initial_r2t: Option<bool>,
    pub(crate) offered_immediate_data: Option<bool>,
    pub(crate) offered_markers: bool,
}

impl Negotiation {
    /// Looks at all pairs of a text before any is answered: FirstBurstLength depends on a MaxBurstLength that may
    /// stand behind it (RFC 7143 13.14).
    pub(crate) fn prepare<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        settings: &Settings,
    ) {
        for (key, value) in pairs {
            if let ("MaxBurstLength", Some(offer)) = (key, small(value, SEGMENT_RANGE)) {
                self.parameters.max_burst = offer.min(settings.max_burst.max(512));
            }
        }
    }

    /// The answer to one offered key.
    ///
    /// # Errors
    /// [`Duplicate`] when the key was offered before.
    pub(crate) fn answer(
        &mut self,
        key: &str,
        value: &str,
        settings: &Settings,
    ) -> Result<Answer, Duplicate> {
        let Some(place) = KEYS.iter().position(|known| *known == key) else {
            return Ok(NOT_UNDERSTOOD);
        };
        let bit = 1 << place;
        if self.seen & bit != 0 {
            return Err(Duplicate);
        }
        self.seen |= bit;
        Ok(self.decide(key, value, settings))
    }

    fn decide(&mut self, key: &str, value: &str, settings: &Settings) -> Answer {
        let ours = &mut self.parameters;
        match key {
            "HeaderDigest" => digest(value, settings.header_digest, &mut ours.header_digest),
            "DataDigest" => digest(value, settings.data_digest, &mut ours.data_digest),
            "InitialR2T" => {
                self.offered_initial_r2t = boolean(value);
                // OR with our No.
                flag(value, &mut ours.initial_r2t)
            }
            "ImmediateData" => {
                self.offered_immediate_data = boolean(value);
                // AND with our Yes.
                flag(value, &mut ours.immediate_data)
            }
            "MaxRecvDataSegmentLength" => match small(value, SEGMENT_RANGE) {
                Some(bytes) => {
                    ours.initiator_recv_data_segment = bytes;
                    Answer::Silence
                }
                None => REJECT,
            },
            // `prepare` has agreed to it.
            "MaxBurstLength" => least(value, SEGMENT_RANGE, ours.max_burst, |_| ()),
            "FirstBurstLength" => {
                let cap = settings.first_burst.max(512).min(ours.max_burst);
                least(value, SEGMENT_RANGE, cap, |bytes| ours.first_burst = bytes)
            }
            // The greater of the offer and our 0.
            "DefaultTime2Wait" => least(value, TIME_RANGE, 3600, |seconds| {
                ours.time2wait = u16::try_from(seconds).unwrap_or(u16::MAX);
            }),
            // Nothing is retained at ErrorRecoveryLevel 0.
            "DefaultTime2Retain" => least(value, TIME_RANGE, 0, |_| ours.time2retain = 0),
            "MaxOutstandingR2T" => {
                let cap = u32::from(settings.outstanding_r2t());
                least(value, 1..=65_535, cap, |count| {
                    ours.max_outstanding_r2t = u16::try_from(count).unwrap_or(u16::MAX);
                })
            }
            "MaxConnections" => least(value, 1..=65_535, 1, |_| ()),
            "ErrorRecoveryLevel" => least(value, 0..=2, 0, |_| ()),
            "iSCSIProtocolLevel" => least(value, 0..=31, 2, |level| {
                ours.protocol_level = u8::try_from(level).unwrap_or(u8::MAX);
            }),
            // OR with our Yes.
            "DataPDUInOrder" | "DataSequenceInOrder" => {
                boolean(value).map_or(REJECT, |_| Answer::Text("Yes"))
            }
            // Obsolete (RFC 7143 13.25); initiators of RFC 3720 offer them and expect No. Intervals must be rejected.
            "IFMarker" | "OFMarker" => {
                self.offered_markers = true;
                boolean(value).map_or(REJECT, |_| Answer::Text("No"))
            }
            "IFMarkInt" | "OFMarkInt" => REJECT,
            "TaskReporting" => task_reporting(value, &mut ours.fast_abort),
            // Keys that only a target may use, or only the full-feature phase.
            _ => REJECT,
        }
    }

    /// What was agreed. FirstBurstLength never exceeds MaxBurstLength (RFC 7143 13.14), also where one of them was
    /// not negotiated.
    pub(crate) fn agreed(&self) -> Parameters {
        let agreed = &self.parameters;
        Parameters { first_burst: agreed.first_burst.min(agreed.max_burst), ..agreed.clone() }
    }
}

fn flag(value: &str, place: &mut bool) -> Answer {
    match boolean(value) {
        Some(offer) => {
            *place = offer;
            Answer::Text(boolean_text(offer))
        }
        None => REJECT,
    }
}

/// Result function "minimum" with our `cap`.
fn least(value: &str, range: RangeInclusive<u64>, cap: u32, agree: impl FnOnce(u32)) -> Answer {
    match small(value, range) {
        Some(offer) => {
            let result = offer.min(cap);
            agree(result);
            Answer::Number(result)
        }
        None => REJECT,
    }
}

/// A number in a range that fits 32 bits.
fn small(value: &str, range: RangeInclusive<u64>) -> Option<u32> {
    number_in(value, range).and_then(|number| u32::try_from(number).ok())
}

/// Whether a list of values has `value`.
pub(super) fn list_has(text: &str, value: &str) -> bool {
    list(text).is_some_and(|mut items| items.any(|item| item == value))
}

/// The first value of the list that the policy allows (RFC 7143 6.2.1).
fn digest(offer: &str, policy: DigestPolicy, agreed: &mut bool) -> Answer {
    let one_of = |known: &[&'static str]| known.iter().copied().find(|value| list_has(offer, value));
    let choice = match policy {
        DigestPolicy::Initiator => list(offer).and_then(|mut items| {
            items.find_map(|item| ["CRC32C", reserved::NONE].into_iter().find(|known| *known == item))
        }),
        DigestPolicy::Prefer => one_of(&["CRC32C", reserved::NONE]),
        DigestPolicy::Require => one_of(&["CRC32C"]),
        DigestPolicy::Never => one_of(&[reserved::NONE]),
    };
    match choice {
        Some(value) => {
            *agreed = value == "CRC32C";
            Answer::Text(value)
        }
        None if policy == DigestPolicy::Require => Answer::Refuse,
        None => REJECT,
    }
}

/// RFC 7143 13.23: the first of the list that is one of the three (RFC 7143 6.2.1).
fn task_reporting(offer: &str, fast_abort: &mut bool) -> Answer {
    const KNOWN: [&str; 3] = ["FastAbort", "ResponseFence", "RFC3720"];
    let known = |item: &str| KNOWN.into_iter().find(|known| *known == item);
    let choice = list(offer).and_then(|mut items| items.find_map(known));
    *fast_abort = choice == Some("FastAbort");
    choice.map_or(REJECT, Answer::Text)
}
