//! The unit to drive: `iscsi://HOST[:PORT]/IQN/LUN`.

use super::Wrong;
use stampede_wire::Lun;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// The port of iSCSI (RFC 7143 14).
const PORT: u16 = 3260;
/// The longest iSCSI name, bytes (RFC 7143 4.2.7.1).
const NAME_MAX: usize = 223;
/// How a URL is written.
const FORM: &str =
    "write iscsi://HOST[:PORT]/IQN/LUN, such as iscsi://192.0.2.1/iqn.2026-11.io.stampede:data/0";

/// A logical unit behind a portal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnitUrl {
    text: String,
    /// Name or address of the portal, without brackets.
    pub(crate) host: String,
    /// TCP port of the portal.
    pub(crate) port: u16,
    /// TargetName.
    pub(crate) target: String,
    /// The logical unit's number.
    pub(crate) lun: u16,
}

impl UnitUrl {
    /// The portal's address; a name is looked up.
    ///
    /// # Errors
    /// The name has no address.
    pub(crate) fn portal(&self) -> Result<SocketAddr, Wrong> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found = found.map_err(|error| {
            Wrong::new(format!("cannot find an address of `{}`: {error}. Check the name", self.host))
        })?;
        let mut found = found;
        found.next().ok_or_else(|| Wrong::new(format!("`{}` has no address", self.host)))
    }

    /// The LUN as it goes over the wire.
    pub(crate) fn lun_field(&self) -> Lun {
        // Checked when it was read.
        Lun::encode(self.lun).unwrap_or(Lun::ZERO)
    }
}

impl FromStr for UnitUrl {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = |what: &str| Wrong::new(format!("{what} in `{text}`: {FORM}"));
        let rest = text.strip_prefix("iscsi://").ok_or_else(|| wrong("no iscsi:// at the start"))?;
        let mut parts = rest.splitn(3, '/');
        let (authority, target, lun) = match (parts.next(), parts.next(), parts.next()) {
            (Some(authority), Some(target), Some(lun)) => (authority, target, lun),
            _ => return Err(wrong("not the three parts portal, target name and LUN")),
        };
        if authority.contains('@') || authority.contains('%') {
            return Err(wrong("a user name (storm does no authentication)"));
        }
        let (host, port) = split_authority(authority).ok_or_else(|| wrong("no legal portal"))?;
        let is_name = ["iqn.", "eui.", "naa."].iter().any(|prefix| target.starts_with(prefix));
        let is_clean = target.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || !is_clean || target.len() > NAME_MAX {
            return Err(wrong("no legal target name (iqn., eui. or naa.)"));
        }
        let lun = lun.parse::<u16>().ok().filter(|lun| *lun <= Lun::NUMBER_MAX);
        let lun = lun.ok_or_else(|| wrong("no LUN from 0 to 16383"))?;
        Ok(Self { text: text.to_owned(), host, port, target: target.to_owned(), lun })
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn split_authority(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return None;
    }
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    Some((host.to_owned(), port))
}

impl fmt::Display for UnitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_url() {
        let url: UnitUrl = "iscsi://127.0.0.1:3261/iqn.2026-11.io.stampede:data/3".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.lun), ("127.0.0.1", 3261, 3));
        assert_eq!(url.target, "iqn.2026-11.io.stampede:data");
        let url: UnitUrl = "iscsi://[::1]/iqn.a/0".parse().unwrap();
        assert_eq!((url.portal().unwrap().to_string(), url.lun_field()), ("[::1]:3260".into(), Lun::ZERO));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("http://h/iqn.a/0", "iscsi://"),
            ("iscsi://h/iqn.a", "three parts"),
            ("iscsi://user%pw@h/iqn.a/0", "authentication"),
            ("iscsi://:1/iqn.a/0", "portal"),
            ("iscsi://h:0/iqn.a/0", "portal"),
            ("iscsi://[::1/iqn.a/0", "portal"),
            ("iscsi://h/disk/0", "target name"),
            ("iscsi://h/iqn.a/x", "LUN"),
            ("iscsi://h/iqn.a/20000", "LUN"),
        ] {
            let wrong = text.parse::<UnitUrl>().unwrap_err().to_string();
            assert!(wrong.contains(says), "{text}: {wrong}");
        }
    }
}
