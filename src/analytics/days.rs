//! The days that are being counted, in memory: what a note adds to its site's day, and who is a visitor that was not here
//! before.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::agent;
use super::day::Day;
use super::note::{Kind, Note, Visit};
use super::page::{self, bare, campaign, host};
use super::rows::{self, Key, Row};
use super::tally::Tally;
use super::vitals::{Measured, Vitals};
use crate::base::Random;
use crate::base::hyperloglog::{Sketch, estimate};
use crate::base::random::bytes;

/// Most pages of a day whose measurements are kept apart.
const MOST_MEASURED: usize = 30;

/// What is being counted.
#[derive(Debug, Default)]
pub struct Days {
    open: BTreeMap<(Day, Arc<str>), Open>,
    salt: Option<Salt>,
}

/// What makes hashes of one day. It is overwritten when it goes.
struct Salt {
    day: Day,
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salt").field("day", &self.day).finish_non_exhaustive()
    }
}

/// A site's day that is being counted.
#[derive(Debug)]
struct Open {
    views: u64,
    visits: u64,
    /// Visitors counted before the sketch began.
    before: u64,
    sketch: Sketch,
    pages: Tally,
    referrers: Tally,
    sources: Tally,
    campaigns: Tally,
    missing: Tally,
    browsers: Tally,
    systems: Tally,
    devices: Tally,
    vitals: Vitals,
    by_page: HashMap<String, Vitals>,
    /// Whether the store has less than this.
    changed: bool,
}

impl Days {
    /// Whether `site`'s `day` is being counted.
    pub fn has(&self, day: Day, site: &Arc<str>) -> bool {
        self.open.contains_key(&(day, Arc::clone(site)))
    }

    /// Counts `site`'s `day` from `row` on.
    pub fn begin(&mut self, day: Day, site: Arc<str>, row: Option<Row>) {
        self.open.insert((day, site), Open::from(row.unwrap_or_default()));
    }

    /// It is `day` now. With another day the salt goes, and with it every hash made with it.
    pub fn today(&mut self, day: Day, random: &dyn Random) {
        if self.salt.as_ref().is_some_and(|salt| salt.day == day) {
            return;
        }
        for open in self.open.values_mut() {
            open.before = open.visitors();
            open.sketch = Sketch::new();
        }
        self.salt = Some(Salt { day, key: Zeroizing::new(bytes(random)) });
    }

    /// Counts `note` on the day of the salt, keeping `most` names of each list. Its site's day must have begun.
    pub fn count(&mut self, note: &Note, most: usize) {
        let Some(salt) = &self.salt else { return };
        let Some(open) = self.open.get_mut(&(salt.day, Arc::clone(&note.site))) else { return };
        if agent::is_program(&note.visit.agent) {
            return;
        }
        let Some(page) = page::page(&note.visit.path) else { return };
        open.changed = true;
        match &note.kind {
            Kind::Missing => open.missing.add(&page, most),
            Kind::Measured(measured) => open.measure(&page, measured),
            Kind::Shown => {
                if let Some(client) = note.visit.client {
                    open.meet(&hashed(salt, &note.site, client, &note.visit.agent));
                }
                open.show(&page, &note.visit, most);
            }
        }
    }

    /// The rows that the store has not, and their days; they count as written.
    pub fn take_changed(&mut self, most: usize) -> Vec<(Day, Arc<str>, Key, Row)> {
        let mut rows = Vec::new();
        for ((day, site), open) in self.open.iter_mut().filter(|(_, open)| open.changed) {
            open.changed = false;
            rows.push((*day, Arc::clone(site), rows::key(*day, site), open.row(site, most)));
        }
        rows
    }

    /// The row of `site`'s `day` could not be written.
    pub fn unsaved(&mut self, day: Day, site: Arc<str>) {
        if let Some(open) = self.open.get_mut(&(day, site)) {
            open.changed = true;
        }
    }

    /// Lets go of days that are over and in the store.
    pub fn let_go(&mut self) {
        let today = self.salt.as_ref().map(|salt| salt.day);
        self.open.retain(|(day, _), open| open.changed || Some(*day) == today);
    }

