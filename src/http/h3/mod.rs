//! HTTP/3 (RFC 9114) for one connection of QUIC, which `quinn` speaks.
//!
//! The frames, the compression of heads and the streams are read here, not by a library: what there is reads a frame whole
//! before it looks at its length, and takes a body that breaks off for one that is over. Bounds come first here: a head is
//! refused by its announced length, what is unknown is skipped as it comes, and a body ends only where its frame does and
//! its `Content-Length` says.
//!
//! QPACK (RFC 9204) without a dynamic table: none is offered, so a head can be read whatever was lost before it, there is
//! nothing to keep for a connection, and nothing to be blown up.
//!
//! Start reading at [`connection`] (one client), then `exchange.rs` (one request), `upload.rs` (its body), `head.rs` (fields and
//! requests), `qpack.rs` and `frames.rs` (bytes).

pub mod code;
pub mod connection;
mod control;
mod exchange;
pub mod frames;
pub mod head;
mod huffman;
pub mod qpack;
mod static_table;
mod upload;
