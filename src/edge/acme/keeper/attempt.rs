//! Orders: what is due, one attempt after the other, and what authorities say about when to renew.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::{Keeper, LOOK, Name, Settings};
use crate::base::Timestamp;
use crate::edge::World;
use crate::edge::acme::authority::Authority;
use crate::edge::acme::config::Proof;
use crate::edge::acme::dns::{Entry, kept};
use crate::edge::acme::failure::Failure;
use crate::edge::acme::on_demand::TRIES;
use crate::edge::acme::order::{self, Keep, Wanted};
use crate::edge::acme::rows::{self, Issued, NameRow};
use crate::edge::acme::schedule;

/// Orders under way at once. One that hangs holds up its own place alone.
const AT_ONCE: usize = 4;
/// How often it is looked for records that were left in the DNS, and how soon again when one stays.
const SWEEP: Duration = Duration::from_hours(1);
const SWEEP_AGAIN: Duration = Duration::from_mins(10);
/// Longest time of one attempt, beside the wait for a record in the DNS.
const ATTEMPT: Duration = Duration::from_mins(5);
/// How often an authority is asked when to renew, unless it says otherwise; and the least and most it can say.
const ASK: (Duration, Duration, Duration) =
    (Duration::from_hours(12), Duration::from_hours(1), Duration::from_hours(24));
/// How long a certificate is used at least, whatever the authority suggests: one that says of each that it should have been
/// renewed already would be asked for the next without end.
const AT_LEAST: Duration = Duration::from_hours(1);

/// How one name is proven.
#[derive(Debug)]
enum Way {
    Here(Proof),
    Dns(Arc<Entry>),
}

impl Settings {
    /// How `name` is proven after `failures` of them; `None` when it cannot be.
    fn way(&self, name: &str, failures: u32) -> Option<Way> {
        if let Some(entry) = self.dns.of(name) {
            return Some(Way::Dns(entry));
        }
        let turn = (failures as usize).checked_rem(self.proofs.len())?;
        self.proofs.get(turn).copied().map(Way::Here)
    }
}

