//! Which interface a local address belongs to, from the kernel's tables in `/proc/net`.

use super::files::Root;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network that is directly behind an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its address.
    pub address: IpAddr,
    /// How many leading bits of the address count.
    pub prefix_len: u8,
    /// The interface.
    pub device: String,
}

/// All networks of this host.
pub(super) fn read(root: Root<'_>) -> Vec<Network> {
    // The network namespace's own tables; `net` is a link to `self/net`.
    let table = |name: &str| root.text(&format!("proc/net/{name}")).unwrap_or_default();
    let mut networks: Vec<Network> = table("route").lines().skip(1).filter_map(route).collect();
    networks.extend(table("if_inet6").lines().filter_map(inet6));
    networks
}

/// A line of `route`: interface, destination, gateway, flags, ..., mask (the eighth). Addresses are in memory order.
fn route(line: &str) -> Option<Network> {
    const HAS_GATEWAY: u16 = 2;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let flags = u16::from_str_radix(fields.get(3)?, 16).ok()?;
    if flags & HAS_GATEWAY != 0 {
        return None;
    }
    let mask = number(7)?;
    Some(Network {
        address: IpAddr::V4(Ipv4Addr::from(number(1)?.swap_bytes())),
        prefix_len: mask.count_ones() as u8,
        device: (*fields.first()?).to_owned(),
    })
}

/// A line of `if_inet6`: address, interface number, prefix length, scope, flags, interface.
fn inet6(line: &str) -> Option<Network> {
    let mut fields = line.split_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let device = fields.nth(4)?.to_owned();
    Some(Network { address: IpAddr::V6(Ipv6Addr::from(address)), prefix_len: 128, device })
}

/// The interface of an address: that of the longest prefix that has it.
pub(super) fn device_of(networks: &[Network], address: IpAddr) -> Option<&str> {
    if address.is_loopback() {
        return None;
    }
    let address = address.to_canonical();
    let has = |network: &&Network| match (network.address, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix_len)).unwrap_or(0);
            net.to_bits() & mask == address.to_bits() & mask
        }
        (net, address) => net == address,
    };
    let best = networks.iter().filter(has).max_by_key(|network| network.prefix_len)?;
    Some(&best.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let networks: Vec<Network> = [
            "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
            "eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0",
            "eth1\t800200C0\t00000000\t0001\t0\t0\t100\tC0FFFFFF\t0\t0\t0",
            "broken",
        ]
        .into_iter()
        .filter_map(route)
        .chain(inet6("20010db8000000000000000000000005 02 40 00 80     eth2"))
        .collect();
        let of = |text: &str| device_of(&networks, text.parse().unwrap());
        assert_eq!(of("192.0.2.9"), Some("eth0"));
        assert_eq!(of("192.0.2.130"), Some("eth1"));
        assert_eq!(of("198.51.100.1"), None, "behind a gateway is nobody's address here");
        assert_eq!(of("2001:db8::5"), Some("eth2"));
        assert_eq!(of("::ffff:192.0.2.9"), Some("eth0"));
        assert_eq!(of("127.0.0.1"), None);
    }
}
