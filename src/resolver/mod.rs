//! Name resolution that needs nothing of the host's C library.
//!
//! A statically linked glibc program that calls `getaddrinfo` loads the host's NSS modules and with them a second C
//! library; on hosts newer than the build machine that crashes (measured 2026-11-20: glibc 2.36 binary, glibc 2.43
//! host, `libnss_myhostname`). Every resolver in the process ends in `getaddrinfo`: the standard library, tokio, hyper.
//! So this room defines `getaddrinfo` and `freeaddrinfo` itself, the linker never pulls glibc's, and all of them work
//! unchanged: numeric addresses, then `localhost`, then the hosts file, then the DNS servers of `resolv.conf`.
//!
//! Promises: no lookup takes longer than [`lookup::LIMIT`]; a missing hosts file or `resolv.conf` is no error, only a
//! name that is not found; changes of both files are seen by the next lookup.
//!
//! Start reading at [`lookup`]; [`ffi`] is its C face and the only file with unsafe code here.

pub mod ffi;
pub mod lookup;
