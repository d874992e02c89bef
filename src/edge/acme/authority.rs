//! One authority: how it is called, and the one account there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, CertificateIdentifier, ExternalAccountKey, NewAccount};
use tokio::sync::Mutex as AsyncMutex;

use super::config::AuthorityConfig;
use super::failure::Failure;
use super::order::NONCE_ROUNDS;
use super::rows::{self, AccountRow, Issued};
use super::transport::Transport;
use super::x509;
use crate::base::{Disk, Secret, Timestamp, disk};
use crate::edge::error::EdgeError;
use crate::http::client::Client;
use crate::store::Store;

/// Longest call, and the largest answer taken.
const CALL: Duration = Duration::from_secs(30);
const LARGEST_ANSWER: usize = 1 << 20;
/// Largest file of settings read.
const LARGEST_FILE: u64 = 1 << 20;

/// An authority of the settings.
#[derive(Debug)]
pub struct Authority {
    directory: String,
    profile: String,
    contact: Option<String>,
    binding: Option<(String, Secret<Vec<u8>>)>,
    client: Client,
}

impl Authority {
    /// Reads the files `config` names.
    ///
    /// # Errors
    /// [`EdgeError::Authority`].
    pub async fn open(config: &AuthorityConfig, email: &str, disk: &Arc<dyn Disk>) -> Result<Self, EdgeError> {
        let (config, disk, email) = (config.clone(), Arc::clone(disk), email.to_owned());
        let opened = tokio::task::spawn_blocking(move || Self::read(&config, &email, disk.as_ref())).await;
        opened.unwrap_or_else(|error| Err(error.to_string())).map_err(EdgeError::Authority)
    }

    fn read(config: &AuthorityConfig, email: &str, disk: &dyn Disk) -> Result<Self, String> {
        let file = |path: &str| match disk::read_file(disk, Path::new(path), LARGEST_FILE) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(format!("{path}: there is no such file")),
            Err(error) => Err(format!("{path}: {error}")),
        };
        let trusted = if config.trust_file.is_empty() {
            Vec::new()
        } else {
            x509::chain_of(&file(&config.trust_file)?).map_err(|error| format!("{}: {error}", config.trust_file))?
        };
        let binding = if config.eab_key_file.is_empty() {
            None
        } else {
            let bytes = zeroize::Zeroizing::new(file(&config.eab_key_file)?);
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
            let key = BASE64_URL_SAFE_NO_PAD.decode(line.strip_suffix(b"=").unwrap_or(line));
            let key = key.map_err(|_secret| format!("{}: its first line is no base64url", config.eab_key_file))?;
            Some((config.eab_key_id.clone(), Secret::new(key)))
        };
        Ok(Self {
            directory: config.directory.clone(),
            profile: config.profile.clone(),
            contact: (!email.is_empty()).then(|| format!("mailto:{email}")),
            binding,
            client: Client::trusting(CALL, LARGEST_ANSWER, trusted).map_err(|error| error.to_string())?,
        })
    }

    /// The address of its directory, which is its name here.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The kind of certificate wanted; empty for its choice.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// Calls for one attempt.
    pub fn transport(&self, now: Timestamp) -> Transport {
        Transport::new(self.client.clone(), now)
    }

    /// The account there, made now when there is none. `lock` is held meanwhile: an authority limits how many accounts
    /// one address makes.
    ///
    /// # Errors
    /// [`Failure`].
    ///
    /// # Cancel safety
    /// Dropped before its end, an account may have been made that is used by nobody.
    pub async fn account(
        &self,
        store: &Store,
        transport: &Transport,
        lock: &AsyncMutex<()>,
    ) -> Result<Account, Failure> {
        let _one_at_a_time = lock.lock().await;
        let stored = |error: crate::store::StoreError| Failure::told(format!("the account cannot be kept: {error}"));
        let builder = || Account::builder_with_http(Box::new(transport.clone()));
        if let Some(row) = rows::account(store, &self.directory).await.map_err(stored)? {
            let credentials: AccountCredentials = serde_json::from_str(&row.credentials)
                .map_err(|_secret| Failure::told("the account kept for this authority cannot be read"))?;
            return Ok(builder().from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = self.contact.as_deref().into_iter().collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let key = self.binding.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key.expose()));
        let mut rounds = 0;
        let (account, credentials) = loop {
            let made = builder().create(&wanted, self.directory.clone(), key.as_ref()).await;
            match made.map_err(Failure::from) {
                Err(failure) if failure.is("badNonce") && rounds < NONCE_ROUNDS => rounds += 1,
                made => break made?,
            }
        };
        let credentials =
            serde_json::to_string(&credentials).map_err(|_secret| Failure::told("the account cannot be written"))?;
        rows::put_account(store, &self.directory, Some(&AccountRow { credentials })).await.map_err(stored)?;
        tracing::info!(authority = self.directory, "made an account at a certificate authority");
        Ok(account)
    }

    /// When it wants `issued` to be renewed (start and end in milliseconds), and how long that answer holds.
    ///
    /// # Errors
    /// [`Failure`]: it has no opinion, or gave none.
    pub async fn renewal_window(&self, account: &Account, issued: &Issued) -> Result<((u64, u64), Duration), Failure> {
        let chain = issued.certificates();
        let leaf = chain.first().ok_or_else(|| Failure::told("there is no certificate"))?;
        let id = CertificateIdentifier::try_from(leaf).map_err(Failure::told)?;
        let (info, wait) = account.renewal_info(&id).await?;
        let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
        let window = info.suggested_window;
        Ok(((millis(window.start.unix_timestamp()), millis(window.end.unix_timestamp())), wait))
    }
}
