//! What scripts share: waiting for the completion of one token, and the usual steps to a connection.

use super::{ClientId, ScriptWorld};
use crate::{
    Accepted, Chunk, Completion, Errno, Event, Operation, Received, Ring, SendList, SocketId, Token,
};

/// Turns to wait for something that must come.
const PATIENCE_TURNS: usize = 2_000;
/// Turns to see that something does not come.
const SILENCE_TURNS: usize = 3;

/// A world, and the completions that nobody has asked for yet.
pub(super) struct Driver<'w, W: ScriptWorld> {
    pub(super) world: &'w mut W,
    batch: Vec<Completion>,
    waiting: Vec<Completion>,
    next_token: u64,
}

impl<'w, W: ScriptWorld> Driver<'w, W> {
    pub(super) fn new(world: &'w mut W) -> Self {
        Self { world, batch: Vec::with_capacity(64), waiting: Vec::new(), next_token: 1 }
    }

    /// Pushes, and returns the new token. A full queue is submitted first.
    pub(super) fn push(&mut self, operation: Operation) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        let mut operation = operation;
        for _ in 0..PATIENCE_TURNS {
            match self.world.ring().push(token, operation) {
                Ok(()) => return token,
                Err(back) => operation = back,
            }
            self.turn();
        }
        panic!("the queue stays full: {operation:?}");
    }

    /// One turn; completions wait until they are asked for.
    pub(super) fn turn(&mut self) {
        self.world.turn(&mut self.batch);
        assert!(self.batch.len() <= 64, "more completions than the batch has room for");
        let told = self.batch.drain(..).filter(|completion| !matches!(completion.event, Event::Woken));
        self.waiting.extend(told);
    }

    /// The next completion of this token.
    pub(super) fn wait(&mut self, token: Token) -> Event {
        for _ in 0..PATIENCE_TURNS {
            if let Some(event) = self.take(token) {
                return event;
            }
            self.turn();
        }
        panic!("no completion of {token:?}; others: {:?}", self.waiting);
    }

    /// A completion of this token that has come already.
    pub(super) fn try_take(&mut self, token: Token) -> Option<Event> {
        self.take(token)
    }

    fn take(&mut self, token: Token) -> Option<Event> {
        let index = self.waiting.iter().position(|completion| completion.token == token)?;
        Some(self.waiting.remove(index).event)
    }

    /// Checks that the operation stays silent for some turns.
    pub(super) fn expect_silence(&mut self, token: Token) {
        for _ in 0..SILENCE_TURNS {
            self.turn();
        }
        if let Some(event) = self.take(token) {
            panic!("{token:?} was to stay silent: {event:?}");
        }
    }

    /// Ends a script: nothing may have completed that nobody expected.
    pub(super) fn end(mut self) {
        for _ in 0..SILENCE_TURNS {
            self.turn();
        }
        assert!(self.waiting.is_empty(), "completions that nobody expected: {:?}", self.waiting);
    }

    pub(super) fn wait_finished(&mut self, token: Token) -> Result<(), Errno> {
        match self.wait(token) {
            Event::Finished { result } => result,
            other => panic!("expected Finished, got {other:?}"),
        }
    }

    pub(super) fn wait_accepted(&mut self, token: Token) -> Accepted {
        match self.wait(token) {
            Event::Accepted { result: Ok(accepted), .. } => accepted,
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    pub(super) fn wait_received(&mut self, token: Token) -> (Received, bool) {
        match self.wait(token) {
            Event::Received { received, more } => (received, more),
            other => panic!("expected Received, got {other:?}"),
        }
    }

    pub(super) fn wait_sent(&mut self, token: Token) -> (Result<u32, Errno>, SendList) {
        match self.wait(token) {
            Event::Sent { result, list } => (result, list),
            other => panic!("expected Sent, got {other:?}"),
        }
    }

    /// The bytes of a chunk, which is recycled.
    pub(super) fn consume(&mut self, chunk: Chunk) -> Vec<u8> {
        let bytes = chunk.bytes().to_vec();
        assert_eq!(bytes.len(), chunk.len() as usize);
        self.recycle(chunk);
        bytes
    }

    pub(super) fn recycle(&mut self, chunk: Chunk) {
        self.world.ring().recycle(chunk);
    }

    /// A connection: the ring's socket and the client's end.
    pub(super) fn connect(&mut self) -> (SocketId, ClientId) {
        let listener = self.world.listener();
        let accept = self.push(Operation::Accept { listener });
        let client = self.world.client_connect(listener);
        let socket = self.wait_accepted(accept).socket;
        let cancel = self.push(Operation::Cancel { target: accept });
        assert_eq!(self.wait_finished(cancel), Ok(()));
        match self.wait(accept) {
            Event::Accepted { result: Err(_), more: false } => {}
            other => panic!("expected the accept's end, got {other:?}"),
        }
        self.close(listener);
        (socket, client)
    }

    pub(super) fn close(&mut self, socket: SocketId) {
        let close = self.push(Operation::Close { socket });
        assert_eq!(self.wait_finished(close), Ok(()));
    }

    /// Receives until there are `want` bytes, starting (again) a receive whenever none is on.
    pub(super) fn receive(&mut self, socket: SocketId, receive: &mut Option<Token>, want: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < want {
            let token = *receive.get_or_insert_with(|| self.push(Operation::Receive { socket }));
            let (received, more) = self.wait_received(token);
            if !more {
                *receive = None;
            }
            match received {
                Received::Chunk(chunk) => bytes.extend(self.consume(chunk)),
                Received::Starved => {}
                other => panic!("expected bytes, got {other:?} after {}", bytes.len()),
            }
        }
        bytes
    }

    /// Cancels a receive, and returns what it still brought.
    pub(super) fn stop_receiving(&mut self, receive: Token) -> Vec<u8> {
        let mut bytes = Vec::new();
        let cancel = self.push(Operation::Cancel { target: receive });
        assert_eq!(self.wait_finished(cancel), Ok(()));
        loop {
            match self.wait_received(receive) {
                (Received::Chunk(chunk), more) => {
                    bytes.extend(self.consume(chunk));
                    if !more {
                        return bytes;
                    }
                }
                (Received::Cancelled, false) => return bytes,
                other => panic!("expected the receive's end, got {other:?}"),
            }
        }
    }

    /// Sends the whole list, going on after short sends; returns the list.
    pub(super) fn send_all(&mut self, socket: SocketId, mut list: SendList) -> SendList {
        while !list.is_empty() {
            let token = self.push(Operation::Send { socket, list });
            let (result, back) = self.wait_sent(token);
            list = back;
            let sent = result.expect("the client reads");
            assert!(sent > 0 && u64::from(sent) <= list.bytes(), "{sent} of {}", list.bytes());
            list.advance(u64::from(sent));
        }
        list
    }

    /// What the client gets, until it has `want` bytes.
    pub(super) fn client_receive(&mut self, client: ClientId, want: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..PATIENCE_TURNS {
            bytes.extend(self.world.client_receive(client, want - bytes.len()));
            if bytes.len() == want {
                return bytes;
            }
            self.turn();
        }
        panic!("the client got {} of {want} bytes", bytes.len());
    }

    pub(super) fn wait_client_end(&mut self, client: ClientId) {
        for _ in 0..PATIENCE_TURNS {
            if self.world.client_saw_end(client) {
                return;
            }
            self.turn();
        }
        panic!("the client does not see the connection's end");
    }
}

/// Bytes that differ by position and seed.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let byte = |at: usize| {
        let mixed = (at as u64 ^ seed.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as u8
    };
    (0..len).map(byte).collect()
}
