//! `getaddrinfo` and `freeaddrinfo` (POSIX.1-2024, RFC 3493 section 6.1) over [`super::lookup`], and a `getpwuid_r` that
//! finds nobody.
//!
//! The only file with unsafe code. What makes it sound: the list that `getaddrinfo` gives out consists of [`Node`]s
//! from `Box`, each with its address inside and its name from `CString`, and `freeaddrinfo` takes back exactly those.
#![expect(unsafe_code, reason = "these functions have a C interface; see the room's doc for why they exist")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{addrinfo, sockaddr_in, sockaddr_in6};

use super::lookup::{self, Failure, Family};

/// One entry of the list. `info` comes first, so a pointer to it is a pointer to the node.
#[repr(C)]
struct Node {
    info: addrinfo,
    address: Address,
}

#[repr(C)]
union Address {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// What the caller asks for, taken out of its C form.
#[derive(Clone, Copy)]
struct Hints {
    flags: c_int,
    family: c_int,
    kind: c_int,
    protocol: c_int,
}

/// Looks up `node` and `service`; see POSIX. Named services other than `http` and `https` are unknown.
///
/// # Safety
/// As POSIX demands of callers: `node` and `service` are null or C strings, `hints` is null or readable, `out` is
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    out: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: the caller's promise about `node`, `service` and `hints`.
    let (node, service, hints) = unsafe {
        let text = |text: *const c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_str());
        let hints =
            hints.as_ref().map_or(Hints { flags: 0, family: libc::AF_UNSPEC, kind: 0, protocol: 0 }, |hints| Hints {
                flags: hints.ai_flags,
                family: hints.ai_family,
                kind: hints.ai_socktype,
                protocol: hints.ai_protocol,
            });
        (text(node).transpose(), text(service).transpose(), hints)
    };
    let (Ok(node), Ok(service)) = (node, service) else { return libc::EAI_NONAME };
    // A panic must not cross into C, where it would end the process.
    match std::panic::catch_unwind(|| resolve(node, service, hints)) {
        Ok(Ok(found)) => {
            let list = list(&found, hints, node);
            // SAFETY: the caller's promise about `out`.
            unsafe { out.write(list) };
            0
        }
        Ok(Err(code)) => code,
        Err(_panic) => libc::EAI_FAIL,
    }
}

/// Frees a list, or the rest of one, that [`getaddrinfo`] gave out. Null is fine.
///
/// # Safety
/// `list` came from [`getaddrinfo`] and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freeaddrinfo(list: *mut addrinfo) {
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `info` is the first field of a boxed `Node`, and the caller gives the list up.
        let node = unsafe { Box::from_raw(next.cast::<Node>()) };
        if !node.info.ai_canonname.is_null() {
            // SAFETY: made by `CString::into_raw` in `list` and freed nowhere else.
            drop(unsafe { CString::from_raw(node.info.ai_canonname) });
        }
        next = node.info.ai_next;
    }
}

/// Finds no user, whatever `_uid` (POSIX.1-2024, `getpwuid_r`). The standard library refers to it for home folders, which
/// nothing here asks for; without this one the C library's would be linked, and its name services with it.
///
/// # Safety
/// As POSIX demands of callers: `found` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getpwuid_r(
    _uid: libc::uid_t,
    _entry: *mut libc::passwd,
    _buffer: *mut c_char,
    _length: libc::size_t,
    found: *mut *mut libc::passwd,
) -> c_int {
    // SAFETY: the caller's promise about `found`.
    unsafe { found.write(ptr::null_mut()) };
    0
}

