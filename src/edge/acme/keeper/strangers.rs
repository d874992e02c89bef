//! Names that no setting has: taken on in a handshake, when the app says so, and let go of when it no longer does.

use std::sync::Arc;

use super::{Keeper, Name, Settings};
use crate::base::supervise::Role;
use crate::edge::acme::on_demand::{PATIENCE, Turn, Word, could_have};
use crate::edge::acme::rows::{self, OnDemandRow};

impl Keeper {
    /// Whether handshakes may bring names that no setting has.
    pub fn takes_strangers(&self) -> bool {
        self.settings.load().on_demand.is_some()
    }

    /// Waits for a certificate for `name`, in lower case, which a client asks for and a site answers: until there is one, or there
    /// will be none soon, at most half a minute. Returns at once for names that have one or are no stranger's.
    ///
    /// # Cancel safety
    /// Dropped before its end, the name may have been taken on, and its order goes on.
    pub async fn welcome(self: &Arc<Self>, name: &str) {
        if self.certificates.has(name) || !could_have(name) {
            return;
        }
        let _late = tokio::time::timeout(PATIENCE, self.take_on(name)).await;
    }

    async fn take_on(self: &Arc<Self>, name: &str) {
        loop {
            let settings = self.settings.load_full();
            let Some(on_demand) = &settings.on_demand else { return };
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(is_coming) = self.is_coming(name) {
                if !is_coming {
                    return;
                }
                changed.await;
                continue;
            }
            let now = self.world.clock.now();
            let strangers = self.state().names.values().filter(|known| known.on_demand).count();
            let skipped = settings.skip.iter().any(|skip| skip.eq_ignore_ascii_case(name));
            if skipped || strangers >= on_demand.names {
                return;
            }
            match on_demand.turn(name, now) {
                Turn::None => return,
                Turn::Asked => changed.await,
                Turn::Ask => {
                    // In a task of its own: the client may leave, and others wait for the answer too.
                    let (this, name) = (Arc::clone(self), name.to_owned());
                    let _general = self.world.runtime.enter();
                    self.world.supervisor.task("certificate on demand", Role::Ordinary, async move {
                        let stop = this.world.supervisor.shutdown().clone();
                        tokio::select! {
                            () = stop.draining() => {}
                            () = this.ask_and_order(&settings, &name) => {}
                        }
                        this.changed.notify_waiters();
                    });
                }
            }
        }
    }

    /// Whether a certificate for `name` is to be expected soon; `None` when it is no name of this server.
    fn is_coming(&self, name: &str) -> Option<bool> {
        let now = self.world.clock.now().millis();
        let state = self.state();
        let known = state.names.get(name)?;
        Some(known.on_demand && known.used.is_none() && (known.ordering || known.row.next_attempt_ms <= now))
    }

    async fn ask_and_order(&self, settings: &Settings, name: &str) {
        let Some(on_demand) = &settings.on_demand else { return };
        let word = on_demand.ask(name).await;
        if let Word::Nothing(why) = &word {
            tracing::warn!(name, why, "nobody says whether a name may have a certificate");
        }
        let now = self.world.clock.now();
        if !on_demand.asked(name, &word, now) {
            return;
        }
        if let Err(error) = rows::put_on_demand(&self.world.store, name, OnDemandRow { since_ms: now.millis() }).await {
            tracing::error!(name, %error, "a name cannot be taken on");
            on_demand.give_up(name, now);
            return;
        }
        tracing::info!(name, "a certificate is ordered on demand");
        self.state().names.entry(name.to_owned()).or_insert_with(|| Name { on_demand: true, ..Name::default() });
        self.changed.notify_waiters();
        self.attempt(name).await;
    }

    /// Whether `name` may have another certificate; the app says so of names that no setting has. An error is its silence.
    pub(super) async fn is_still_wanted(&self, settings: &Settings, name: &str) -> Result<bool, String> {
        let renewed = |known: &Name| known.on_demand && known.used.is_some();
        if !self.state().names.get(name).is_some_and(renewed) {
            return Ok(true);
        }
        // Without anybody to ask it is left as it is.
        let Some(on_demand) = &settings.on_demand else { return Err("edge.acme.on_demand.ask is not set".to_owned()) };
        match on_demand.ask(name).await {
            Word::Yes => Ok(true),
            Word::No => Ok(false),
            Word::Nothing(why) => Err(why),
        }
    }

    /// Lets go of `name`, with what is kept of it.
    pub(super) async fn let_go(&self, name: &str) {
        tracing::info!(name, "no certificate is ordered on demand any more");
        if let Err(error) = rows::forget(&self.world.store, name).await {
            tracing::error!(name, %error, "what is kept of a name cannot be removed");
        }
        self.state().names.remove(name);
        let settings = self.settings.load();
        if let Some(on_demand) = &settings.on_demand {
            on_demand.give_up(name, self.world.clock.now());
        }
        self.publish();
    }
}
