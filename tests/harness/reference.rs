//! What a packet should meet, worked out a second time: a parser over a slice and the rules as the documentation tells
//! them, sharing nothing with the kernel programs but the contents of the maps. For comparing many packets.

use std::collections::BTreeSet;

use ingress_common::flow::{Addr, TCP, UDP, v4_mapped, v4_of};
use ingress_common::maps::{AclVal, VipKey, VipVal};
use ingress_common::tunnel::PORT;
use ingress_common::verdict::{Reason, Verdict};
use ingress_userspace::compile::maps::MapContents;

/// What is to be expected of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This counter, and what it stands for.
    Exactly(Verdict),
    /// Features are at work that this file knows nothing of.
    Anything,
}

/// Bytes of a frame, each read checked.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8(at)?, self.u8(at + 1)?]))
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }
}

/// An IP packet up to its transport header.
struct Ip {
    source: [u8; 16],
    destination: [u8; 16],
    transport: Transport,
}

/// What is under the IP header.
enum Transport {
    At { protocol: u8, offset: usize, is_first_fragment: bool, end: usize },
    LaterFragment,
    LongChain,
    Cut,
}

/// The most IPv6 extension headers that are followed.
const EXTENSIONS: usize = 4;

/// Works out what the XDP program should say, with maps of these contents, these sources banned (IPv6 ones by their /64) and
/// limits that always have room. What belongs to
/// a pool of several nodes, or may have come through the tunnel, is left open.
pub fn expect(frame: &[u8], maps: &MapContents, banned: &BTreeSet<Addr>) -> Expected {
    let bytes = Bytes(frame);
    let foreign = |reason| Expected::Exactly(Verdict { vip_id: 0, reason });
    let (Some(first), Some(second)) = (bytes.u16(12), bytes.u16(16)) else {
        return bytes.u16(12).map_or(foreign(Reason::Truncated), |ether_type| match ether_type {
            0x8100 | 0x88a8 | 0x0800 | 0x86dd => foreign(Reason::Truncated),
            _ => foreign(Reason::NotIp),
        });
    };
    let is_tag = |ether_type| matches!(ether_type, 0x8100 | 0x88a8);
    let (ether_type, offset) = match (is_tag(first), is_tag(second), bytes.u16(20)) {
        (true, true, Some(third)) => (third, 22),
        (true, true, None) => return foreign(Reason::Truncated),
        (true, false, _) => (second, 18),
        (false, ..) => (first, 14),
    };
    let ip = match ether_type {
        // A request for a neighbour's address; the same in IPv6, or an echo, which may be answered.
        0x0806 => return Expected::Anything,
        0x0800 if is_icmp(&bytes, offset, &[8]) => return Expected::Anything,
        0x86dd if is_icmp(&bytes, offset, &[128, 135, 136]) => return Expected::Anything,
        0x0800 => ipv4(&bytes, offset),
        0x86dd => ipv6(&bytes, offset),
        _ => return foreign(Reason::NotIp),
    };
    let Some(ip) = ip else { return foreign(Reason::Truncated) };
    if ether_type == 0x86dd && (v4_of(&ip.destination).is_some() || v4_of(&ip.source).is_some()) {
        // An IPv4 address where there can be none.
        return foreign(Reason::Foreign);
    }
    let address = maps.vips.get(&VipKey::address(ip.destination));
    let is_vip = address.is_some_and(|vip| vip.flags & VipVal::PORTS_ONLY == 0);
    let is_shared = address.is_some_and(|vip| vip.pool != 0);
    if is_shared || (!is_vip && may_be_tunnel(&bytes, offset, ether_type == 0x86dd)) {
        return Expected::Anything;
    }
    Expected::Exactly(judge(&bytes, &ip, maps, banned))
}

/// IP in IP, or UDP to the port of the tunnel, directly behind an IP header without options.
fn may_be_tunnel(bytes: &Bytes<'_>, at: usize, is_ipv6: bool) -> bool {
    let (protocol, behind) = if is_ipv6 { (bytes.u8(at + 6), at + 40) } else { (bytes.u8(at + 9), at + 20) };
    matches!(protocol, Some(4 | 41)) || (protocol == Some(UDP) && bytes.u16(behind + 2) == Some(PORT))
}

