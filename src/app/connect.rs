//! What an app needs to know to use the server: the lines of `mainstay env`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::redis;
use crate::accounts::AccessKeys;
use crate::base::{Listen, Secret};
use crate::config::Config;
use crate::smtp::smtp_password;

/// Where the doors listen; `None` for one that is off.
#[derive(Clone, Debug, Default)]
pub struct Connect {
    /// The edge's plain HTTP.
    pub edge_http: Option<SocketAddr>,
    /// The edge's HTTPS.
    pub edge_https: Option<SocketAddr>,
    /// The edge's HTTP/3, over UDP.
    pub edge_http3: Option<SocketAddr>,
    /// The Redis door.
    pub redis: Option<SocketAddr>,
    /// The Redis door's listener for TLS.
    pub redis_tls: Option<SocketAddr>,
    /// The Redis door's Unix socket.
    pub redis_socket: Option<PathBuf>,
    /// Whether the Redis door takes clients without a password.
    pub redis_is_open: bool,
    /// The S3 door.
    pub s3: Option<SocketAddr>,
    /// The domain the edge serves the doors below; `localhost` when none is set.
    pub domain: String,
    /// The region S3 requests name.
    pub region: String,
    /// The console door.
    pub console: Option<SocketAddr>,
    /// The SMTP door.
    pub smtp: Option<SocketAddr>,
    /// The sender apps should use.
    pub mail_from: String,
}

impl Connect {
    /// As `config` says, for a server that does not run: doors with port 0 have no address.
    pub fn configured(config: &Config, folder: &Path) -> Self {
        let fixed = |listen: Listen| listen.address().filter(|address| address.port() != 0);
        Self {
            edge_http: fixed(config.edge.http),
            edge_https: fixed(config.edge.https),
            edge_http3: fixed(config.edge.https).filter(|_| config.edge.http3),
            redis: fixed(config.redis.listen),
            redis_tls: fixed(config.redis.tls_listen),
            s3: fixed(config.s3.listen),
            console: fixed(config.console.listen),
            smtp: fixed(config.smtp.listen),
            ..Self::unbound(config, folder)
        }
    }

    /// What does not depend on ports.
    pub fn unbound(config: &Config, folder: &Path) -> Self {
        Self {
            redis_socket: redis::socket(config, folder),
            redis_is_open: !config.redis.require_auth,
            domain: config.edge.domain.clone(),
            region: config.s3.region.clone(),
            mail_from: config.mail.from_address(),
            ..Self::default()
        }
    }

    /// Where the S3 door is reached from this machine.
    pub fn s3_url(&self) -> Option<String> {
        self.s3.map(reachable).map(|address| format!("http://{address}"))
    }

    /// Where a page of the console is reached from this machine; only the path while the console is off.
    pub fn console_url(&self, path: &str) -> String {
        let base = self.console.map(reachable).map(|address| format!("http://{address}"));
        base.unwrap_or_default() + path
    }

    /// The console's address as people elsewhere open it: below the domain while there is one, else as from this machine.
    pub fn console_for_people(&self) -> String {
        let domain = &self.domain;
        match (self.edge_https.filter(|_| domain != "localhost"), self.console) {
            (Some(edge), _) => format!("https://console.{domain}{}", https_port(edge)),
            (None, Some(console)) => format!("http://{}", reachable(console)),
            (None, None) => format!("https://console.{domain}"),
        }
    }

