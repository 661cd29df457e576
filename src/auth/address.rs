//! From which address a request comes: what proxies say of it is believed of those alone that are
//! known.
//!
//! Each proxy appends the address that it was asked from to `X-Forwarded-For`. So the right-most
//! entry was written by our own peer, the one before by the proxy that it names, and so on. From
//! the first hop that is no trusted proxy on, everything further left is what a client made up.
//! `Forwarded` (RFC 7239) is not read: a proxy that keeps one of the two headers passes the other
//! on as the client forged it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The proxies that are believed. Without any, nobody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// The proxies of these networks. What is no network is left out: it then is not believed.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a str>) -> Self {
        Self(networks.into_iter().filter_map(network).collect())
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client: of peer and forwarded hops the right-most that is no trusted
    /// proxy; the left-most if all are. A hop that is no address leaves it at the peer.
    ///
    /// `forwarded` are the values of `X-Forwarded-For`, in the order of their lines.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let peer = peer.to_canonical();
        let mut client = peer;
        let hops = forwarded.rev().flat_map(|line| line.rsplit(|b| *b == b','));
        for hop in hops {
            if !self.trust(client) {
                break;
            }
            let Some(address) = address(hop) else {
                return peer;
            };
            client = address;
        }
        client
    }
}

/// A network as `10.0.0.0/8` or `2001:db8::/32`, or a single address.
pub fn network(text: &str) -> Option<IpNet> {
    let single = |text: &str| Some(IpNet::from(text.parse::<IpAddr>().ok()?));
    text.parse().ok().or_else(|| single(text))
}

/// What shares a budget: an IPv4 address, or the 2^64 addresses that one IPv6 client has.
pub fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether two addresses are likely of one place: the same IPv4 /24 or IPv6 /64, or both of this
/// machine. One of each family is not: nobody can tell.
pub fn is_near(one: IpAddr, other: IpAddr) -> bool {
    match (one.to_canonical(), other.to_canonical()) {
        (one, other) if one.is_loopback() || other.is_loopback() => {
            one.is_loopback() && other.is_loopback()
        }
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let ([a, b, c, _], [x, y, z, _]) = (one.octets(), other.octets());
            (a, b, c) == (x, y, z)
        }
        (one, other) => block(one) == block(other),
    }
}