/// Whether a message of one of these types may be behind the IP header, however it gets there.
fn is_icmp(bytes: &Bytes<'_>, at: usize, types: &[u8]) -> bool {
    let ip = match bytes.u8(at).map(|first| first >> 4) {
        Some(4) => ipv4(bytes, at),
        _ => ipv6(bytes, at),
    };
    match ip.map(|ip| ip.transport) {
        Some(Transport::At { protocol: 1 | 58, offset, .. }) => {
            bytes.u8(offset).is_some_and(|kind| types.contains(&kind))
        }
        _ => false,
    }
}

fn ipv4(bytes: &Bytes<'_>, at: usize) -> Option<Ip> {
    let first = bytes.u8(at)?;
    let length = usize::from(first & 15) * 4;
    // The addresses must be there, and the header as long as one is.
    let destination = bytes.array(at + 16)?;
    if first >> 4 != 4 || length < 20 {
        return None;
    }
    let fragment = bytes.u16(at + 6)?;
    let transport = if fragment & 0x1fff != 0 {
        Transport::LaterFragment
    } else {
        Transport::At {
            protocol: bytes.u8(at + 9)?,
            offset: at + length,
            is_first_fragment: fragment & 0x2000 != 0,
            end: at + usize::from(bytes.u16(at + 2)?),
        }
    };
    Some(Ip { source: v4_mapped(bytes.array(at + 12)?), destination: v4_mapped(destination), transport })
}

fn ipv6(bytes: &Bytes<'_>, at: usize) -> Option<Ip> {
    let destination = bytes.array(at + 24)?;
    let end = at + 40 + usize::from(bytes.u16(at + 4)?);
    let transport = chain(bytes, bytes.u8(at + 6)?, at + 40, end);
    Some(Ip { source: bytes.array(at + 8)?, destination, transport })
}

fn chain(bytes: &Bytes<'_>, mut protocol: u8, mut offset: usize, end: usize) -> Transport {
    let mut is_first_fragment = false;
    for followed in 0.. {
        if !matches!(protocol, 0 | 43 | 44 | 60) {
            break;
        }
        if followed == EXTENSIONS {
            return Transport::LongChain;
        }
        let Some([next, length, high, low, ..]) = bytes.array::<8>(offset) else { return Transport::Cut };
        if protocol == 44 {
            let field = u16::from_be_bytes([high, low]);
            if field >> 3 != 0 {
                return Transport::LaterFragment;
            }
            is_first_fragment = field & 1 != 0;
            offset += 8;
        } else {
            offset += 8 * (usize::from(length) + 1);
        }
        protocol = next;
    }
    Transport::At { protocol, offset, is_first_fragment, end }
}

fn judge(bytes: &Bytes<'_>, ip: &Ip, maps: &MapContents, banned: &BTreeSet<Addr>) -> Verdict {
    let foreign = Verdict { vip_id: 0, reason: Reason::Foreign };
    let Some(address) = maps.vips.get(&VipKey::address(ip.destination)) else { return foreign };
    let is_ipv4 = v4_of(&ip.destination).is_some();
    let (found, opens, rest) = transport(bytes, &ip.transport, is_ipv4);
    let served = found.and_then(|(port, proto)| maps.vips.get(&VipKey::served(ip.destination, port, proto)));
    if served.is_none() && address.flags & VipVal::PORTS_ONLY != 0 {
        return foreign;
    }
    let vip = served.unwrap_or(address);
    let (all, own) = (flags(&ip.source, 0, maps), flags(&ip.source, vip.scope, maps));
    let is_missing = |only: u32, list: u32| vip.flags & only != 0 && list & AclVal::ALLOW == 0;
    let reason = if (all | own) & AclVal::DENY != 0 {
        Reason::Denied
    } else if vip.flags & VipVal::BANS != 0
        && is_banned(&ip.source, banned)
        && (all | own) & AclVal::EXEMPT == 0
    {
        Reason::Banned
    } else if is_missing(VipVal::ALLOW_ONLY_ALL, all) || is_missing(VipVal::ALLOW_ONLY_SCOPE, own) {
        Reason::NotAllowed
    } else if served.is_none() {
        rest
    } else if !opens {
        Reason::Admitted
    } else if (all | own) & AclVal::EXEMPT != 0 {
        Reason::Exempt
    } else {
        Reason::Opened
    };
    Verdict { vip_id: vip.vip_id, reason }
}

fn is_banned(source: &Addr, banned: &BTreeSet<Addr>) -> bool {
    let mut subscriber = *source;
    if v4_of(source).is_none() {
        subscriber.iter_mut().skip(8).for_each(|byte| *byte = 0);
    }
    banned.contains(&subscriber)
}

