//! What is on its way to a ring: connections from another ring, files from whoever opened them.

use std::any::Any;
use std::fmt;

/// A connected socket that no ring has: [`crate::Operation::Release`] gives it, [`crate::Ring::adopt`] takes it. It
/// may travel to another thread. What the peer sends meanwhile waits in the socket; dropping it closes the connection.
pub struct LooseSocket(Box<dyn Any + Send>);

impl LooseSocket {
    /// For implementations of [`crate::Ring`]: wraps whatever holds the connection open, and closes it when dropped.
    pub fn new<T: Any + Send>(holder: T) -> Self {
        Self(Box::new(holder))
    }

    /// For implementations of [`crate::Ring`]: what [`LooseSocket::new`] was given.
    ///
    /// # Errors
    /// The socket itself, when it holds something else, and so comes from another kind of ring.
    pub fn into_holder<T: Any + Send>(self) -> Result<T, Self> {
        self.0.downcast().map(|holder| *holder).map_err(Self)
    }
}

impl fmt::Debug for LooseSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LooseSocket")
    }
}

/// A file that no ring has: [`crate::Ring::take_file`] takes it. It may travel to another thread; dropping it closes it.
pub struct LooseFile(Box<dyn Any + Send>);

impl LooseFile {
    /// Wraps what the ring in question calls an open file: [`crate::file::OpenedFile`] for the kernel's.
    pub fn new<T: Any + Send>(holder: T) -> Self {
        Self(Box::new(holder))
    }

    /// For implementations of [`crate::Ring`]: what [`LooseFile::new`] was given.
    ///
    /// # Errors
    /// The file itself, when it holds something else, and so is meant for another kind of ring.
    pub fn into_holder<T: Any + Send>(self) -> Result<T, Self> {
        self.0.downcast().map(|holder| *holder).map_err(Self)
    }
}

impl fmt::Debug for LooseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LooseFile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_kind_comes_out() {
        let loose = LooseSocket::new(7_u32);
        let loose = loose.into_holder::<i64>().unwrap_err();
        assert_eq!(loose.into_holder::<u32>().unwrap(), 7);
        let loose = LooseFile::new(7_u32).into_holder::<i64>().unwrap_err();
        assert_eq!(loose.into_holder::<u32>().unwrap(), 7);
    }
}
