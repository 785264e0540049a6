//! Scripts about sockets.

use super::{Script, ScriptWorld};

pub(super) fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    Vec::new()
}