/// Port and protocol, whether it opens a connection, and the reason where no port is served.
fn transport(bytes: &Bytes<'_>, transport: &Transport, is_ipv4: bool) -> (Option<(u16, u8)>, bool, Reason) {
    let (protocol, at, is_first_fragment, end) = match *transport {
        Transport::At { protocol, offset, is_first_fragment, end } => {
            (protocol, offset, is_first_fragment, end)
        }
        Transport::LaterFragment => return (None, false, Reason::Fragment),
        Transport::LongChain => return (None, false, Reason::LongChain),
        Transport::Cut => return (None, false, Reason::Truncated),
    };
    let port = bytes.u16(at + 2);
    match (protocol, port) {
        (UDP, Some(port)) if bytes.u16(at + 6).is_some() => (Some((port, UDP)), false, Reason::UnservedPort),
        (TCP, Some(port)) => {
            let is_whole = bytes.u16(at + 18).is_some();
            if !is_whole && !is_first_fragment {
                return (None, false, Reason::Truncated);
            }
            // Flags in the next fragment are taken for a SYN.
            let are_hidden = is_first_fragment && (!is_whole || at + 20 > end);
            let opens = are_hidden || bytes.u8(at + 13).is_some_and(|flags| flags & 0x12 == 0x02);
            (Some((port, TCP)), opens, Reason::UnservedPort)
        }
        (TCP | UDP, _) => (None, false, Reason::Truncated),
        (1, _) if is_ipv4 => (quoted4(bytes, at), false, Reason::OtherProtocol),
        (58, _) if !is_ipv4 => (quoted6(bytes, at), false, Reason::OtherProtocol),
        _ => (None, false, Reason::OtherProtocol),
    }
}

/// The port that sent the packet which an ICMP error quotes.
fn quoted4(bytes: &Bytes<'_>, at: usize) -> Option<(u16, u8)> {
    let quoted: [u8; 20] = bytes.array(at + 8)?;
    let [first, .., high, low, _, protocol] = *quoted.first_chunk::<10>()?;
    let is_error = matches!(bytes.u8(at)?, 3 | 4 | 11 | 12);
    let is_first = u16::from_be_bytes([high, low]) & 0x1fff == 0;
    let length = usize::from(first & 15) * 4;
    if !is_error || !is_first || first >> 4 != 4 || length < 20 {
        return None;
    }
    quoted_port(bytes, at + 8 + length, protocol)
}

/// The same of IPv6.
fn quoted6(bytes: &Bytes<'_>, at: usize) -> Option<(u16, u8)> {
    let quoted: [u8; 40] = bytes.array(at + 8)?;
    let [first, _, _, _, _, _, protocol, ..] = quoted;
    if !matches!(bytes.u8(at)?, 1..=4) || first >> 4 != 6 {
        return None;
    }
    quoted_port(bytes, at + 48, protocol)
}

fn quoted_port(bytes: &Bytes<'_>, at: usize, protocol: u8) -> Option<(u16, u8)> {
    let [high, low, ..] = bytes.array::<4>(at)?;
    matches!(protocol, TCP | UDP).then_some((u16::from_be_bytes([high, low]), protocol))
}

/// The flags of the longest prefix of a scope that covers a source.
fn flags(source: &[u8; 16], scope: u32, maps: &MapContents) -> u32 {
    let scope = scope.to_be_bytes();
    let found = match v4_of(source) {
        Some(source) => longest(
            maps.acl4
                .iter()
                .filter(|((_, key), _)| key.scope == scope)
                .map(|((len, key), v)| (*len, key.addr, v)),
            source,
        ),
        None => longest(
            maps.acl6
                .iter()
                .filter(|((_, key), _)| key.scope == scope)
                .map(|((len, key), v)| (*len, key.addr, v)),
            *source,
        ),
    };
    found.map_or(0, |value| value.flags.into())
}

fn longest<'a, const N: usize>(
    entries: impl Iterator<Item = (u32, [u8; N], &'a AclVal)>,
    source: [u8; N],
) -> Option<&'a AclVal> {
    let bit = |bytes: &[u8; N], at: usize| bytes.get(at / 8).map(|byte| byte >> (7 - at % 8) & 1);
    let covers =
        |len: u32, prefix: &[u8; N]| (0..len as usize - 32).all(|at| bit(prefix, at) == bit(&source, at));
    entries
        .filter(|(len, prefix, _)| covers(*len, prefix))
        .max_by_key(|(len, _, _)| *len)
        .map(|(_, _, value)| value)
}
