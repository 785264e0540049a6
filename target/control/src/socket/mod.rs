//! The control socket: a Unix stream socket that only its owner may open. One JSON line asks, one JSON line answers.
//!
//! ```text
//!   {"op":"status"}                                  {"status":{...}}
//!   {"op":"clone-list"}                              {"clones":[...]}
//!   {"op":"clone-reset","initiator":"iqn.x"}         {"reset":[{"target":"iqn.y","reset":true,...}]}
//!   {"op":"session-list"}                            {"sessions":[...]}
//!   {"op":"session-move","session":"7","shard":1}    {"moved":{"session":7,"from":0,"to":1,...}}
//!   {"op":"session-rebalance"}                       {"rebalancing":{"bound":4,"sessions":[7,9],...}}
//!   {"op":"session-logout","session":"7","seconds":10} {"told":{"session":7,"initiator":"iqn.x"}}
//!   {"op":"session-drop","session":"7"}              {"told":{...}}
//!   {"op":"session-renegotiate","session":"7","seconds":10}  {"told":{...}}
//!   {"op":"lun-list"}                                {"luns":[{"iqn":"iqn.y","luns":[...],...}]}
//!   {"op":"lun-resize","target":"data","bytes":2147483648,"force":false}  {"changed":{"target":"iqn.y","lun":0,...}}
//!   {"op":"lun-eject","target":"cd","force":false}   {"changed":{...}}
//!   {"op":"lun-load","target":"cd"}                  {"changed":{...}}
//!   {"op":"lun-access","target":"data","state":"standby"}  {"changed":{...}}
//!   {"op":"golden-list"}                             {"goldens":[{"names":["os"],"recording":{...},...}]}
//!   {"op":"golden-warm","golden":"os","all":false}   {"golden":"recorded boot"}
//!   {"op":"golden-record","golden":"os"}             {"golden":"..."}
//!   {"op":"golden-forget","golden":"os"}             {"golden":"..."}
//!   {"op":"lun-add","target":"data","lun":"logs=/srv/logs.img,lun=1"}  {"changed":{...}}
//!   {"op":"lun-remove","target":"logs","force":false}  {"changed":{...}}
//!   {"op":"config"}                                  {"config":"listen = ..."}
//!   {"op":"ping"}                                    {"pong":{"version":"0.1.0","pid":1234}}
//!   anything else                                    {"error":"..."}
//! ```

mod client;
mod server;

pub use client::{CallError, call};
pub use server::{ControlSocket, SocketError};

use crate::status::{
    CloneStatus, GoldenStatus, LunChangeStatus, MoveStatus, RebalanceStatus, ResetStatus, SessionStatus,
    Status, TargetStatus, ToldStatus,
};
use serde::{Deserialize, Serialize};

/// The longest request, in bytes.
const REQUEST_MAX: u64 = 64 << 10;
/// The longest answer, in bytes: 262,144 clones fit.
const RESPONSE_MAX: u64 = 256 << 20;

/// An asymmetric access state (SPC-4 table 245), as operators write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessName {
    /// All commands are done.
    Active,
    /// All commands are done; another path is better.
    NonOptimized,
    /// Commands get 02h/04h/0Bh: initiators use another path.
    Standby,
    /// The same with 02h/04h/0Ch.
    Unavailable,
}

