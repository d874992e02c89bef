//! Certificates in files, made by somebody else.

use std::path::Path;

use super::config::CertificateConfig;
use super::failure::Failure;
use super::x509::Certificate;
use crate::base::{Disk, disk};

/// Largest file read.
const LARGEST: u64 = 1 << 20;

/// One pair of files as it was read last.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What both files held, hashed.
    seen: Option<[u8; 32]>,
    /// The newest certificate that was whole; stays when the files no longer are.
    pub certificate: Option<Certificate>,
    /// Why the files as they are now cannot be used; empty when they can.
    pub error: String,
}

impl Loaded {
    /// Reads the files again; true when something changed. Blocks.
    pub fn look(&mut self, config: &CertificateConfig, disk: &dyn Disk) -> bool {
        let read = |path: &str| -> Result<Vec<u8>, Failure> {
            let failed = |what: String| Failure::told(format!("{path}: {what}"));
            match disk::read_file(disk, Path::new(path), LARGEST) {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err(failed("there is no such file".to_owned())),
                Err(error) => Err(failed(error.to_string())),
            }
        };
        let both = read(&config.certificate).and_then(|chain| Ok((chain, zeroize::Zeroizing::new(read(&config.key)?))));
        let (chain, key) = match both {
            Ok(both) => both,
            Err(failure) => {
                self.seen = None;
                return self.failed(failure.text);
            }
        };
        let mut hash = blake3::Hasher::new();
        hash.update(&(chain.len() as u64).to_le_bytes()).update(&chain).update(&key);
        let hash = *hash.finalize().as_bytes();
        if self.seen == Some(hash) {
            return false;
        }
        self.seen = Some(hash);
        match Certificate::from_pem(&chain, &key) {
            Ok(certificate) => {
                self.certificate = Some(certificate);
                self.error.clear();
                true
            }
            // Seen half-way through a renewal: the certificate is new already, the key is not. The next look sees both.
            Err(failure) => self.failed(format!("{}: {failure}", config.certificate)),
        }
    }

    fn failed(&mut self, error: String) -> bool {
        let changed = self.error != error;
        self.error = error;
        changed
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::base::LocalDisk;

    #[test]
    fn broken_files_leave_the_certificate_that_worked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let config = CertificateConfig { certificate: path("chain.pem"), key: path("key.pem") };
        let write =
            |name: &str, text: &str| disk::replace_file(&LocalDisk, Path::new(&path(name)), text.as_bytes()).unwrap();
        let mut loaded = Loaded::default();
        assert!(loaded.look(&config, &LocalDisk));
        assert!(loaded.error.contains("no such file") && loaded.certificate.is_none());

        let make = || {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let (first, second) = (make(), make());
        write("chain.pem", &first.0);
        write("key.pem", &first.1);
        assert!(loaded.look(&config, &LocalDisk));
        assert!(!loaded.look(&config, &LocalDisk));
        let used = |loaded: &Loaded| loaded.certificate.as_ref().unwrap().key.cert[0].clone();
        let before = used(&loaded);

        write("chain.pem", &second.0);
        assert!(loaded.look(&config, &LocalDisk));
        assert!(loaded.error.contains("does not belong"));
        assert_eq!(used(&loaded), before);
        write("key.pem", &second.1);
        assert!(loaded.look(&config, &LocalDisk));
        assert!(loaded.error.is_empty());
        assert_ne!(used(&loaded), before);
        LocalDisk.remove_file(Path::new(&path("key.pem"))).unwrap();
        assert!(loaded.look(&config, &LocalDisk));
        assert!(loaded.certificate.is_some());
    }
}