    /// `site`'s `day` so far, if it is being counted.
    pub fn row(&self, day: Day, site: &str, most: usize) -> Option<Row> {
        let found = self.open.iter().find(|((its, name), _)| *its == day && **name == *site);
        found.map(|((_, name), open)| open.row(name, most))
    }
}

impl Open {
    /// A visitor, by a hash.
    fn meet(&mut self, hash: &[u8; 32]) {
        // A sketch made here is never corrupt.
        let _ = self.sketch.add(hash);
    }

    fn visitors(&self) -> u64 {
        let seen = self.sketch.registers().map_or(0, |registers| estimate(&registers));
        self.before.saturating_add(seen)
    }

    fn show(&mut self, page: &str, visit: &Visit, most: usize) {
        self.views = self.views.saturating_add(1);
        self.pages.add(page, most);
        self.browsers.add(agent::browser(&visit.agent), most);
        self.systems.add(agent::system(&visit.agent), most);
        self.devices.add(agent::device(&visit.agent), most);
        let from = host(&visit.referrer);
        if from.is_some() && from == bare(&visit.host) {
            return;
        }
        self.visits = self.visits.saturating_add(1);
        self.referrers.add(from.as_deref().unwrap_or_default(), most);
        let found = campaign(&visit.query);
        for (name, tally) in [(found.source, &mut self.sources), (found.campaign, &mut self.campaigns)] {
            if let Some(name) = name {
                tally.add(&name, most);
            }
        }
    }

    fn measure(&mut self, page: &str, measured: &Measured) {
        self.vitals.add(measured);
        if let Some(known) = self.by_page.get_mut(page) {
            known.add(measured);
            return;
        }
        if self.by_page.len() >= MOST_MEASURED * 2 {
            self.by_page = self.most_measured().into_iter().collect();
        }
        self.by_page.entry(page.to_owned()).or_default().add(measured);
    }

    /// The pages that were measured most, the most first.
    fn most_measured(&self) -> Vec<(String, Vitals)> {
        let mut all: Vec<(&String, &Vitals)> = self.by_page.iter().collect();
        all.sort_unstable_by(|a, b| b.1.count().cmp(&a.1.count()).then_with(|| a.0.cmp(b.0)));
        all.into_iter().take(MOST_MEASURED).map(|(page, vitals)| (page.clone(), vitals.clone())).collect()
    }

    fn row(&self, site: &str, most: usize) -> Row {
        Row {
            site: site.to_owned(),
            views: self.views,
            visits: self.visits,
            visitors: self.visitors(),
            pages: self.pages.list(most),
            referrers: self.referrers.list(most),
            sources: self.sources.list(most),
            campaigns: self.campaigns.list(most),
            missing: self.missing.list(most),
            browsers: self.browsers.list(most),
            systems: self.systems.list(most),
            devices: self.devices.list(most),
            vitals: self.vitals.clone(),
            by_page: self.most_measured(),
        }
    }
}

impl From<Row> for Open {
    fn from(row: Row) -> Self {
        Self {
            views: row.views,
            visits: row.visits,
            before: row.visitors,
            sketch: Sketch::new(),
            pages: row.pages.into(),
            referrers: row.referrers.into(),
            sources: row.sources.into(),
            campaigns: row.campaigns.into(),
            missing: row.missing.into(),
            browsers: row.browsers.into(),
            systems: row.systems.into(),
            devices: row.devices.into(),
            vitals: row.vitals,
            by_page: row.by_page.into_iter().collect(),
            changed: false,
        }
    }
}

/// Who a visitor is for one day and one site. The parts are told apart by their lengths: an address always has 16 bytes, and
/// no name of a site holds a zero.
fn hashed(salt: &Salt, site: &str, client: IpAddr, agent: &str) -> [u8; 32] {
    let address = match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut hasher = blake3::Hasher::new_keyed(&salt.key);
    hasher.update(&address.octets()).update(site.as_bytes()).update(&[0]).update(agent.as_bytes());
    hasher.finalize().into()
}
