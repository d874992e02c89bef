//! One order, from asking for it to the certificate (RFC 8555 section 7.1).
//!
//! The order's address and the new private key are kept before anything is asked to be proven, so that a process killed
//! anywhere goes on with the order it had, or leaves one that the authority lets expire.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::challenges::{Answering, Challenges};
use super::dns::{Entry, Standing};
use super::failure::Failure;
use super::rows::{self, Issued, NameRow, OrderRow};
use super::x509::{self, Certificate};
use crate::edge::World;
use crate::store::Store;

/// How often an order is gone on with, or an account asked for again, after a nonce was refused, beyond what each call
/// does itself.
pub const NONCE_ROUNDS: u32 = 6;
/// How long the authority may take to look, and to sign.
const POLLING: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));

/// How a name is proven, and what that takes.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// By a file under `/.well-known/acme-challenge/` (RFC 8555 section 8.3).
    Http(&'a Arc<Challenges>),
    /// By a certificate with the answer in it (RFC 8737).
    TlsAlpn(&'a Arc<Challenges>),
    /// By a record in the DNS (RFC 8555 section 8.4).
    Dns(&'a Arc<Entry>, &'a World),
}

/// An answer that is up until this is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what they do when they are dropped")]
enum Up {
    Here(Answering),
    Dns(Box<Standing>),
}

/// What is ordered.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The name.
    pub name: &'a str,
    /// The authority's address.
    pub directory: &'a str,
    /// The kind of certificate; empty for the authority's choice.
    pub profile: &'a str,
    /// How to prove the name.
    pub proof: Way<'a>,
    /// The certificate this one follows, at the same authority.
    pub replaces: Option<&'a Issued>,
}

/// Gets a certificate. `order` is the order to go on with, and is set to the one begun; `keep` makes it durable.
///
/// # Errors
/// [`Failure`]; `order` is `None` then when going on with it makes no sense.
///
/// # Cancel safety
/// Dropped before its end, what `keep` was given last can be gone on with.
pub async fn obtain(
    account: &Account,
    wanted: Wanted<'_>,
    order: &mut Option<OrderRow>,
    keep: &Keep<'_>,
) -> Result<Certified, Failure> {
    let mut rounds = 0;
    loop {
        let tried = round(account, wanted, order, keep).await;
        match tried {
            Err(failure) if failure.is("badNonce") && rounds < NONCE_ROUNDS => rounds += 1,
            tried => return tried,
        }
    }
}

/// Makes an order durable as part of its name's row.
#[derive(Debug)]
pub struct Keep<'a> {
    /// Where to.
    pub store: &'a Store,
    /// The rest of the row.
    pub row: NameRow,
}

impl Keep<'_> {
    async fn order(&self, name: &str, order: &OrderRow) -> Result<(), Failure> {
        let row = NameRow { order: Some(order.clone()), ..self.row.clone() };
        let kept = rows::put_name(self.store, name, &row, None).await;
        kept.map_err(|error| Failure::told(format!("the order cannot be kept: {error}")))
    }
}

/// A certificate as it came, checked.
#[derive(Debug)]
pub struct Certified {
    /// For the store; the times of renewal are still to be set.
    pub issued: Issued,
    /// For handshakes.
    pub certificate: Certificate,
}

async fn round(
    account: &Account,
    wanted: Wanted<'_>,
    kept: &mut Option<OrderRow>,
    keep: &Keep<'_>,
) -> Result<Certified, Failure> {
    let mut order = if let Some(order) = resumed(account, wanted.directory, kept).await? {
        order
    } else {
        let key = KeyPair::generate().map_err(|error| Failure::told(error.to_string()))?;
        let order = begin(account, wanted).await?;
        let row =
            OrderRow { directory: wanted.directory.to_owned(), url: order.url().to_owned(), key: key.serialize_der() };
        keep.order(wanted.name, &row).await?;
        *kept = Some(row);
        order
    };
    let Some(row) = kept.clone() else { return Err(Failure::told("the order was lost")) };
    let done = fulfil(&mut order, wanted, &row).await;
    if let Err(failure) = &done
        && !failure.is("badNonce")
        && order.state().status == OrderStatus::Invalid
    {
        *kept = None;
    }
    done
}

