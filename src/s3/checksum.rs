//! The additional checksums of S3 (`x-amz-checksum-*`).
//!
//! Source: S3 user guide, "Checking object integrity". Values are base64 of the big-endian checksum.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32C,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Every algorithm with its name as S3 writes it, its header (also a trailer), and its element in XML.
const TABLE: [(Algorithm, &str, &str, &str); 5] = [
    (Algorithm::Crc32, "CRC32", "x-amz-checksum-crc32", "ChecksumCRC32"),
    (Algorithm::Crc32C, "CRC32C", "x-amz-checksum-crc32c", "ChecksumCRC32C"),
    (Algorithm::Crc64Nvme, "CRC64NVME", "x-amz-checksum-crc64nvme", "ChecksumCRC64NVME"),
    (Algorithm::Sha1, "SHA1", "x-amz-checksum-sha1", "ChecksumSHA1"),
    (Algorithm::Sha256, "SHA256", "x-amz-checksum-sha256", "ChecksumSHA256"),
];

impl Algorithm {
    /// Every algorithm.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The algorithm S3 calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// The algorithm whose header or trailer is `name`, in lower case.
    pub fn of_header(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Its name as S3 writes it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its header or trailer, in lower case.
    pub fn header(self) -> &'static str {
        self.row().2
    }

    /// Its element in XML.
    pub fn element(self) -> &'static str {
        self.row().3
    }

    /// Bytes in a value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32C => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Starts a checksum.
    pub fn start(self) -> Running {
        match self {
            Self::Crc32 => Running::Crc32(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            Self::Crc32C => Running::Crc32(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            Self::Crc64Nvme => Running::Crc64(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            Self::Sha1 => Running::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Self::Sha256 => Running::Sha(digest::Context::new(&digest::SHA256)),
        }
    }

    /// The value of no bytes at all.
    pub fn of_nothing(self) -> String {
        self.start().finish()
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

/// A checksum under way.
#[derive(Clone)]
pub enum Running {
    /// 32 bits.
    Crc32(crc_fast::Digest),
    /// 64 bits.
    Crc64(crc_fast::Digest),
    /// A hash.
    Sha(digest::Context),
}

impl Running {
    /// Takes in the next `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(crc) | Self::Crc64(crc) => crc.update(bytes),
            Self::Sha(hash) => hash.update(bytes),
        }
    }

    /// The value as S3 writes it.
    pub fn finish(self) -> String {
        match self {
            Self::Crc32(crc) => STANDARD.encode((crc.finalize() as u32).to_be_bytes()),
            Self::Crc64(crc) => STANDARD.encode(crc.finalize().to_be_bytes()),
            Self::Sha(hash) => STANDARD.encode(hash.finish()),
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_catalogue_hold() {
        for (name, hex) in [
            ("CRC32", "cbf43926"),
            ("CRC32C", "e3069283"),
            ("CRC64NVME", "ae8b14860a799888"),
            ("SHA1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            ("SHA256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let mut running = Algorithm::named(name).unwrap().start();
            running.update(b"12345");
            running.update(b"6789");
            let value = STANDARD.decode(running.finish()).unwrap();
            assert_eq!(crate::base::ids::hex(&value), hex, "{name}");
        }
    }

    #[test]
    fn the_crc32_of_nothing_is_what_presigners_put_into_the_query() {
        assert_eq!(Algorithm::Crc32.of_nothing(), "AAAAAA==");
    }

    #[test]
    fn headers_name_their_algorithm() {
        for algorithm in Algorithm::all() {
            assert_eq!(Algorithm::of_header(algorithm.header()), Some(algorithm));
            assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
        }
    }
}
