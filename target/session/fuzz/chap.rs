//! A login by CHAP from any bytes: who does not know the secret does not come in.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use stampede_session::{
    Applicant, Authentication, ChapAlgorithm, ChapPolicy, ChapSelf, ChapUser, Directory, Entropy, LoginStage,
    NoEntropy, Phase, Secret, Settings,
};
use stampede_wire::{
    Isid, Tsih,
    encode::{Digests, append_pdu},
    pdu::{self, InitiatorSns, LoginStep, Stage},
    text::{
        Pairs,
        value::{binary, to_base64, to_hex},
    },
};

use super::{One, TARGET, World};

/// The one target, for those who prove themselves.
struct Guarded(Arc<ChapPolicy>);

impl Directory for Guarded {
    fn contains(&self, target: &str) -> bool {
        One.contains(target)
    }

    fn discover(
        &self,
        initiator: &str,
        local: SocketAddr,
        which: Option<&str>,
        visit: &mut dyn FnMut(&str, &[String], u16),
    ) {
        One.discover(initiator, local, which, visit);
    }

    fn stage_override(&self, _: &str) -> Option<LoginStage> {
        None
    }

    fn authentication(&self, _: &Applicant<'_>) -> Authentication {
        Authentication::Chap(Arc::clone(&self.0))
    }
}

struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).expect("long enough")
}

fn world(mutual: bool) -> World {
    let user = Arc::new(ChapUser { secret: secret("the user's secret"), initiators: None });
    let own = Arc::new(ChapSelf { name: "target".to_owned(), secret: secret("the target's secret") });
    let entropy = Arc::new(Counting(AtomicU8::new(1)));
    let users = BTreeMap::from([("user".to_owned(), user)]);
    let policy = ChapPolicy::new(users, mutual.then_some(own), ChapAlgorithm::ALL.to_vec(), entropy);
    World::with(Settings::new(Arc::new(Guarded(Arc::new(policy.expect("a policy"))))))
}

/// Each 8 bytes are one Login Request: mostly what an initiator would send next with one thing changed, else any keys.
pub(crate) fn chap(bytes: &[u8]) {
    let [first, bytes @ ..] = bytes else { return };
    let mut world = world(first & 1 != 0);
    let mut right = false;
    let mut names = "InitiatorName=iqn.2026-01.example:host\0TargetName=".to_owned() + TARGET + "\0";
    for (step, chunk) in bytes.chunks_exact(8).enumerate() {
        let mut text = std::mem::take(&mut names);
        let challenge = challenge(&world.engine.last_text);
        let usual: &[u8] = match step {
            0 => &[0],
            1 => &[5],
            // A name and a response, the latter as the bytes say.
            _ => &[6, 10 + chunk[2] % 4, chunk[3] | 16],
        };
        for byte in if chunk[0] % 4 == 0 { &chunk[1..6] } else { usual } {
            text.push_str(&pair(*byte, challenge.as_ref(), &mut right));
        }
        let (stage, step) = match chunk[6] % 16 {
            0 => (Stage::Operational, LoginStep::Transit(Stage::FullFeature)),
            1 => (Stage::Security, LoginStep::Transit(Stage::FullFeature)),
            2 => (Stage::Security, LoginStep::Continue),
            3..=6 => (Stage::Security, LoginStep::Transit(Stage::Operational)),
            _ => (Stage::Security, LoginStep::Stay),
        };
        let isid = Isid([0, 2, 0x3d, 0, 0, 1]);
        let request = pdu::LoginRequest::new(isid, Tsih::NEW, 0, 1, stage, step, InitiatorSns::default());
        let cut = text.len().saturating_sub(usize::from(chunk[7] % 64 / 60));
        let mut stream = Vec::new();
        append_pdu(&mut stream, &request, &text.as_bytes()[..cut], Digests::default());
        if !world.receive(&stream) {
            break;
        }
    }
    let inside = world.connection.phase() == Phase::FullFeature || world.engine.admissions > 0;
    assert!(right || !inside && !world.engine.transited, "nobody gets on without the right response");
    world.end();
}

/// What the target asked: algorithm, identifier, challenge.
type Challenge = (ChapAlgorithm, u8, Vec<u8>);

fn challenge(text: &[u8]) -> Option<Challenge> {
    let value = |key: &str| Pairs::parse(text).ok()?.find(|(name, _)| *name == key).map(|(_, value)| value);
    let number: u8 = value("CHAP_A")?.parse().ok()?;
    let algorithm = ChapAlgorithm::ALL.into_iter().find(|algorithm| algorithm.number() == number)?;
    Some((algorithm, value("CHAP_I")?.parse().ok()?, binary(value("CHAP_C")?, 1024).ok()?))
}

/// One pair, mostly of the exchange.
fn pair(byte: u8, challenge: Option<&Challenge>, right: &mut bool) -> String {
    let form = if byte & 0x80 == 0 { to_hex } else { to_base64 };
    let answer = |text: &str| match challenge {
        Some((algorithm, identifier, bytes)) => {
            form(algorithm.respond(*identifier, &secret(text), bytes).bytes())
        }
        None => form(&[byte; 16]),
    };
    let echo = challenge.map_or_else(|| vec![byte], |(_, _, bytes)| bytes.clone());
    match byte % 24 {
        0 | 1 => "AuthMethod=CHAP,None\0".to_owned(),
        2 => "AuthMethod=None\0".to_owned(),
        3 | 4 => format!("CHAP_A={}\0", byte / 24),
        5 => "CHAP_A=5,6,7,8\0".to_owned(),
        6..=8 => "CHAP_N=user\0".to_owned(),
        9 => "CHAP_N=target\0".to_owned(),
        10 | 11 => {
            *right |= challenge.is_some();
            format!("CHAP_R={}\0", answer("the user's secret"))
        }
        12 => format!("CHAP_R={}\0", answer("the target's secret")),
        13 => format!("CHAP_R={}\0", form(&[0; 32])),
        14 | 15 => format!("CHAP_I={byte}\0"),
        16 => format!("CHAP_C={}\0", form(&[byte; 16])),
        17 => format!("CHAP_C={}\0", form(&echo)),
        18 => format!("CHAP_R={}\0", form(&echo)),
        _ => String::new(),
    }
}