impl AccessName {
    /// All of them, as they are written.
    pub const ALL: [(&'static str, Self); 4] = [
        ("active", Self::Active),
        ("non-optimized", Self::NonOptimized),
        ("standby", Self::Standby),
        ("unavailable", Self::Unavailable),
    ];
}

impl std::fmt::Display for AccessName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(_, state)| state == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything.
    Status,
    /// Clones only.
    CloneList,
    /// End the epochs of an initiator by hand.
    CloneReset {
        /// Its name.
        initiator: String,
        /// On this target only: an IQN, or the operator's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
    /// Sessions only.
    SessionList,
    /// Move a live session to another shard; answered when it is there, or stays where it is.
    SessionMove {
        /// Its number, or the name of an initiator that has no other.
        session: String,
        /// The number of the shard.
        shard: u16,
    },
    /// Ask an initiator to log out.
    SessionLogout {
        /// The session's number, or the name of an initiator that has no other.
        session: String,
        /// How long it has; then its session is dropped.
        seconds: u16,
    },
    /// Tell an initiator that its session ends, and end it.
    SessionDrop {
        /// As for the logout.
        session: String,
    },
    /// Ask an initiator to negotiate its parameters anew.
    SessionRenegotiate {
        /// As for the logout.
        session: String,
        /// As for the logout.
        seconds: u16,
    },
    /// Move the fewest sessions that bring all shards within the bound; answered as soon as it begins.
    SessionRebalance,
    /// Targets with their LUNs only.
    LunList,
    /// Change a LUN's capacity while it is in use.
    LunResize {
        /// The LUN's name, or its target's IQN.
        target: String,
        /// Its number, where the target has several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lun: Option<u16>,
        /// Its new capacity; what its image has, if nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// Even if that is less than before.
        #[serde(default)]
        force: bool,
    },
    /// Take the medium of a removable LUN out.
    LunEject {
        /// As for the resize.
        target: String,
        /// As for the resize.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lun: Option<u16>,
        /// Even if an initiator prevents it.
        #[serde(default)]
        force: bool,
    },
    /// Put it in.
    LunLoad {
        /// As for the resize.
        target: String,
        /// As for the resize.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lun: Option<u16>,
    },
    /// Set a LUN's asymmetric access state.
    LunAccess {
        /// As for the resize.
        target: String,
        /// As for the resize.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lun: Option<u16>,
        /// The state.
        state: AccessName,
    },
    /// Goldens only: what is cached of them, recorded, and read ahead.
    GoldenList,
    /// Read a golden into the cache; answered as soon as it begins.
    GoldenWarm {
        /// The name of one of its LUNs, or its target's IQN.
        golden: String,
        /// The whole image, even if a boot was recorded.
        #[serde(default)]
        all: bool,
    },
    /// Record the boot of the next fresh clone of a golden, in place of what was recorded.
    GoldenRecord {
        /// As for warming.
        golden: String,
    },
    /// Delete what was recorded of a golden.
    GoldenForget {
        /// As for warming.
        golden: String,
    },
    /// Make another image a LUN of a target; answered when its initiators were told.
    LunAdd {
        /// The target: its IQN, or the operator's name for one of its LUNs.
        target: String,
        /// NAME=PATH[,OPTION]... as for `--target`.
        lun: String,
    },
    /// Take a LUN away; answered when its last command has ended and its image is closed.
    LunRemove {
        /// As for the resize.
        target: String,
        /// As for the resize.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lun: Option<u16>,
        /// Even if an initiator has it reserved, or prevents the removal of its medium.
        #[serde(default)]
        force: bool,
    },
    /// The effective configuration as TOML.
    Config,
    /// Is anybody there?
    Ping,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::CloneList`].
    Clones(Vec<CloneStatus>),
    /// To [`Request::CloneReset`]: one for each target that knows the initiator.
    Reset(Vec<ResetStatus>),
    /// To [`Request::SessionList`].
    Sessions(Vec<SessionStatus>),
    /// To [`Request::SessionMove`].
    Moved(MoveStatus),
    /// To [`Request::SessionLogout`], [`Request::SessionDrop`] and [`Request::SessionRenegotiate`]: it is being told.
    Told(ToldStatus),
    /// To [`Request::SessionRebalance`].
    Rebalancing(RebalanceStatus),
    /// To [`Request::LunList`].
    Luns(Vec<TargetStatus>),
    /// To the requests that change a LUN: it is done.
    Changed(LunChangeStatus),
    /// To [`Request::GoldenList`].
    Goldens(Vec<GoldenStatus>),
    /// To the other requests about a golden: what is being done.
    Golden(String),
    /// To [`Request::Config`].
    Config(String),
    /// To [`Request::Ping`].
    Pong {
        /// The program's version.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// Why there is no other answer.
    Error(String),
}
