//! `mainstay import s3`: the objects of a bucket of another S3 server into a bucket of the running one.
//!
//! A client of both ([`service`]): it lists the source page by page ([`answers`]), reads each object with its ETag held fast
//! and writes it through the server's own S3 door ([`transfer`], [`parts`]), digested on the way ([`feed`]), so that
//! everything passes the checks and limits every client passes. [`state`] says how far it is, and [`notes`](super::notes) keeps
//! what was copied; [`passes`] goes through the keys until nothing changes any more.

mod address;
mod answers;
pub(in crate::cli) mod arguments;
mod feed;
mod parts;
mod passes;
mod service;
mod show;
mod state;
mod transfer;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use http::Method;

use self::address::{Address, Credentials, Style};
use self::arguments::S3Import;
use self::passes::{Copier, Policy, Wanted};
use self::service::{Ask, Kind, Service, Side};
use self::show::Done;
use self::state::{Notes, State, Totals};
use self::transfer::{Transfer, list};
use super::STALE;
use super::notes::VERSION;
use super::show::Bar;
use super::wire::authorities;
use crate::app::control;
use crate::base::ids::hex;
use crate::base::{Clock, Disk as _, LocalDisk, Secret, SystemClock, SystemRandom, random};
use crate::cli::say;
use crate::cli::settings::Shell;
use crate::http::client::tls;
use crate::objects::BucketName;