/// An address, maybe with a port, as proxies write it.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let with_port = || Some(text.parse::<std::net::SocketAddr>().ok()?.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let parsed = text.parse().ok().or_else(with_port).or_else(bracketed);
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(proxies: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let lines = forwarded.iter().map(|line| line.as_bytes());
        let proxies = Proxies::new(proxies.iter().copied());
        proxies.client(peer.parse().unwrap(), lines).to_string()
    }

    #[test]
    fn neighbours_are_near() {
        let near = |one: &str, other: &str| is_near(one.parse().unwrap(), other.parse().unwrap());
        for (one, other) in [
            ("192.0.2.1", "192.0.2.200"),
            ("192.0.2.1", "::ffff:192.0.2.9"),
            ("2001:db8::1", "2001:db8::ffff:1"),
            ("127.0.0.1", "::1"),
        ] {
            assert!(near(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("192.0.2.1", "192.0.3.1"),
            ("192.0.2.1", "2001:db8::1"),
            ("2001:db8::1", "2001:db8:0:1::1"),
            ("127.0.0.1", "192.0.2.1"),
            ("::", "0.0.0.0"),
        ] {
            assert!(!near(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_right_most_hop_that_is_no_proxy_is_the_client() {
        let cases: [(&[&str], &str, &[&str], &str); 14] = [
            // Nobody is trusted, nobody believed.
            (&[], "192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
            (&["10.0.0.0/8"], "192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
            // One proxy, and what the client made up before it.
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["198.51.100.1"],
                "198.51.100.1",
            ),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.1"],
                "198.51.100.1",
            ),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["x\u{0}, ,, 198.51.100.1"],
                "198.51.100.1",
            ),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.1"],
                "198.51.100.1",
            ),
            // Two, of which one is in front.
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.1, 10.9.9.9"],
                "198.51.100.1",
            ),
            // A client that claims to be a proxy is none.
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["10.0.0.2, 198.51.100.1"],
                "198.51.100.1",
            ),
            // Proxies alone: the one that began.
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["10.0.0.3, 10.0.0.2"],
                "10.0.0.3",
            ),
            (&["10.0.0.0/8"], "10.0.0.1", &[], "10.0.0.1"),
            // Garbage where a proxy should have written.
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["198.51.100.1, unknown"],
                "10.0.0.1",
            ),
            (&["10.0.0.0/8"], "10.0.0.1", &["198.51.100.1, "], "10.0.0.1"),
            // In every spelling.
            (
                &["2001:db8::1"],
                "2001:db8::1",
                &["[2001:db8::2]:443"],
                "2001:db8::2",
            ),
            (
                &["10.0.0.0/8"],
                "::ffff:10.0.0.1",
                &["::ffff:198.51.100.1"],
                "198.51.100.1",
            ),
        ];
        for (proxies, peer, forwarded, wanted) in cases {
            assert_eq!(
                client(proxies, peer, forwarded),
                wanted,
                "{peer} {forwarded:?}"
            );
        }
        for spelled in ["198.51.100.1:80", "\t198.51.100.1 ", "[::ffff:c633:6401]"] {
            assert_eq!(
                client(&["10.0.0.0/8"], "10.0.0.1", &[spelled]),
                "198.51.100.1"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_not_believed() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/8/8",
            "*",
            "localhost",
            "10.0.0.0/-1",
        ] {
            assert_eq!(network(text), None, "{text}");
            assert_eq!(client(&[text], "10.0.0.1", &["198.51.100.1"]), "10.0.0.1");
        }
    }

    #[test]
    fn a_block_is_what_one_client_has() {
        let of = |text: &str| block(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }

    fn trusted() -> impl Strategy<Value = IpAddr> {
        any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c]))
    }

    fn untrusted() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([198, a, b, c])),
            any::<[u8; 14]>().prop_map(|rest| {
                let mut bytes = [0x20, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                bytes[2..].copy_from_slice(&rest);
                IpAddr::from(bytes)
            }),
        ]
    }

    proptest! {
        /// D11: whatever a client sends, a proxy writes its address behind it, and that counts.
        #[test]
        fn nothing_that_a_client_sends_changes_its_address(
            forged in prop::collection::vec(any::<Vec<u8>>(), 0..4),
            real in untrusted(),
            proxies in prop::collection::vec(trusted(), 1..4),
        ) {
            let (peer, between) = proxies.split_last().unwrap();
            let mut hops = vec![real.to_string()];
            hops.extend(between.iter().map(IpAddr::to_string));
            let written = hops.join(", ");
            let known = Proxies::new(["10.0.0.0/8"]);
            // The proxy adds a line, or to the client's last one.
            let lines = forged.iter().map(Vec::as_slice).chain([written.as_bytes()]);
            let lines: Vec<_> = lines.collect();
            prop_assert_eq!(known.client(*peer, lines.into_iter()), real);
            let mut joined = forged.join(&b','); joined.extend(b", "); joined.extend(written.bytes());
            prop_assert_eq!(known.client(*peer, [&joined[..]].into_iter()), real);
            // Without the proxy, nothing of it counts.
            prop_assert_eq!(known.client(real, [&joined[..]].into_iter()), real);
        }

        #[test]
        fn every_address_of_a_block_is_in_the_same(address in any::<u128>(), low in any::<u64>()) {
            let one = IpAddr::V6(address.into());
            let other = IpAddr::V6((address >> 64 << 64 | u128::from(low)).into());
            if one.to_canonical() == one && other.to_canonical() == other {
                prop_assert_eq!(block(one), block(other));
            }
            prop_assert_eq!(block(block(one)), block(one));
        }
    }
}
