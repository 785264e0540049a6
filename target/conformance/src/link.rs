//! One TCP connection to a target, as bytes: what a test side has to offer.

/// What a connection had to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// The target closed or reset it, and everything before was heard.
    Closed,
    /// Nothing came for as long as was waited.
    Silence,
}

/// How long to wait for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as it takes: seconds on TCP, and on the twin until nothing is going to happen.
    Long,
    /// As long as something that should not come would take: a fraction of a second. A test may only be too
    /// lenient by it, never fail by it.
    Short,
}

/// One TCP connection.
pub trait Link {
    /// Sends bytes, all of them; on a connection that is gone they are lost, which is no failure here.
    fn send(&mut self, bytes: &[u8]);

    /// Waits for the target to say something.
    fn receive(&mut self, patience: Patience) -> Heard;

    /// Ends the connection without a word, as a machine does that lost its power and came back (RST).
    fn reset(&mut self);
}
