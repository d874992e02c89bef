//! `mainstay ca`: the root certificate of the internal authority. Read from the data folder, so that it needs no running
//! server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use x509_parser::pem::parse_x509_pem;

use super::say;
use super::settings::Shell;
use crate::base::{LocalDisk, Timestamp, disk};
use crate::edge::internal_ca_path;

/// Largest certificate read.
const LARGEST: u64 = 64 << 10;
/// Where Debian and its kin look for roots that the machine's owner adds, and what puts them into use
/// (update-ca-certificates(8)).
const STORE: &str = "/usr/local/share/ca-certificates";
const UPDATE: &str = "/usr/sbin/update-ca-certificates";

/// What to do with the root.
#[derive(Clone, Subcommand)]
pub(super) enum CaCommand {
    /// Tell whose it is, its fingerprint, and until when it is good
    Show,
    /// Write the certificate (PEM) to standard output or a file
    Export {
        /// The file
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Have this machine's programs trust it (Debian, Ubuntu and their kin; needs root)
    ///
    /// Puts the certificate into /usr/local/share/ca-certificates and runs update-ca-certificates. To take it back, remove
    /// the file and run `update-ca-certificates --fresh`. Firefox, and programs with a list of their own, need it
    /// separately.
    Trust,
}

/// Runs the command.
pub(super) fn run(shell: &Shell, command: &CaCommand) -> anyhow::Result<()> {
    let path = internal_ca_path(&shell.existing_data());
    let pem = read(&path)?;
    match command {
        CaCommand::Show => say(&shown(&pem)?),
        CaCommand::Export { out: None } => say(&pem),
        CaCommand::Export { out: Some(out) } => {
            disk::replace_file(&LocalDisk, out, pem.as_bytes()).with_context(|| out.display().to_string())
        }
        CaCommand::Trust => trust(&pem),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = disk::read_file(&LocalDisk, path, LARGEST).with_context(|| path.display().to_string())?;
    let Some(bytes) = bytes else {
        bail!(
            "there is no {}: the internal authority is made by the first start with names in edge.internal_ca",
            path.display()
        )
    };
    String::from_utf8(bytes).with_context(|| format!("{} is no certificate", path.display()))
}

fn shown(pem: &str) -> anyhow::Result<String> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).context("no certificate")?;
    let certificate = block.parse_x509().context("no certificate")?;
    let moment = |seconds: i64| {
        let at = Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0));
        at.to_jiff().strftime("%Y-%m-%d").to_string()
    };
    let validity = certificate.validity();
    Ok(format!(
        "{}\ngood from {} until {}\nSHA-256 {}\n",
        certificate.subject(),
        moment(validity.not_before.timestamp()),
        moment(validity.not_after.timestamp()),
        fingerprint(&block.contents).join(":"),
    ))
}

fn fingerprint(der: &[u8]) -> Vec<String> {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn trust(pem: &str) -> anyhow::Result<()> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).context("no certificate")?;
    if !Path::new(STORE).is_dir() || !Path::new(UPDATE).exists() {
        bail!(
            "this machine has no {UPDATE} (Debian's package ca-certificates): take the file of `mainstay ca export` and install it as the system wants it"
        );
    }
    let file = Path::new(STORE).join(format!(
        "mainstay-{}.crt",
        fingerprint(&block.contents).concat().to_lowercase().get(..16).unwrap_or_default()
    ));
    say(&format!("{}writing it to {}\n", shown(pem)?, file.display()))?;
    disk::replace_file(&LocalDisk, &file, pem.as_bytes())
        .with_context(|| format!("cannot write {} (run it as root: `sudo mainstay ca trust`)", file.display()))?;
    rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o644)).with_context(|| file.display().to_string())?;
    say(&format!("running {UPDATE}\n"))?;
    let status = Command::new(UPDATE).status().with_context(|| UPDATE.to_owned())?;
    if !status.success() {
        bail!("{UPDATE} ended with {status}");
    }
    say("this machine's programs trust it now\n")
}
