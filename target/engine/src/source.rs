//! Who is behind an address, for whatever is shared by source.

use std::net::IpAddr;

/// An IPv4 address, or an IPv6 network of 64 bits, which one machine may have alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    is_v6: bool,
    bits: u64,
}

impl Source {
    /// The source of a peer's address. An IPv4 address mapped into IPv6 is the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { is_v6: false, bits: u64::from(address.to_bits()) },
            IpAddr::V6(address) => Self { is_v6: true, bits: (address.to_bits() >> 64) as u64 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("::a00:1"), of("10.0.0.1"));
    }
}
