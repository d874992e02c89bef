//! What a load balancer says of a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::edge::fuzz::proxy_protocol(bytes));
