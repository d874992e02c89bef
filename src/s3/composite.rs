//! A multipart object's checksum, from those of its parts.
//!
//! Source: S3 user guide, "Checking object integrity": a *composite* checksum is that of the parts' checksums in a row,
//! with their number behind it; a *full object* one is that of the bytes, which for CRCs follows from the parts'.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};

use super::checksum::Algorithm;
use crate::objects::Checksum;

/// A part's checksum and length.
#[derive(Clone, Copy, Debug)]
pub struct PartSum<'a> {
    /// The checksum stored with it.
    pub checksum: Option<&'a Checksum>,
    /// Its bytes.
    pub bytes: u64,
}

/// Joins the checksums of all parts; `None` when a part has none, or another algorithm's. CRC64NVME is always one of the
/// full object; hashes are always composite.
pub fn join(parts: &[PartSum<'_>], whole: bool) -> Option<Checksum> {
    let algorithm = Algorithm::named(&parts.first()?.checksum?.algorithm)?;
    let values: Vec<(Vec<u8>, u64)> = parts
        .iter()
        .map(|part| {
            let checksum = part.checksum.filter(|checksum| checksum.algorithm == algorithm.name())?;
            let value = STANDARD.decode(&checksum.value).ok()?;
            (value.len() == algorithm.bytes()).then_some((value, part.bytes))
        })
        .collect::<Option<_>>()?;
    let crc = match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32C => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    };
    let value = match crc {
        Some(crc) if whole || algorithm == Algorithm::Crc64Nvme => full_object(algorithm, crc, &values),
        _ => {
            let mut sum = algorithm.start();
            for (value, _) in &values {
                sum.update(value);
            }
            format!("{}-{}", sum.finish(), values.len())
        }
    };
    Some(Checksum { algorithm: algorithm.name().to_owned(), value })
}

fn full_object(algorithm: Algorithm, crc: CrcAlgorithm, parts: &[(Vec<u8>, u64)]) -> String {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let joined = parts
        .iter()
        .map(|(value, bytes)| (number(value), *bytes))
        .reduce(|(so_far, before), (next, bytes)| {
            (checksum_combine(crc, so_far, next, bytes), before.saturating_add(bytes))
        })
        .map_or(0, |(value, _)| value);
    let bytes = joined.to_be_bytes();
    STANDARD.encode(bytes.get(bytes.len().saturating_sub(algorithm.bytes())..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut running = algorithm.start();
        running.update(bytes);
        Checksum { algorithm: algorithm.name().to_owned(), value: running.finish() }
    }

    #[test]
    fn the_crc_of_the_whole_follows_from_its_parts() {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32C, Algorithm::Crc64Nvme] {
            let parts = [sum(algorithm, b"first, "), sum(algorithm, b""), sum(algorithm, b"second")];
            let sums = [(&parts[0], 7), (&parts[1], 0), (&parts[2], 6)];
            let sums = sums.map(|(checksum, bytes)| PartSum { checksum: Some(checksum), bytes });
            assert_eq!(join(&sums, true), Some(sum(algorithm, b"first, second")));
        }
    }

    #[test]
    fn a_composite_checksum_is_that_of_the_checksums() {
        let parts = [sum(Algorithm::Sha256, b"a"), sum(Algorithm::Sha256, b"b")];
        let joined: Vec<u8> = parts.iter().flat_map(|part| STANDARD.decode(&part.value).unwrap()).collect();
        let sums = [0, 1].map(|at: usize| PartSum { checksum: Some(&parts[at]), bytes: 1 });
        let expected = format!("{}-2", sum(Algorithm::Sha256, &joined).value);
        assert_eq!(join(&sums, true).unwrap().value, expected);
    }

    #[test]
    fn a_part_without_a_checksum_leaves_the_object_without_one() {
        let one = sum(Algorithm::Crc32, b"a");
        let sums = [PartSum { checksum: Some(&one), bytes: 1 }, PartSum { checksum: None, bytes: 1 }];
        assert_eq!(join(&sums, false), None);
    }
}