    /// `KEY`, `value`, with the first API `token` while it works. Full of secrets: for the operator's eyes alone.
    pub fn lines(&self, keys: &AccessKeys, token: Option<&Secret<String>>) -> Vec<(String, String)> {
        let mut out: Vec<(&str, String)> = Vec::new();
        let password = keys.redis_password();
        let login = if self.redis_is_open { String::new() } else { format!(":{}@", password.expose()) };
        // First what costs an app on this machine the least: a sixth to a third less of a processor than TCP.
        if let Some(path) = &self.redis_socket {
            out.push(("REDIS_SOCKET_URL", format!("unix://{login}{}", path.display())));
        }
        if let Some(address) = self.redis.map(reachable) {
            out.push(("REDIS_URL", format!("redis://{login}{address}")));
        }
        if let Some(address) = self.redis_tls {
            // A certificate is for a name, where the domain is one that others know.
            let host = match (address.ip().is_loopback(), self.domain.as_str()) {
                (true, _) | (_, "" | "localhost") => reachable(address).to_string(),
                (false, domain) => format!("{domain}:{}", address.port()),
            };
            out.push(("REDIS_TLS_URL", format!("rediss://{login}{host}")));
        }
        if let Some(address) = self
            .console
            .map(reachable)
            .filter(|_| self.redis.or(self.redis_tls).is_some() || self.redis_socket.is_some())
        {
            out.push(("UPSTASH_REDIS_REST_URL", format!("http://{address}/redis")));
            out.push(("UPSTASH_REDIS_REST_TOKEN", password.expose().clone()));
        }
        if let (Some(address), Some(key)) = (self.s3.map(reachable), keys.primary()) {
            out.push(("MINIO_ENDPOINT", address.ip().to_string()));
            out.push(("MINIO_PORT", address.port().to_string()));
            out.push(("MINIO_USE_SSL", String::from("false")));
            out.push(("MINIO_ACCESS_KEY", key.id.clone()));
            out.push(("MINIO_SECRET_KEY", key.secret.expose().clone()));
            out.push(("AWS_ENDPOINT_URL_S3", format!("http://{address}")));
        }
        if let Some(key) = keys.primary().filter(|_| self.s3.or(self.console).is_some()) {
            out.push(("AWS_ACCESS_KEY_ID", key.id.clone()));
            out.push(("AWS_SECRET_ACCESS_KEY", key.secret.expose().clone()));
            out.push(("AWS_REGION", self.region.clone()));
        }
        if let (Some(address), Some(key)) = (self.console.map(reachable), keys.primary()) {
            out.push(("AWS_ENDPOINT_URL_SES", format!("http://{address}/ses")));
            out.push(("AWS_ENDPOINT_URL_SESV2", format!("http://{address}/ses")));
            out.push(("AWS_SES_REGION", self.region.clone()));
            out.push(("AWS_SES_ACCESS_KEY_ID", key.id.clone()));
            out.push(("AWS_SES_SECRET_ACCESS_KEY", key.secret.expose().clone()));
            out.push(("AWS_SES_FROM_EMAIL", self.mail_from.clone()));
        }
        if let (Some(address), Some(key)) = (self.smtp.map(reachable), keys.primary()) {
            let password = smtp_password(&key.secret, &self.region);
            let password = utf8_percent_encode(password.expose(), NON_ALPHANUMERIC);
            out.push(("SMTP_URL", format!("smtp://{}:{password}@{address}", key.id)));
        }
        if let Some(address) = self.console.map(reachable) {
            out.push(("MAINSTAY_URL", format!("http://{address}")));
            if let Some(token) = token {
                out.push(("MAINSTAY_API_TOKEN", token.expose().clone()));
            }
            if let Some(key) = keys.project_key(1) {
                let dsn = format!("http://{}@{address}/1", key.expose());
                out.push(("SENTRY_DSN", dsn.clone()));
                out.push(("NEXT_PUBLIC_SENTRY_DSN", dsn));
            }
        }
        out.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The port of `edge` as addresses name it: not at all when it is 443.
pub(super) fn https_port(edge: SocketAddr) -> String {
    if edge.port() == 443 { String::new() } else { format!(":{}", edge.port()) }
}

/// The address a program on this machine reaches a listener at: one that listens everywhere is reached at loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::FirstCredentials;
    use crate::base::SystemRandom;
    use crate::testing::{TestClock, memory_store};

    fn keys() -> AccessKeys {
        let first = FirstCredentials {
            id: Some(String::from("minioadmin")),
            secret: Some(Secret::new(String::from("minioadmin-secret"))),
        };
        AccessKeys::open(&memory_store(), &SystemRandom, &TestClock::default(), first).unwrap()
    }

    #[test]
    fn each_door_that_is_on_has_its_lines() {
        let connect = Connect {
            edge_http: Some("127.0.0.1:8080".parse().unwrap()),
            edge_https: None,
            edge_http3: None,
            redis: Some("0.0.0.0:6379".parse().unwrap()),
            redis_tls: Some("0.0.0.0:6380".parse().unwrap()),
            redis_socket: Some(PathBuf::from("/data/redis.sock")),
            s3: Some("127.0.0.1:9000".parse().unwrap()),
            console: Some("[::]:8000".parse().unwrap()),
            domain: String::from("example.com"),
            region: String::from("us-east-1"),
            redis_is_open: false,
            smtp: Some("127.0.0.1:2525".parse().unwrap()),
            mail_from: String::from("no-reply@example.com"),
        };
        let (keys, token) = (keys(), Secret::new(String::from("mst_x")));
        let (password, project) = (keys.redis_password(), keys.project_key(1).unwrap());
        let text: Vec<String> =
            connect.lines(&keys, Some(&token)).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        for line in [
            &format!("REDIS_URL=redis://:{}@127.0.0.1:6379", password.expose()),
            &format!("REDIS_TLS_URL=rediss://:{}@example.com:6380", password.expose()),
            &format!("REDIS_SOCKET_URL=unix://:{}@/data/redis.sock", password.expose()),
            "MINIO_ENDPOINT=127.0.0.1",
            "MINIO_PORT=9000",
            "MINIO_ACCESS_KEY=minioadmin",
            "AWS_REGION=us-east-1",
            "AWS_SECRET_ACCESS_KEY=minioadmin-secret",
            "MAINSTAY_URL=http://[::1]:8000",
            "MAINSTAY_API_TOKEN=mst_x",
            "AWS_ENDPOINT_URL_SESV2=http://[::1]:8000/ses",
            "AWS_SES_FROM_EMAIL=no-reply@example.com",
            &format!("SENTRY_DSN=http://{}@[::1]:8000/1", project.expose()),
        ] {
            assert!(text.iter().any(|found| found == line), "{line} in {text:?}");
        }
    }

    #[test]
    fn a_redis_door_without_a_password_has_none_in_its_address() {
        let redis = "127.0.0.1:6379".parse().ok();
        let connect = Connect { redis, redis_is_open: true, ..Connect::default() };
        assert_eq!(connect.lines(&keys(), None)[0].1, "redis://127.0.0.1:6379");
    }

    #[test]
    fn people_elsewhere_get_the_console_below_the_domain() {
        let (edge, console) = ("0.0.0.0:443".parse().ok(), "127.0.0.1:8000".parse().ok());
        let connect = Connect { domain: String::from("example.com"), console, ..Connect::default() };
        assert_eq!(connect.console_for_people(), "http://127.0.0.1:8000");
        let connect = Connect { edge_https: edge, ..connect };
        assert_eq!(connect.console_for_people(), "https://console.example.com");
        let connect = Connect { edge_https: "0.0.0.0:8443".parse().ok(), ..connect };
        assert_eq!(connect.console_for_people(), "https://console.example.com:8443");
        let connect = Connect { domain: String::from("localhost"), ..connect };
        assert_eq!(connect.console_for_people(), "http://127.0.0.1:8000");
    }

    #[test]
    fn doors_that_are_off_have_none() {
        assert!(Connect::default().lines(&keys(), None).is_empty());
    }
}