impl Keeper {
    pub(super) async fn order_around(&self) {
        let mut sweep_at = self.world.clock.monotonic();
        loop {
            // Nothing is under way now, so whatever is noted was left behind.
            if self.world.clock.monotonic() >= sweep_at {
                let wait = if self.sweep_records().await { SWEEP_AGAIN } else { SWEEP };
                sweep_at = self.world.clock.monotonic().saturating_add(wait);
            }
            let due = self.due();
            stream::iter(due).for_each_concurrent(AT_ONCE, |name| async move { self.attempt(&name).await }).await;
            self.ask_when_to_renew().await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Takes away what orders that were broken off have left in the DNS; whether some of it is left.
    async fn sweep_records(&self) -> bool {
        let World { store, clock, random, .. } = &self.world;
        let swept = kept::sweep(&self.settings.load_full().dns, store, clock, random).await;
        swept.unwrap_or_else(|error| {
            tracing::warn!(%error, "records left in the DNS cannot be looked for");
            true
        })
    }

    /// Names to order for now.
    fn due(&self) -> Vec<String> {
        let now = self.world.clock.now().millis();
        let settings = self.settings.load();
        let state = self.state();
        let in_files = |name: &str| state.in_files().any(|one| one.covers(name));
        let due = |(name, known): &(&String, &Name)| {
            !known.ordering
                && known.row.next_attempt_ms <= now
                && known.used.as_ref().is_none_or(|(issued, _)| issued.renew_at_ms <= now)
                && !in_files(name)
                && settings.way(name, 0).is_some()
        };
        state.names.iter().filter(due).map(|(name, _)| name.clone()).collect()
    }

    /// One attempt for `name`, at each authority until one gives a certificate.
    pub(super) async fn attempt(&self, name: &str) {
        let now = self.world.clock.now();
        let (mut row, old) = {
            let mut state = self.state();
            let Some(known) = state.names.get_mut(name).filter(|known| !known.ordering) else { return };
            known.ordering = true;
            known.row.last_attempt_ms = now.millis();
            (known.row.clone(), known.used.as_ref().map(|(issued, _)| issued.clone()))
        };
        let settings = self.settings.load_full();
        let Some(way) = settings.way(name, row.failures) else {
            // A reload came between.
            if let Some(known) = self.state().names.get_mut(name) {
                known.ordering = false;
            }
            return;
        };
        let limit = match &way {
            Way::Here(_) => ATTEMPT,
            Way::Dns(entry) => ATTEMPT.saturating_add(entry.wait()),
        };
        let mut failures = Vec::new();
        let mut asked: Option<Duration> = None;
        let mut obtained = None;
        let willing = self.is_still_wanted(&settings, name).await;
        if matches!(willing, Ok(false)) {
            return self.let_go(name).await;
        }
        failures.extend(willing.err());
        let authorities = if failures.is_empty() { settings.authorities.as_slice() } else { &[] };
        for authority in authorities {
            let place = (authority.directory().to_owned(), name.to_owned());
            let hold = self.state().holds.get(&place).copied();
            if let Some(until) = hold.filter(|until| now < *until) {
                let left = until.since(now);
                asked = Some(asked.map_or(left, |asked| asked.min(left)));
                failures.push(format!("{}: asked not to be called before {until}", authority.directory()));
                continue;
            }
            let ordered = self.order(authority, &way, name, &mut row, old.as_ref());
            let late = |_elapsed| Failure::told("the order took longer than five minutes");
            match tokio::time::timeout(limit, ordered).await.map_err(late).flatten() {
                Ok(certified) => {
                    obtained = Some(certified);
                    break;
                }
                Err(failure) => {
                    tracing::warn!(name, authority = authority.directory(), %failure, "no certificate");
                    let wait = failure.retry_after.unwrap_or_default();
                    asked = Some(asked.map_or(wait, |asked| asked.min(wait)));
                    let mut state = self.state();
                    state.holds.retain(|_, until| now < *until);
                    if wait > Duration::ZERO {
                        state.holds.insert(place, now.after(wait));
                    }
                    failures.push(match settings.authorities.len() {
                        1 => failure.text,
                        _ => format!("{}: {}", authority.directory(), failure.text),
                    });
                }
            }
        }
        let now = self.world.clock.now();
        if let Some(order::Certified { mut issued, certificate }) = obtained {
            issued.renew_at_ms =
                schedule::renewal(issued.not_before_ms, issued.not_after_ms, self.world.random.as_ref());
            row = NameRow { last_attempt_ms: row.last_attempt_ms, ..NameRow::default() };
            if let Err(error) = rows::put_name(&self.world.store, name, &row, Some(&issued)).await {
                tracing::error!(name, %error, "a new certificate cannot be kept; it is used until the next start");
            }
            tracing::info!(name, authority = issued.directory, expires = %Timestamp(issued.not_after_ms), "got a certificate");
            self.obtained.inc();
            if let Some(known) = self.state().names.get_mut(name) {
                let on_demand = known.on_demand;
                *known = Name { row, used: Some((issued, certificate)), ordering: false, on_demand };
            }
            self.publish();
        } else {
            self.failed.inc();
            row.failures = row.failures.saturating_add(1);
            row.error = failures.join("; ");
            row.next_attempt_ms = schedule::next_attempt(now, row.failures, asked, self.world.random.as_ref()).millis();
            if let Err(error) = rows::put_name(&self.world.store, name, &row, None).await {
                tracing::error!(name, %error, "a failed order cannot be kept");
            }
            let failed = row.failures;
            let hopeless = self.state().names.get_mut(name).is_some_and(|known| {
                known.row = row;
                known.ordering = false;
                known.on_demand && known.used.is_none() && failed >= TRIES
            });
            if hopeless {
                self.let_go(name).await;
            }
            self.changed.notify_waiters();
        }
    }

    async fn order(
        &self,
        authority: &Authority,
        way: &Way,
        name: &str,
        row: &mut NameRow,
        old: Option<&Issued>,
    ) -> Result<order::Certified, Failure> {
        let transport = authority.transport(self.world.clock.now());
        let wanted = Wanted {
            name,
            directory: authority.directory(),
            profile: authority.profile(),
            proof: match way {
                Way::Here(Proof::Http) => order::Way::Http(&self.challenges),
                Way::Here(Proof::TlsAlpn) => order::Way::TlsAlpn(&self.challenges),
                Way::Dns(entry) => order::Way::Dns(entry, &self.world),
            },
            replaces: old.filter(|issued| issued.directory == authority.directory()),
        };
        let work = async {
            let account = authority.account(&self.world.store, &transport, &self.accounts).await?;
            let keep = Keep { store: &self.world.store, row: NameRow { order: None, ..row.clone() } };
            order::obtain(&account, wanted, &mut row.order, &keep).await
        };
        let mut done = work.await;
        if let Err(failure) = &mut done {
            failure.retry_after = transport.retry_after();
            if failure.is("accountDoesNotExist") {
                // A test authority that began anew. The next attempt makes another account.
                let _ = rows::put_account(&self.world.store, authority.directory(), None).await;
            }
        }
        done
    }

    /// Asks authorities that have an opinion (RFC 9773) when their certificates should be renewed.
    async fn ask_when_to_renew(&self) {
        let now = self.world.clock.now();
        let due: Vec<(String, Issued)> = {
            let state = self.state();
            let used = state.names.iter().filter_map(|(name, known)| Some((name, &known.used.as_ref()?.0)));
            let due = used.filter(|(_, issued)| issued.ask_at_ms <= now.millis() && issued.renew_at_ms > now.millis());
            due.map(|(name, issued)| (name.clone(), issued.clone())).collect()
        };
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, |(name, issued)| async move {
                let asked = tokio::time::timeout(ATTEMPT, self.ask(&issued)).await;
                let answer = asked.unwrap_or_else(|_elapsed| Err(Failure::told("no answer")));
                let (window, wait) = match answer {
                    Ok((window, wait)) => (Some(window), wait.clamp(ASK.1, ASK.2)),
                    Err(failure) => {
                        tracing::debug!(name, %failure, "no renewal information");
                        (None, ASK.0)
                    }
                };
                let (row, issued) = {
                    let mut state = self.state();
                    let Some(known) = state.names.get_mut(&name) else { return };
                    let Some((used, _)) = &mut known.used else { return };
                    if used.chain != issued.chain || used.renew_at_ms != issued.renew_at_ms {
                        // Meanwhile replaced, or wanted sooner: the answer is about something else.
                        return;
                    }
                    used.ask_at_ms = now.after(wait).millis();
                    if let Some((start, end)) = window
                        && !(start..=end).contains(&used.renew_at_ms)
                    {
                        // With a tenth of the lifetime left it is time, whoever suggests to wait longer.
                        let lifetime = used.not_after_ms.saturating_sub(used.not_before_ms);
                        let latest = used.not_after_ms.saturating_sub(lifetime / 10);
                        let earliest = Timestamp(known.row.last_attempt_ms).after(AT_LEAST).millis();
                        let suggested = schedule::within(start, end, self.world.random.as_ref());
                        used.renew_at_ms = suggested.max(earliest).min(latest);
                    }
                    let used = used.clone();
                    (known.row.clone(), used)
                };
                if let Err(error) = rows::put_name(&self.world.store, &name, &row, Some(&issued)).await {
                    tracing::warn!(name, %error, "renewal information cannot be kept");
                }
            })
            .await;
    }

    async fn ask(&self, issued: &Issued) -> Result<((u64, u64), Duration), Failure> {
        let known = |authority: &&Authority| authority.directory() == issued.directory;
        let settings = self.settings.load_full();
        let Some(authority) = settings.authorities.iter().find(known) else {
            return Err(Failure::told("its authority is no longer in the settings"));
        };
        let transport = authority.transport(self.world.clock.now());
        let account = authority.account(&self.world.store, &transport, &self.accounts).await?;
        authority.renewal_window(&account, issued).await
    }
}