/// The socket addresses asked for, or the `EAI_` code.
fn resolve(node: Option<&str>, service: Option<&str>, hints: Hints) -> Result<Vec<SocketAddr>, c_int> {
    let family = match hints.family {
        libc::AF_UNSPEC => Family::Any,
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(libc::EAI_FAMILY),
    };
    let port = match service {
        None if node.is_none() => return Err(libc::EAI_NONAME),
        None => 0,
        Some("http") if hints.flags & libc::AI_NUMERICSERV == 0 => 80,
        Some("https") if hints.flags & libc::AI_NUMERICSERV == 0 => 443,
        Some(digits) => digits.parse::<u16>().map_err(|_no_number| libc::EAI_SERVICE)?,
    };
    let Some(node) = node else { return Ok(own_addresses(family, port, hints.flags)) };
    if let Some(address) = numeric(node, port) {
        return match (family, address) {
            (Family::V6, SocketAddr::V4(v4)) if hints.flags & libc::AI_V4MAPPED != 0 => {
                Ok(vec![SocketAddr::new(v4.ip().to_ipv6_mapped().into(), port)])
            }
            (Family::V4, SocketAddr::V6(_)) | (Family::V6, SocketAddr::V4(_)) => Err(libc::EAI_NONAME),
            _ => Ok(vec![address]),
        };
    }
    if hints.flags & libc::AI_NUMERICHOST != 0 {
        return Err(libc::EAI_NONAME);
    }
    let code = |failure| match failure {
        Failure::NoName => libc::EAI_NONAME,
        Failure::Again => libc::EAI_AGAIN,
    };
    let found = match lookup::addresses(node, family) {
        Err(Failure::NoName) if family == Family::V6 && hints.flags & libc::AI_V4MAPPED != 0 => {
            let mapped = |address| match address {
                IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                IpAddr::V6(_) => address,
            };
            lookup::addresses(node, Family::V4).map_err(code)?.into_iter().map(mapped).collect()
        }
        other => other.map_err(code)?,
    };
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// An address written in digits, with the number of its zone if it has one (`fe80::1%2`).
fn numeric(node: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    format!("[{node}]:{port}").parse::<SocketAddrV6>().ok().map(SocketAddr::V6)
}

/// What an absent host name means: every address for a listener (`AI_PASSIVE`), this machine else.
fn own_addresses(family: Family, port: u16, flags: c_int) -> Vec<SocketAddr> {
    let (v4, v6) = if flags & libc::AI_PASSIVE == 0 {
        (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    } else {
        (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
    };
    let v4 = (family != Family::V6).then_some(SocketAddr::new(v4.into(), port));
    let v6 = (family != Family::V4).then_some(SocketAddr::new(v6.into(), port));
    v6.into_iter().chain(v4).collect()
}

/// The C list: each address once for every socket type asked for, the name on the first entry alone.
fn list(found: &[SocketAddr], hints: Hints, node: Option<&str>) -> *mut addrinfo {
    let every = [
        (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::SOCK_RAW, hints.protocol),
    ];
    let one = [(hints.kind, hints.protocol)];
    let kinds: &[(c_int, c_int)] = if hints.kind == 0 { &every } else { &one };
    let mut head = ptr::null_mut();
    for address in found.iter().rev() {
        for (kind, protocol) in kinds.iter().rev() {
            head = entry(*address, *kind, *protocol, head);
        }
    }
    let wanted = node.filter(|_| hints.flags & libc::AI_CANONNAME != 0).and_then(|node| CString::new(node).ok());
    if let Some(name) = wanted
        && !head.is_null()
    {
        // SAFETY: `head` was just made by `entry` and nobody else has it yet.
        unsafe { (*head).ai_canonname = name.into_raw() };
    }
    head
}

fn entry(address: SocketAddr, kind: c_int, protocol: c_int, next: *mut addrinfo) -> *mut addrinfo {
    let (family, bytes, address) = match address {
        SocketAddr::V4(v4) => (libc::AF_INET, size_of::<sockaddr_in>(), Address { v4: from_v4(v4) }),
        SocketAddr::V6(v6) => (libc::AF_INET6, size_of::<sockaddr_in6>(), Address { v6: from_v6(v6) }),
    };
    let info = addrinfo {
        ai_flags: 0,
        ai_family: family,
        ai_socktype: kind,
        ai_protocol: protocol,
        ai_addrlen: bytes as libc::socklen_t,
        ai_addr: ptr::null_mut(),
        ai_canonname: ptr::null_mut(),
        ai_next: next,
    };
    let node = Box::into_raw(Box::new(Node { info, address }));
    // SAFETY: the node was just made and is ours; its address field stays where it is until `freeaddrinfo`.
    unsafe { (*node).info.ai_addr = (&raw mut (*node).address).cast() };
    node.cast()
}

fn from_v4(address: SocketAddrV4) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn from_v6(address: SocketAddrV6) -> sockaddr_in6 {
    sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs;

    use super::*;

    const ANY: Hints = Hints { flags: 0, family: libc::AF_UNSPEC, kind: libc::SOCK_STREAM, protocol: 0 };

    /// Calls the C function and gives back what is in the list: family, socket type, and whether it carries a name.
    fn call(node: &str, hints: Hints) -> Result<Vec<(c_int, c_int, bool)>, c_int> {
        let node = CString::new(node).unwrap();
        // SAFETY: all zeros is a valid addrinfo.
        let mut wanted: addrinfo = unsafe { std::mem::zeroed() };
        wanted.ai_flags = hints.flags;
        wanted.ai_family = hints.family;
        wanted.ai_socktype = hints.kind;
        let mut list = ptr::null_mut();
        // SAFETY: valid pointers as POSIX demands; the list is walked before it is freed.
        unsafe {
            let code = getaddrinfo(node.as_ptr(), c"80".as_ptr(), &raw const wanted, &raw mut list);
            if code != 0 {
                return Err(code);
            }
            let mut out = Vec::new();
            let mut next = list;
            while let Some(info) = next.as_ref() {
                assert_eq!(c_int::from((*info.ai_addr).sa_family), info.ai_family);
                out.push((info.ai_family, info.ai_socktype, !info.ai_canonname.is_null()));
                next = info.ai_next;
            }
            freeaddrinfo(list);
            Ok(out)
        }
    }

    #[test]
    fn the_standard_library_resolves_through_this_file() {
        let found: Vec<SocketAddr> = "localhost:8080".to_socket_addrs().unwrap().collect();
        assert!(found.contains(&"127.0.0.1:8080".parse().unwrap()));
        assert!("nobody.invalid:80".to_socket_addrs().is_err());
        let numeric: Vec<SocketAddr> = ("::1", 9).to_socket_addrs().unwrap().collect();
        assert_eq!(numeric, ["[::1]:9".parse().unwrap()]);
    }

    #[test]
    fn numeric_hosts_keep_to_the_family_asked_for() {
        let v6 = Hints { family: libc::AF_INET6, ..ANY };
        assert_eq!(call("192.0.2.1", v6), Err(libc::EAI_NONAME));
        assert_eq!(
            call("192.0.2.1", Hints { flags: libc::AI_V4MAPPED, ..v6 }),
            Ok(vec![(libc::AF_INET6, libc::SOCK_STREAM, false)])
        );
        assert_eq!(call("fe80::1%2", v6), Ok(vec![(libc::AF_INET6, libc::SOCK_STREAM, false)]));
        assert_eq!(resolve(Some("fe80::1%2"), None, v6).unwrap()[0].to_string(), "[fe80::1%2]:0");
    }

    #[test]
    fn without_a_socket_type_each_address_comes_once_for_every_type() {
        let found = call("192.0.2.1", Hints { kind: 0, flags: libc::AI_CANONNAME, ..ANY }).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found.iter().filter(|entry| entry.2).count(), 1, "the name stands on the first entry alone");
    }

    #[test]
    fn unknown_names_services_and_families_have_their_own_codes() {
        assert_eq!(call("nobody.invalid", ANY), Err(libc::EAI_NONAME));
        assert_eq!(call("localhost", Hints { flags: libc::AI_NUMERICHOST, ..ANY }), Err(libc::EAI_NONAME));
        assert_eq!(call("localhost", Hints { family: libc::AF_UNIX, ..ANY }), Err(libc::EAI_FAMILY));
        assert_eq!(resolve(Some("::1"), Some("gopher"), ANY), Err(libc::EAI_SERVICE));
        assert_eq!(resolve(Some("::1"), Some("https"), ANY).unwrap()[0].port(), 443);
    }

    #[test]
    fn an_absent_host_is_this_machine_or_every_address() {
        let loopback = resolve(None, Some("80"), ANY).unwrap();
        assert!(loopback.iter().all(|address| address.ip().is_loopback()));
        let passive = resolve(None, Some("80"), Hints { flags: libc::AI_PASSIVE, ..ANY }).unwrap();
        assert!(passive.iter().all(|address| address.ip().is_unspecified()));
        assert_eq!(resolve(None, None, ANY), Err(libc::EAI_NONAME));
    }
}
