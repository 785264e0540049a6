//! Boot epochs: which overlay a login gets.
//!
//! An *epoch* is one life of one machine, from its firmware's first login to its next boot. Each has one overlay, so a
//! reboot starts from the golden again while everything within one boot (the firmware's two logins, the hand-over to
//! the initramfs and the system, reconnects) sees one disk. A clone has at most one session: a login that is let in
//! replaces the session before it.
//!
//! A login is decided in two steps. First, if a session is attached, whether that one is alive:
//!
//! | attached session | login | asked how | found | then |
//! |---|---|---|---|---|
//! | OS | any | NOP-In, [`PING_WAIT`] | answers | refused, alert: two machines |
//! | OS | same ISID, or from this epoch's machine's address | NOP-In | silent | step two |
//! | OS | none of these | NOP-In | silent | 0301 until the session is reaped: its machine may come back |
//! | firmware | OS, or firmware from the same address | listened to | silent for [`QUIET`] | step two |
//! | firmware | firmware from another address | last heard | silent for [`FIRMWARE_RECENT`] | step two |
//! | firmware | any | as above | heard | refused, alert: two machines |
//!
//! A session that ends while it is asked (a rebooted machine answers the ping with a TCP reset) is simply gone. Even a
//! reinstatement (same name, ISID and address) is asked about first: behind a NAT two machines with open-iscsi's
//! default ISID look like that, and would take a live overlay from each other for ever.
//!
//! Then, which overlay:
//!
//! | login | overlay | stage reached | outcome |
//! |---|---|---|---|
//! | any | none known | - | first contact: new epoch, fresh overlay |
//! | firmware | there | firmware | the same (iPXE logs in twice; a reset before any system ran) |
//! | firmware | there | OS | new epoch: the old session is closed, the old overlay dropped |
//! | firmware | lost or dropped | any | new epoch |
//! | OS | there | any | the same (hand-over, reconnect, take-over) |
//! | OS | lost or dropped | any | refused: never a blank disk under a running system; fresh with `on-lost=fresh` |
//!
//! And when the session ends:
//!
//! | session | epoch began with | end | the overlay |
//! |---|---|---|---|
//! | OS | firmware | Logout | lives a short grace, then is dropped |
//! | OS | OS | Logout | is dropped at once and the epoch forgotten: the next login is a first contact |
//! | any | any | otherwise | is held for hours; when room is short the oldest goes first |
//!
//! An initiator without a firmware stage (QEMU's own, libiscsi's tools) has no other way to say "switched off" than
//! its Logout, so there is no grace for it: whether a second run finds the first one's writes must not depend on how
//! quickly it follows. Cut off without a Logout it finds them.
//!
//! What cannot be told: a machine that was cut off for longer than its session lived, while another of its name booted,
//! may meet the other's overlay when it comes back in the moment between that machine's firmware and its system.

mod endings;
mod entry;
mod login;
mod record;
mod registry;
mod rival;
mod types;

pub use record::{EpochRecord, RecordKey};
pub use registry::{RECORDS_MAX, Registry};
pub use rival::{FIRMWARE_RECENT, PING_WAIT, QUIET};
pub use types::{
    AlertKind, CloneId, CloseReason, Decision, Effect, End, EpochState, EpochStatus, LoginFacts, LoginStage,
    Need, OnLost, Probe, ProbeAnswer, Refusal, RefusalReason, ResetOutcome, SECOND, SessionId, StatusHint,
    TargetId, TargetPolicy, Time,
};