/// The order under way, when it still can lead to a certificate.
async fn resumed(account: &Account, directory: &str, kept: &mut Option<OrderRow>) -> Result<Option<Order>, Failure> {
    let Some(row) = kept.as_ref().filter(|row| row.directory == directory) else {
        *kept = None;
        return Ok(None);
    };
    match account.order(row.url.clone()).await {
        Ok(mut order) => {
            let alive = order.state().status != OrderStatus::Invalid;
            if !alive {
                *kept = None;
            }
            Ok(alive.then_some(order))
        }
        // Expired or forgotten.
        Err(Error::Api(problem)) => {
            let failure = Failure::of(&problem);
            if failure.is("badNonce") || failure.is("rateLimited") || failure.is("serverInternal") {
                return Err(failure);
            }
            *kept = None;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn begin(account: &Account, wanted: Wanted<'_>) -> Result<Order, Failure> {
    let names = [Identifier::Dns(wanted.name.to_owned())];
    let plain = || {
        let order = NewOrder::new(&names);
        if wanted.profile.is_empty() { order } else { order.profile(wanted.profile) }
    };
    let leaf = wanted.replaces.and_then(|issued| issued.certificates().into_iter().next());
    let id = leaf.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
    if let Some(id) = id {
        match account.new_order(&plain().replaces(id)).await {
            // RFC 9773 section 5: told so when it does not know the old one, or another order replaced it already.
            Err(Error::Unsupported(_)) => {}
            Err(Error::Api(problem)) if !is_about_limits(&problem) => {}
            // Or does not repeat it, as it should: its renewals would fail until the end.
            Err(Error::Other(error)) if is_unrepeated(&error.to_string()) => {}
            answer => return Ok(answer?),
        }
    }
    Ok(account.new_order(&plain()).await?)
}

/// Whether the authority took the order and left out of its answer what that replaces; instant-acme tells so in words only.
fn is_unrepeated(error: &str) -> bool {
    error.starts_with("replaces field")
}

fn is_about_limits(problem: &instant_acme::Problem) -> bool {
    let failure = Failure::of(problem);
    failure.is("rateLimited") || failure.is("badNonce")
}

async fn fulfil(order: &mut Order, wanted: Wanted<'_>, row: &OrderRow) -> Result<Certified, Failure> {
    if order.state().status == OrderStatus::Pending {
        let _answering = answer(order, wanted).await?;
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(why(order).await.unwrap_or_else(|| Failure::told("the authority refused the order"))),
            Err(Error::Api(problem)) => {
                let failure = Failure::of(&problem);
                let nonce = failure.is("badNonce");
                return Err(if nonce { failure } else { why(order).await.unwrap_or(failure) });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let der = PrivatePkcs8KeyDer::from(row.key.as_slice());
    if order.state().status == OrderStatus::Ready {
        order.finalize_csr(&request(wanted.name, &der)?).await?;
    }
    let pem = order.poll_certificate(&POLLING).await?;
    let chain = x509::chain_of(pem.as_bytes())?;
    let certificate = Certificate::new(chain.clone(), &PrivateKeyDer::Pkcs8(der))?;
    if !certificate.covers(wanted.name) {
        return Err(Failure::told(format!("the authority's certificate is not for {}", wanted.name)));
    }
    let issued = Issued {
        directory: wanted.directory.to_owned(),
        chain: chain.iter().map(|one| one.to_vec()).collect(),
        key: row.key.clone(),
        not_before_ms: certificate.not_before_ms,
        not_after_ms: certificate.not_after_ms,
        renew_at_ms: 0,
        ask_at_ms: 0,
    };
    Ok(Certified { issued, certificate })
}

/// Puts up the answers and tells the authority to look. They stay up until the returned values are dropped.
async fn answer(order: &mut Order, wanted: Wanted<'_>) -> Result<Vec<Up>, Failure> {
    let (kind, label) = match wanted.proof {
        Way::Http(_) => (ChallengeType::Http01, "http-01"),
        Way::TlsAlpn(_) => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        Way::Dns(..) => (ChallengeType::Dns01, "dns-01"),
    };
    let mut up = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(Failure::told(format!("the authorization is {status:?}").to_lowercase())),
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(Failure::told(format!("the authority offers no {label} for this name")));
        };
        let authorized = challenge.key_authorization();
        up.push(match wanted.proof {
            Way::Http(challenges) => Up::Here(challenges.answer_file(&challenge.token, authorized.as_str())),
            Way::TlsAlpn(challenges) => Up::Here(challenges.answer_tls(wanted.name, authorized.digest().as_ref())?),
            Way::Dns(entry, world) => {
                Up::Dns(Box::new(entry.present(wanted.name, &authorized.dns_value(), world).await?))
            }
        });
        challenge.set_ready().await?;
    }
    Ok(up)
}

/// What the authority says about the challenge that failed.
async fn why(order: &mut Order) -> Option<Failure> {
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next.ok()?;
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(Failure::of(problem));
        }
    }
    None
}

/// The signing request (RFC 2986) for `name`, in DER.
fn request(name: &str, key: &PrivatePkcs8KeyDer<'_>) -> Result<Vec<u8>, Failure> {
    let failed = |error: rcgen::Error| Failure::told(format!("cannot make the signing request: {error}"));
    let key = KeyPair::try_from(key).map_err(failed)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key).map_err(failed)?.der().to_vec())
}