/// Runs `mainstay import s3`.
pub(in crate::cli) fn run(shell: &Shell, wanted: &S3Import) -> anyhow::Result<()> {
    let style = if wanted.virtual_host { Style::VirtualHost } else { Style::Path };
    let address = Address::parse(&wanted.source, style)?;
    let into = wanted.into.as_ref().unwrap_or(&address.bucket);
    let into: BucketName = into.parse().with_context(|| format!("{into} is no name for a bucket here; see --into"))?;
    let credentials = Credentials::find(wanted.credentials_file.as_deref(), &shell.environment)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let data = shell.existing_data();
    let lines = control::env(&data).context("the server that is imported into must be running")?;
    let target = target(&lines, &into, &clock)?;
    let roots = tls(authorities(wanted.ca_file.as_deref())?)?;
    let key = (credentials, wanted.region.as_str());
    let source = Service::new(Side::Source, &address, key, roots, Arc::clone(&clock))?;
    let transfer =
        Transfer { source, target, etags: !wanted.no_etag_check, mtime: wanted.mtime, meter: Arc::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(import(&transfer, wanted, (&address, &into), &data, &clock))
}

async fn import(
    transfer: &Transfer,
    wanted: &S3Import,
    (address, into): (&Address, &BucketName),
    data: &Path,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let policy = match (wanted.replace, wanted.skip) {
        (true, _) => Policy::Replace,
        (_, true) => Policy::Skip,
        _ => Policy::Refuse,
    };
    // What is wrong with the address or the key shows here, before anything is waited for or written.
    let versions = look(transfer).await?;
    let path = notes_path(data, address, into, &wanted.prefix)?;
    if wanted.fresh && LocalDisk.entry(&path)?.is_some() {
        LocalDisk.remove_file(&path)?;
    }
    let notes = Arc::new(Notes::open(&path)?);
    let state = if let Some(state) = notes.state::<State>()? {
        if clock.now().since(state.touched) > STALE {
            bail!("an import from here was left on {}; --fresh begins anew", state.touched);
        }
        // Nobody is told when this fails.
        let _ = writeln!(std::io::stderr(), "going on with the import of {}", state.started);
        State { touched: clock.now(), pass: state.pass.saturating_add(1), ..state }
    } else {
        let ready = prepare(transfer, into, policy, &wanted.prefix).await;
        ready.inspect_err(|_| drop(LocalDisk.remove_file(&path)))?;
        fresh(&**clock)
    };
    let bar = Bar::new(Arc::clone(clock), 0, "objects");
    let plan = Wanted {
        policy,
        prefix: wanted.prefix.clone(),
        delete: wanted.delete,
        tags: wanted.tags,
        parallel: usize::from(wanted.parallel),
    };
    let mut copier = Copier::new(transfer, (Arc::clone(&notes), state), plan, bar);
    if copier.state.pass > 1 {
        copier.tidy().await?;
    }
    let quiet = copier.run().await.context("interrupted; the same command goes on from here")?;
    let totals = Totals::of(&notes, copier.state.pass)?;
    let left = totals.left;
    let done = Done {
        source: address.to_string(),
        bucket: into.to_string(),
        state: &copier.state,
        passes: &copier.passes,
        totals,
        versions,
        quiet,
    };
    say(&if wanted.json { format!("{}\n", serde_json::to_string_pretty(&done.json())?) } else { done.text() })?;
    if !quiet {
        bail!(
            "the source is being written to, and what changed during the last pass may be missing; \
             stop what writes there and run the same command again: it copies only what has changed"
        );
    }
    if left > 0 {
        bail!("not everything could be imported; left out: {left}; the same command tries these again");
    }
    drop(copier);
    drop(notes);
    if wanted.forget {
        LocalDisk.remove_file(&path)?;
    }
    Ok(())
}

/// This server's bucket `into`, through its S3 door with the first access key, as the lines of `mainstay env` have them.
fn target(lines: &[(String, String)], into: &BucketName, clock: &Arc<dyn Clock>) -> anyhow::Result<Service> {
    let named = |wanted: &str| lines.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let none = "the server has no S3 door to import through (s3.listen)";
    let url = named("AWS_ENDPOINT_URL_S3").context(none)?;
    let (Some(id), Some(secret)) = (named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY")) else { bail!(none) };
    let address = Address::parse(&format!("{url}/{into}"), Style::Path)?;
    let region = named("AWS_REGION").unwrap_or_default();
    let key = (Credentials { id, secret: Secret::new(secret), token: None }, region.as_str());
    Service::new(Side::Target, &address, key, tls(Vec::new())?, Arc::clone(clock))
}

/// Asks the source for its first key; and whether it keeps versions, as far as it tells.
async fn look(transfer: &Transfer) -> anyhow::Result<bool> {
    let first = [("list-type", "2"), ("max-keys", "1")];
    transfer.source.document(Ask::new(Method::GET, "", &first), "ListBucketResult").await?;
    let kept = transfer.source.document(Ask::new(Method::GET, "", &[("versioning", "")]), "VersioningConfiguration");
    Ok(kept.await.is_ok_and(|document| document.word_of("Status").is_some_and(|status| !status.is_empty())))
}

/// Makes the bucket, or looks whether it may be imported into.
async fn prepare(transfer: &Transfer, into: &BucketName, policy: Policy, prefix: &str) -> anyhow::Result<()> {
    let target = &transfer.target;
    match target.ask(Ask::new(Method::HEAD, "", &[])).await {
        Ok(_) => {}
        Err(failure) if failure.kind == Kind::Missing => {
            target.ask(Ask::new(Method::PUT, "", &[])).await.with_context(|| format!("bucket {into}"))?;
            return Ok(());
        }
        Err(failure) => return Err(failure.into()),
    }
    if policy == Policy::Refuse && !list(target, prefix, None).await?.objects.is_empty() {
        bail!(
            "bucket {into} holds objects already: --replace overwrites those the source has too, --skip keeps them; \
             nothing was imported"
        );
    }
    Ok(())
}

fn fresh(clock: &dyn Clock) -> State {
    let (started, secret) = (clock.now(), random::bytes::<32>(&SystemRandom));
    State { version: VERSION, started, touched: started, secret, pass: 1, copied: 0, bytes: 0 }
}

/// The file of notes: one for each source, prefix and bucket.
fn notes_path(data: &Path, address: &Address, into: &BucketName, prefix: &str) -> anyhow::Result<PathBuf> {
    let folder = data.join("import");
    if LocalDisk.entry(&folder)?.is_none() {
        LocalDisk.create_dir(&folder)?;
    }
    let name = blake3::hash(format!("{address} {into} {prefix}").as_bytes());
    Ok(folder.join(format!("s3-{}.redb", hex(&name.as_bytes()[..8]))))
}
