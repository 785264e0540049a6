//! The process's limit of descriptors.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;

/// Raises the soft limit of open descriptors to the hard one, and returns it. Each connection needs one, and the
/// ring's table of registered descriptors may not be larger than the limit.
///
/// # Errors
/// Whatever setrlimit says.
pub fn raise_descriptors() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_descriptors().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
    }
}
