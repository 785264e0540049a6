//! Which stage of a boot a login belongs to, told by the form of the login itself.

/// The stage of a boot that a login belongs to. Boot epochs are made of it: a firmware login after an
/// operating-system one means that the machine restarted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LoginStage {
    /// iPXE, UEFI: code that runs before an operating system.
    Firmware,
    /// An operating system's initiator, and everything unknown.
    Os,
}
