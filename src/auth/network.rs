//! Where a caller's address lies. The address itself is personal data, and is kept nowhere.

use std::net::{IpAddr, Ipv4Addr};

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// On this machine: in the same pod.
    Loopback,
    /// In a network that the Internet does not route to: RFC 1918, 6598, 3927, 4193 and 4291's link-local.
    Private,
    /// Anywhere else.
    Public,
}

impl Network {
    /// All of them, in the order of their codes.
    const ALL: [Self; 3] = [Self::Loopback, Self::Private, Self::Public];

    /// A number from 1 to 3.
    pub(super) const fn code(self) -> i64 {
        self as i64 + 1
    }

    pub(super) fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.code() == code)
    }
}

impl From<IpAddr> for Network {
    /// An IPv4 address that is written as one of IPv6 is the IPv4 address.
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let private = match address {
            IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || is_shared(v4),
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        match (address.is_loopback(), private) {
            (true, _) => Self::Loopback,
            (false, true) => Self::Private,
            (false, false) => Self::Public,
        }
    }
}

/// 100.64.0.0/10, RFC 6598: what providers and some clusters give to pods.
const fn is_shared(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 100 && b & 0b1100_0000 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_where_their_rfc_says() {
        use Network::{Loopback, Private, Public};
        let cases = [
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("10.255.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("172.32.0.1", Public),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("100.127.255.255", Private),
            ("100.128.0.1", Public),
            ("100.63.255.255", Public),
            ("169.254.169.254", Private),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fe80::1", Private),
            ("fec0::1", Public),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:8.8.8.8", Public),
            ("8.8.8.8", Public),
            ("2001:db8::1", Public),
            ("0.0.0.0", Public),
        ];
        for (address, network) in cases {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(Network::from(parsed), network, "{address}");
        }
    }

    #[test]
    fn a_code_is_of_one_network() {
        for network in Network::ALL {
            assert_eq!(Network::of_code(network.code()), Some(network));
        }
        assert_eq!([0, 4, -1].map(Network::of_code), [None; 3]);
    }
}
