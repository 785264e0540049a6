//! The floor: so many bytes in, so many bytes out, and nothing else.

use crate::outbox::{Memory, Outbox};
use crate::server;
use std::net::SocketAddr;
use std::sync::Arc;

/// The sizes of one exchange, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A request: 48 for a read, 48 and the data for a write.
    pub request: u32,
    /// An answer: 48 and the data for a read, 48 for a write.
    pub answer: u32,
}

impl Sizes {
    /// The largest request or answer.
    pub const MAX: u32 = Memory::PIECE_MAX;
}

/// One connection of the floor: counts bytes.
#[derive(Debug)]
pub struct Connection {
    sizes: Sizes,
    /// Bytes of a request that is not complete.
    got: u64,
    /// Bytes of payload so far: it walks through the memory.
    position: u64,
}

impl server::Connection for Connection {
    type Shared = Sizes;

    fn new(sizes: &Arc<Sizes>, _: SocketAddr) -> Self {
        Self { sizes: **sizes, got: 0, position: 0 }
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        outbox: &mut Outbox,
        memory: &Memory,
        commands: &mut u64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let request = u64::from(self.sizes.request);
        self.got += bytes.len() as u64;
        let complete = self.got / request;
        self.got %= request;
        *commands += complete;
        for _ in 0..complete {
            outbox.make_room()?;
            // Neighbours, so that they are one piece of the send.
            outbox.canned(self.position, self.sizes.answer, memory);
            self.position += u64::from(self.sizes.answer);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        false
    }
}
