//! Exports for the fuzzer.

use std::sync::Arc;

use super::write::Out;
use super::{Exports, PIECE_MAX};
use crate::base::{Disk, OpenMode, SystemRandom, Timestamp};

/// Bytes of a piece that is made of the fuzzer's.
const PIECE: usize = 700;

/// Opens `bytes` as an export, on `disk`. Then seals them as the pieces of one, changes the byte that the first four name, and
/// reads that: a piece that comes out is the one that was written in its place. The first piece has the bytes as what is
/// sealed, so that what stands behind a seal that holds is foreign too.
pub(in crate::objects) fn changed(disk: &Arc<dyn Disk>, bytes: &[u8]) {
    let keyring = Arc::new(crate::objects::fuzz::keyring(disk));
    let opened = Exports::open(Arc::clone(disk), "/data/index".into(), keyring, Arc::new(SystemRandom));
    let Ok(exports) = opened else { return };
    let path = exports.path(1);
    let export = super::Export { number: 1, path: path.clone(), bytes: 0 };
    if let Ok(file) = disk.open(&path, OpenMode::OpenOrCreate)
        && file.write_at(0, bytes).is_ok()
    {
        assert!(exports.read(&export).is_err(), "what nobody sealed is an export");
    }

    let Some((place, rest)) = bytes.split_first_chunk::<4>() else { return };
    let (mask, plain) = rest.split_at(rest.len().min(1));
    let pieces: Vec<&[u8]> = plain.chunks(PIECE).collect();
    let written = || {
        let file = disk.open(&path, OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        let (head, start) = exports.head(1, Timestamp(6));
        let mut out = Out::new(file, head, &start)?;
        out.frame(plain.to_vec(), pieces.is_empty())?;
        for (at, piece) in pieces.iter().enumerate() {
            out.piece(piece, at + 1 == pieces.len())?;
        }
        Ok::<_, std::io::Error>(out.len())
    };
    let Ok(len) = written() else { return };
    let place = u64::from(u32::from_be_bytes(*place)) % len;
    let mask = mask.first().copied().unwrap_or_default();
    let flipped = || {
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        let byte: Vec<u8> = file.read_vec(place, 1)?.iter().map(|byte| byte ^ mask).collect();
        file.write_at(place, &byte)
    };
    if flipped().is_err() {
        return;
    }
    let Ok(mut reader) = exports.read(&export) else { return };
    let mut at = 0;
    while let Some(piece) = reader.next_piece() {
        match (piece, at) {
            (None, _) => {}
            (Some(piece), 0) => assert!(piece.len() <= PIECE_MAX),
            (Some(piece), at) => {
                assert_eq!(Some(piece.as_slice()), pieces.get(at - 1).copied(), "changed at {place}, piece {at}");
            }
        }
        at += 1;
    }
}
