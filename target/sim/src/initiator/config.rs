//! What an initiator is and offers, and what was agreed.

use std::net::SocketAddr;

/// An initiator's identity and offers.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// InitiatorName.
    pub name: String,
    /// TargetName; `None` for a discovery session.
    pub target: Option<String>,
    /// The initiator's part of the session id.
    pub isid: [u8; 6],
    /// Its address and first port; every connection gets the next port.
    pub address: SocketAddr,
    /// Where the target listens.
    pub portal: SocketAddr,
    /// The shard whose listener to connect to; `None` for any.
    pub shard: Option<u16>,
    /// Whether to begin in the security stage (with AuthMethod=None) and not in the operational one.
    pub security_stage: bool,
    /// Whether to offer CRC32C for headers.
    pub header_digest: bool,
    /// Whether to offer CRC32C for data.
    pub data_digest: bool,
    /// ImmediateData to offer.
    pub immediate_data: bool,
    /// InitialR2T to offer.
    pub initial_r2t: bool,
    /// MaxRecvDataSegmentLength to declare, bytes.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength to offer, bytes.
    pub max_burst_length: u32,
    /// FirstBurstLength to offer, bytes.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T to offer.
    pub max_outstanding_r2t: u32,
    /// Keys to send beside, in the first operational request.
    pub extra_keys: Vec<(String, String)>,
    /// Commands in flight at most.
    pub queue_depth: usize,
    /// Bytes to read per poll at most: a slow reader.
    pub read_most: Option<usize>,
    /// Whether to answer the target's pings; iPXE never does.
    pub answers_pings: bool,
}

impl InitiatorConfig {
    /// What an ordinary initiator offers.
    pub fn new(name: &str, target: &str, address: SocketAddr, portal: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            target: Some(target.to_owned()),
            isid: [0x80, 0x12, 0x34, 0x56, 0, 1],
            address,
            portal,
            shard: None,
            security_stage: true,
            header_digest: false,
            data_digest: false,
            immediate_data: true,
            initial_r2t: false,
            max_recv_data_segment_length: 64 * 1024,
            max_burst_length: 256 * 1024,
            first_burst_length: 64 * 1024,
            max_outstanding_r2t: 1,
            extra_keys: Vec::new(),
            queue_depth: 32,
            read_most: None,
            answers_pings: true,
        }
    }

    /// The same initiator with its offers drawn at random.
    #[must_use]
    pub fn varied(mut self, rng: &mut fastrand::Rng) -> Self {
        let mut pick = |choices: &[u32]| choices[rng.usize(..choices.len())];
        self.max_recv_data_segment_length = pick(&[512, 4096, 8192, 64 * 1024, 256 * 1024]);
        self.max_burst_length = pick(&[512, 8192, 64 * 1024, 256 * 1024]);
        self.first_burst_length = pick(&[512, 4096, 64 * 1024]).min(self.max_burst_length);
        self.max_outstanding_r2t = pick(&[1, 1, 4]);
        self.queue_depth = pick(&[1, 4, 32]) as usize;
        self.security_stage = rng.bool();
        self.header_digest = rng.bool();
        self.data_digest = rng.bool();
        self.immediate_data = rng.bool();
        self.initial_r2t = rng.bool();
        self
    }

    /// The operational keys to offer.
    pub(super) fn operational_keys(&self) -> Vec<(String, String)> {
        let digest = |offer: bool| if offer { "CRC32C,None" } else { "None" }.to_owned();
        let boolean = |value: bool| if value { "Yes" } else { "No" }.to_owned();
        let mut keys = vec![
            ("HeaderDigest", digest(self.header_digest)),
            ("DataDigest", digest(self.data_digest)),
            ("MaxRecvDataSegmentLength", self.max_recv_data_segment_length.to_string()),
            ("DefaultTime2Wait", "2".to_owned()),
            ("DefaultTime2Retain", "0".to_owned()),
            ("ErrorRecoveryLevel", "0".to_owned()),
        ];
        if self.target.is_some() {
            keys.extend([
                ("MaxConnections", "1".to_owned()),
                ("InitialR2T", boolean(self.initial_r2t)),
                ("ImmediateData", boolean(self.immediate_data)),
                ("MaxBurstLength", self.max_burst_length.to_string()),
                ("FirstBurstLength", self.first_burst_length.to_string()),
                ("MaxOutstandingR2T", self.max_outstanding_r2t.to_string()),
                ("DataPDUInOrder", "Yes".to_owned()),
                ("DataSequenceInOrder", "Yes".to_owned()),
            ]);
        }
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
        keys.chain(self.extra_keys.iter().cloned()).collect()
    }
}

/// What holds in the session. RFC 7143 13.
#[derive(Clone, Debug)]
pub(super) struct Negotiated {
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    pub(super) immediate_data: bool,
    pub(super) initial_r2t: bool,
    pub(super) max_burst_length: u32,
    pub(super) first_burst_length: u32,
    pub(super) max_outstanding_r2t: u32,
    /// What the target declared that it takes, bytes.
    pub(super) target_data_segment_length: u32,
}

impl Negotiated {
    /// What would hold if the target agreed to everything.
    pub(super) fn offered(config: &InitiatorConfig) -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            immediate_data: config.immediate_data,
            initial_r2t: config.initial_r2t,
            max_burst_length: config.max_burst_length,
            first_burst_length: config.first_burst_length,
            max_outstanding_r2t: config.max_outstanding_r2t,
            target_data_segment_length: 8192,
        }
    }

    /// Takes the target's answer to one key over; says what is wrong with it.
    pub(super) fn apply(&mut self, config: &InitiatorConfig, key: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{key}={value} is no legal answer");
        let boolean = || match value {
            "Yes" => Ok(true),
            "No" => Ok(false),
            _ => Err(wrong()),
        };
        let number = || value.parse::<u32>().map_err(|_| wrong());
        let at_most =
            |offer: u32| number().and_then(|number| if number <= offer { Ok(number) } else { Err(wrong()) });
        let digest = |offered: bool| match value {
            "CRC32C" if offered => Ok(true),
            "None" => Ok(false),
            _ => Err(wrong()),
        };
        match key {
            "FirstBurstLength" if value == "Irrelevant" => {}
            "HeaderDigest" => self.header_digest = digest(config.header_digest)?,
            "DataDigest" => self.data_digest = digest(config.data_digest)?,
            // OR: the result is No only where both say No.
            "InitialR2T" if config.initial_r2t && value != "Yes" => return Err(wrong()),
            "InitialR2T" => self.initial_r2t = boolean()?,
            // AND.
            "ImmediateData" if !config.immediate_data && value != "No" => return Err(wrong()),
            "ImmediateData" => self.immediate_data = boolean()?,
            "MaxBurstLength" => self.max_burst_length = at_most(config.max_burst_length)?,
            "FirstBurstLength" => self.first_burst_length = at_most(config.first_burst_length)?,
            "MaxOutstandingR2T" => self.max_outstanding_r2t = at_most(config.max_outstanding_r2t)?,
            "MaxRecvDataSegmentLength" => self.target_data_segment_length = number()?,
            "ErrorRecoveryLevel" if value != "0" => return Err(wrong()),
            "MaxConnections" if value != "1" => return Err(wrong()),
            "DataPDUInOrder" | "DataSequenceInOrder" if value != "Yes" => return Err(wrong()),
            _ => {}
        }
        Ok(())
    }
}
