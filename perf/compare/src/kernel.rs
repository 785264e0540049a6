//! What the kernel keeps for one end of a connection that says nothing.

/// The objects that a connected TCP socket with a descriptor consists of, as `/proc/slabinfo` calls them. It has no
/// buffers while nothing is under way.
const OBJECTS: [&str; 4] = ["TCP", "sock_inode_cache", "filp", "dentry"];

/// Bytes for one socket; 0 when the kernel does not say (only root may ask).
pub(crate) fn socket_bytes() -> u64 {
    std::fs::read_to_string("/proc/slabinfo").ok().and_then(|text| of(&text)).unwrap_or(0)
}

fn of(slabinfo: &str) -> Option<u64> {
    let size = |object: &&str| -> Option<u64> {
        let line = slabinfo.lines().find(|line| line.split_whitespace().next() == Some(object))?;
        line.split_whitespace().nth(3)?.parse().ok()
    };
    OBJECTS.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_sizes_are_added() {
        let text = "# name <active_objs> <num_objs> <objsize>\ntw_sock_TCP 1 2 256 16\nTCP 66 117 2368 13 8\n\
                    sock_inode_cache 247 247 832 19\nfilp 1 2 192 21\ndentry 3 4 200 21\n";
        assert_eq!(of(text), Some(3592));
        assert_eq!(of("TCP 66 117 2368 13 8\n"), None);
    }
}
