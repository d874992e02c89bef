//! The server that is imported into: this machine's, through its Redis door.

use anyhow::{Context as _, bail};

use super::address::Address;
use super::wire::{Client, Reply, printable};

/// Longest argument the server takes when it does not say.
const MOST: u64 = 512 << 20;

/// Errors that are the server's state and not a value's: nothing goes on after them.
const FATAL: [&str; 8] = ["MISCONF", "OOM", "NOAUTH", "NOPERM", "READONLY", "LOADING", "BUSY ", "NOSCRIPT"];

/// A value on its way.
#[derive(Debug)]
pub(super) struct Item {
    pub key: Vec<u8>,
    /// When it expires, in ms since 1970; 0 for never.
    pub expires: u64,
    /// As `DUMP` writes it.
    pub payload: Vec<u8>,
}

/// A connection to the server.
pub(super) struct Target {
    client: Client,
    db: Option<u8>,
    /// Longest payload it takes.
    pub most: u64,
}

impl Target {
    /// Connects with the first of `lines`, which are those of `mainstay env`, that names the Redis door.
    pub fn connect(lines: &[(String, String)]) -> anyhow::Result<Self> {
        let named = |wanted: &str| lines.iter().find(|(name, _)| name == wanted).map(|(_, url)| url);
        let url = named("REDIS_SOCKET_URL").or_else(|| named("REDIS_URL"));
        let address = Address::parse(url.context("the server has no Redis door to import through")?)?;
        let mut client = Client::connect(&address, None, MOST)?;
        let most = match client.call(&[b"CONFIG", b"GET", b"proto-max-bulk-len"])? {
            Reply::Array(pair) => match pair.get(1) {
                Some(Reply::Bulk(text)) => printable(text).parse().unwrap_or(MOST),
                _ => MOST,
            },
            _ => MOST,
        };
        Ok(Self { client, db: None, most })
    }

    /// Makes `db` the one that is written to.
    pub fn select(&mut self, db: u8) -> anyhow::Result<()> {
        if self.db != Some(db) {
            self.client.ask(&[b"SELECT", db.to_string().as_bytes()])?;
            self.db = Some(db);
        }
        Ok(())
    }

    /// How many keys are in `db`.
    pub fn size(&mut self, db: u8) -> anyhow::Result<u64> {
        self.select(db)?;
        match self.client.ask(&[b"DBSIZE"])? {
            Reply::Integer(size) => Ok(u64::try_from(size).unwrap_or(0)),
            _ => bail!("the server does not say how many keys it has"),
        }
    }

    /// A command of one key for each of `keys`: whether it answered 1.
    pub fn each(&mut self, command: &[u8], keys: &[&[u8]]) -> anyhow::Result<Vec<bool>> {
        each(&mut self.client, command, keys)
    }

    /// A page of keys, and the next cursor.
    pub fn scan(&mut self, cursor: u64) -> anyhow::Result<(u64, Vec<Vec<u8>>)> {
        scan(&mut self.client, cursor)
    }

    /// Writes `items`, over what is there; returns once they are on the server's disk. What the server does not take comes
    /// back as its reason.
    pub fn restore(&mut self, items: &[Item]) -> anyhow::Result<Vec<Option<String>>> {
        for item in items {
            let expires = item.expires.to_string();
            self.client.push(&[b"RESTORE", &item.key, expires.as_bytes(), &item.payload, b"REPLACE", b"ABSTTL"]);
        }
        self.client.push(&[b"WAITAOF", b"1", b"0", b"0"]);
        self.client.flush().context("the server does not take what is imported")?;
        let mut reasons = Vec::new();
        for _ in items {
            reasons.push(match self.client.read().context("the server does not answer")? {
                Reply::Error(error) if FATAL.iter().any(|fatal| error.starts_with(fatal)) => {
                    bail!("the server takes no more: {error}")
                }
                Reply::Error(error) => Some(error),
                _ => None,
            });
        }
        self.durable()?;
        Ok(reasons)
    }

    /// Removes `keys`; returns once that is on the server's disk.
    pub fn remove(&mut self, keys: &[&[u8]]) -> anyhow::Result<()> {
        self.each(b"DEL", keys)?;
        self.client.push(&[b"WAITAOF", b"1", b"0", b"0"]);
        self.client.flush()?;
        self.durable()
    }

    fn durable(&mut self) -> anyhow::Result<()> {
        match self.client.read()? {
            Reply::Array(counts) if counts.first() == Some(&Reply::Integer(1)) => Ok(()),
            _ => bail!("the server cannot write to its disk"),
        }
    }

    /// Loads libraries of functions, in the form of `FUNCTION DUMP`; what the server says against it.
    pub fn functions(&mut self, payload: &[u8], policy: &[u8]) -> anyhow::Result<Option<String>> {
        Ok(match self.client.call(&[b"FUNCTION", b"RESTORE", payload, policy])? {
            Reply::Error(error) => Some(error),
            _ => None,
        })
    }

    /// Loads a library of functions by its code; what the server says against it.
    pub fn library(&mut self, code: &[u8], replace: bool) -> anyhow::Result<Option<String>> {
        let mut command: Vec<&[u8]> = vec![b"FUNCTION", b"LOAD"];
        if replace {
            command.push(b"REPLACE");
        }
        command.push(code);
        Ok(match self.client.call(&command)? {
            Reply::Error(error) => Some(error),
            _ => None,
        })
    }
}

/// A command of one key for each of `keys`: whether it answered 1.
pub(super) fn each(client: &mut Client, command: &[u8], keys: &[&[u8]]) -> anyhow::Result<Vec<bool>> {
    for key in keys {
        client.push(&[command, key]);
    }
    client.flush()?;
    let mut out = Vec::new();
    for _ in keys {
        out.push(match client.read()? {
            Reply::Error(error) => bail!("{error}"),
            reply => reply == Reply::Integer(1),
        });
    }
    Ok(out)
}

/// A page of keys, and the next cursor.
pub(super) fn scan(client: &mut Client, cursor: u64) -> anyhow::Result<(u64, Vec<Vec<u8>>)> {
    const STRANGE: &str = "SCAN is not answered as Redis does";
    let reply = client.ask(&[b"SCAN", cursor.to_string().as_bytes(), b"COUNT", b"512"])?;
    let Reply::Array(parts) = reply else { bail!(STRANGE) };
    let Ok([Reply::Bulk(next), Reply::Array(keys)]) = <[Reply; 2]>::try_from(parts) else { bail!(STRANGE) };
    let keys = keys.into_iter().map(|key| if let Reply::Bulk(key) = key { Some(key) } else { None });
    Ok((printable(&next).parse().context(STRANGE)?, keys.collect::<Option<_>>().context(STRANGE)?))
}
