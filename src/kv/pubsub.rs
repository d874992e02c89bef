//! Channels, patterns, and who listens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::client::{Client, ClientId};
use super::deliver::{Delivery, Message, Published};
use super::glob;
use super::keyspace::Keyspace;

/// Who is subscribed to what. Subscribers are sets in the order of their names, so that leaving is cheap.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: HashMap<Box<[u8]>, BTreeSet<ClientId>>,
    /// Channels of `SSUBSCRIBE`: a world of their own. Where there is no cluster, there is one shard.
    sharded: HashMap<Box<[u8]>, BTreeSet<ClientId>>,
    /// Ordered, so that a message is delivered in the same order each time.
    patterns: BTreeMap<Box<[u8]>, BTreeSet<ClientId>>,
}

/// What a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Channel,
    Pattern,
    Sharded,
}

impl Channels {
    pub fn add(&mut self, topic: Topic, name: &[u8], client: ClientId) {
        match topic {
            Topic::Channel => self.channels.entry(name.into()).or_default().insert(client),
            Topic::Pattern => self.patterns.entry(name.into()).or_default().insert(client),
            Topic::Sharded => self.sharded.entry(name.into()).or_default().insert(client),
        };
    }

    pub fn remove(&mut self, topic: Topic, name: &[u8], client: ClientId) {
        let listeners = match topic {
            Topic::Channel => self.channels.get_mut(name),
            Topic::Pattern => self.patterns.get_mut(name),
            Topic::Sharded => self.sharded.get_mut(name),
        };
        let Some(listeners) = listeners else { return };
        listeners.remove(&client);
        if listeners.is_empty() {
            match topic {
                Topic::Channel => self.channels.remove(name),
                Topic::Pattern => self.patterns.remove(name),
                Topic::Sharded => self.sharded.remove(name),
            };
        }
    }

    fn named(&self, topic: Topic) -> &HashMap<Box<[u8]>, BTreeSet<ClientId>> {
        if topic == Topic::Sharded { &self.sharded } else { &self.channels }
    }

    /// Channels with subscribers, sharded ones or the others.
    pub fn names(&self, topic: Topic) -> impl Iterator<Item = &[u8]> {
        self.named(topic).keys().map(|name| &**name)
    }

    /// Subscribers of a channel, patterns not counted.
    pub fn listeners(&self, topic: Topic, channel: &[u8]) -> usize {
        self.named(topic).get(channel).map_or(0, BTreeSet::len)
    }

    /// Distinct patterns.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }
}

impl Keyspace {
    /// Sends `payload` to everyone subscribed to `channel`, also through patterns; returns how many messages that makes.
    pub fn publish(&mut self, channel: &[u8], payload: &[u8]) -> usize {
        let before = self.deliveries.len();
        let message = |pattern: Option<&[u8]>| Published {
            pattern: pattern.map(Into::into),
            channel: channel.into(),
            payload: payload.into(),
            sharded: false,
        };
        if let Some(listeners) = self.channels.channels.get(channel) {
            let published = Arc::new(message(None));
            for client in listeners {
                self.deliveries.push(Delivery { client: *client, message: Message::Published(Arc::clone(&published)) });
            }
        }
        for (pattern, listeners) in &self.channels.patterns {
            if glob::matches(pattern, channel) {
                let published = Arc::new(message(Some(pattern)));
                for client in listeners {
                    self.deliveries
                        .push(Delivery { client: *client, message: Message::Published(Arc::clone(&published)) });
                }
            }
        }
        self.deliveries.len() - before
    }

    /// Sends `payload` to everyone subscribed to the sharded channel `channel`; returns how many messages that makes.
    pub fn publish_sharded(&mut self, channel: &[u8], payload: &[u8]) -> usize {
        let Some(listeners) = self.channels.sharded.get(channel) else { return 0 };
        let (channel, payload) = (channel.into(), payload.into());
        let published = Arc::new(Published { pattern: None, channel, payload, sharded: true });
        self.deliveries.extend(
            listeners
                .iter()
                .map(|client| Delivery { client: *client, message: Message::Published(Arc::clone(&published)) }),
        );
        listeners.len()
    }

    /// Ends all subscriptions of a client, silently.
    pub(super) fn unsubscribe_all(&mut self, client: &mut Client) {
        for name in std::mem::take(&mut client.channels) {
            self.channels.remove(Topic::Channel, &name, client.id);
        }
        for name in std::mem::take(&mut client.patterns) {
            self.channels.remove(Topic::Pattern, &name, client.id);
        }
        for name in std::mem::take(&mut client.sharded) {
            self.channels.remove(Topic::Sharded, &name, client.id);
        }
    }
}
