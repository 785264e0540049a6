//! Scripts that run on both sides of the seam: over io_uring with real sockets and files, and over the twin.
//!
//! A script is a function over any [`ScriptWorld`]. It pushes operations, reaps completions, and asserts what
//! the seam promises: no more (the order of completions of different operations is open, sends and
//! transfers may be short, chunks may be split anywhere) and no less.
//!
//! ```text
//!   run_all(&mut world) -> for each script: script(&mut world)
//!                             |-- world.ring(): the ring under test
//!                             `-- world.client_*(): the other end of a connection, outside the ring
//! ```

use crate::{Buffer, Completion, FileId, Ring, SocketId};

mod driver;
mod files;
mod late;
mod moves;
mod sends;
mod sockets;

/// The other end of a connection, outside the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(pub u32);

/// What a script needs beside the ring: files with contents, and clients that connect.
///
/// Failures of the world itself panic: it is only used in tests.
pub trait ScriptWorld {
    /// The ring under test.
    type R: Ring;

    /// The ring under test.
    fn ring(&mut self) -> &mut Self::R;

    /// Makes another ring the ring under test, and that one the other: all else of the world, too, means it then.
    /// Twice is as it was.
    fn swap_rings(&mut self);

    /// The ring's clock, in nanoseconds, as [`crate::Wait::Until`] means it.
    fn now_ns(&self) -> u64;

    /// How many receive buffers the ring has.
    fn receive_buffers(&self) -> u16;

    /// A new file with these contents, writable, known to the ring.
    fn file(&mut self, contents: &[u8]) -> FileId;

    /// What a reader of the file sees now.
    fn file_contents(&mut self, file: FileId) -> Vec<u8>;

    /// A free I/O buffer with at least `len` bytes.
    fn buffer(&mut self, len: u32) -> Buffer;

    /// A new listening socket, known to the ring.
    fn listener(&mut self) -> SocketId;

    /// A client that connects to the listener. It need not wait for the accept.
    fn client_connect(&mut self, listener: SocketId) -> ClientId;

    /// The client sends all of these bytes; few enough (up to 64 KiB) for the socket to take them at once.
    fn client_send(&mut self, client: ClientId, bytes: &[u8]);

    /// The bytes that the client has received since it was last asked, up to `max`. It does not wait: the
    /// script asks again after a turn of the ring.
    fn client_receive(&mut self, client: ClientId, max: usize) -> Vec<u8>;

    /// Whether the client has seen the connection's end: a FIN after all bytes, or a reset.
    fn client_saw_end(&mut self, client: ClientId) -> bool;

    /// The client sends a FIN and still receives.
    fn client_finish(&mut self, client: ClientId);

    /// The client resets the connection.
    fn client_reset(&mut self, client: ClientId);

    /// Submits and waits a little for a completion (at most some milliseconds of the ring's clock), then reaps into the batch.
    fn turn(&mut self, batch: &mut Vec<Completion>);
}

/// A named script.
pub struct Script<W> {
    /// What it checks.
    pub name: &'static str,
    /// The script; it panics where the ring breaks the seam's promise.
    pub run: fn(&mut W),
}

/// All scripts, for running them one by one.
pub fn all<W: ScriptWorld>() -> Vec<Script<W>> {
    let mut scripts = sockets::all();
    scripts.extend(moves::all());
    scripts.extend(sends::all());
    scripts.extend(files::all());
    scripts.extend(late::all());
    scripts
}

/// Runs every script in turn in one world.
pub fn run_all<W: ScriptWorld>(world: &mut W) {
    for script in all::<W>() {
        (script.run)(world);
    }
}
