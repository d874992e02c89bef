//! `mainstay certs`: the certificates of a running server.

use std::fmt::Write as _;

use super::arguments::CertsCommand;
use super::say;
use super::settings::Shell;
use crate::app::control_certificates as control;
use crate::base::Timestamp;
use crate::monitor::CertificateView;

/// Runs the command.
pub(super) fn run(shell: &Shell, command: Option<CertsCommand>, json: bool) -> anyhow::Result<()> {
    let data = shell.existing_data();
    match command {
        Some(CertsCommand::Renew { name }) => {
            control::order_now(&data, name.clone())?;
            say(&format!("a certificate for {name} is being ordered; `mainstay certs` tells what became of it\n"))
        }
        None => {
            let all = control::all(&data)?;
            if json {
                return say(&format!("{}\n", serde_json::to_string_pretty(&all)?));
            }
            say(&all.iter().fold(String::new(), |mut out, one| {
                line(&mut out, one);
                out
            }))
        }
    }
}

fn line(out: &mut String, view: &CertificateView) {
    let origin = view.origin.title();
    let at = |millis: u64| Timestamp(millis).to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string();
    let until = view.expires_ms.map_or_else(|| "none in use".to_owned(), |millis| format!("good until {}", at(millis)));
    // Writing into a String cannot fail.
    let _ = write!(out, "{:<32} {origin:<18} {until}", view.name);
    if view.ordering {
        out.push_str(", being ordered");
    } else if let Some(renew) = view.renew_at_ms.filter(|_| view.failures == 0) {
        let _ = write!(out, ", renewed {}", at(renew));
    }
    out.push('\n');
    if let Some(error) = &view.error {
        let next = view.next_attempt_ms.map_or_else(String::new, |millis| format!(", next {}", at(millis)));
        let attempts = match view.failures {
            0 => String::new(),
            failures => format!("{failures} failed{next}: "),
        };
        let _ = writeln!(out, "    {attempts}{error}");
    }
}
