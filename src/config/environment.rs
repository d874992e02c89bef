//! The process environment, read once and in one place.

use std::path::PathBuf;

use crate::base::Secret;

/// Begins the name of every variable that is a setting: `MAINSTAY_S3__LISTEN` is `s3.listen`.
pub const PREFIX: &str = "MAINSTAY_";

/// What Mainstay takes from the environment.
#[derive(Debug, Default)]
pub struct Environment {
    /// Settings: names that begin with [`PREFIX`] and hold `__`, with their texts.
    pub settings: Vec<(String, String)>,
    /// Names that begin with [`PREFIX`] and are nothing Mainstay knows, for a warning.
    pub strange: Vec<String>,
    /// `MAINSTAY_MASTER_KEY`: the master key itself.
    pub master_key: Option<Secret<String>>,
    /// `MAINSTAY_MASTER_KEY_FILE`: a file that holds the master key.
    pub master_key_file: Option<PathBuf>,
    /// `MAINSTAY_MASTER_KEY_PREVIOUS`: the master key before, while it is being changed.
    pub master_key_previous: Option<Secret<String>>,
    /// `MAINSTAY_MASTER_KEY_PREVIOUS_FILE`: a file that holds the master key before.
    pub master_key_previous_file: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`: where systemd puts a unit's credentials.
    pub credentials: Option<PathBuf>,
    /// `MINIO_ROOT_USER`: the first S3 access key's id.
    pub root_user: Option<String>,
    /// `MINIO_ROOT_PASSWORD`: the first S3 access key's secret.
    pub root_password: Option<Secret<String>>,
    /// `MAINSTAY_ADMIN_EMAIL`: the first account, on a server that has none.
    pub admin_email: Option<String>,
    /// `MAINSTAY_ADMIN_PASSWORD`: its password.
    pub admin_password: Option<Secret<String>>,
    /// `MAINSTAY_ADMIN_PASSWORD_FILE`: a file that holds its password.
    pub admin_password_file: Option<PathBuf>,
    /// `LISTEN_FDNAMES`: names of the sockets a service manager passed on, in their order.
    pub socket_names: Vec<String>,
    /// `MAINSTAY_HANDOVER`: this process is to take over from the one that started it (see `app::handover`).
    pub handover: Option<String>,
    /// `NOTIFY_SOCKET`: where a service manager waits to hear that the server is ready.
    pub notify_socket: Option<String>,
    /// `REDISCLI_AUTH`: the password of the Redis that is imported from, as redis-cli takes it.
    pub redis_password: Option<Secret<String>>,
    /// `AWS_ACCESS_KEY_ID`: the access key of the S3 server that is imported from, as AWS's own tools take it.
    pub aws_access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`: its secret.
    pub aws_secret_access_key: Option<Secret<String>>,
    /// `AWS_SESSION_TOKEN`: what goes with a key that is lent for a while.
    pub aws_session_token: Option<Secret<String>>,
    /// `NO_COLOR` (no-color.org) is set, or `TERM` is `dumb`.
    pub no_colour: bool,
}

/// Variables that are no settings. The last ones are what `mainstay env` prints, so a sourced `.env` is no mistake.
const KNOWN: [&str; 6] = ["MASTER_KEY", "MASTER_KEY_FILE", "CONFIG", "DATA", "URL", "API_TOKEN"];

impl Environment {
    /// Reads the environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn read() -> Self {
        Self::from_pairs(std::env::vars_os().filter_map(|(name, text)| {
            // Variables that are no UTF-8 are none of ours.
            Some((name.into_string().ok()?, text.into_string().ok()?))
        }))
    }

    /// Takes what Mainstay knows out of `pairs`. An empty secret or path counts as absent; an empty setting is a value.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut out = Self::default();
        for (name, text) in pairs {
            let given = (!text.is_empty()).then_some(&text);
            match name.as_str() {
                "MAINSTAY_MASTER_KEY" => out.master_key = given.cloned().map(Secret::new),
                "MAINSTAY_MASTER_KEY_FILE" => out.master_key_file = given.map(PathBuf::from),
                "MAINSTAY_MASTER_KEY_PREVIOUS" => out.master_key_previous = given.cloned().map(Secret::new),
                "MAINSTAY_MASTER_KEY_PREVIOUS_FILE" => out.master_key_previous_file = given.map(PathBuf::from),
                "CREDENTIALS_DIRECTORY" => out.credentials = given.map(PathBuf::from),
                "MINIO_ROOT_USER" => out.root_user = given.cloned(),
                "MINIO_ROOT_PASSWORD" => out.root_password = given.cloned().map(Secret::new),
                "MAINSTAY_ADMIN_EMAIL" => out.admin_email = given.cloned(),
                "MAINSTAY_ADMIN_PASSWORD" => out.admin_password = given.cloned().map(Secret::new),
                "MAINSTAY_ADMIN_PASSWORD_FILE" => out.admin_password_file = given.map(PathBuf::from),
                "LISTEN_FDNAMES" => out.socket_names = text.split(':').map(str::to_owned).collect(),
                "MAINSTAY_HANDOVER" => out.handover = given.cloned(),
                "NOTIFY_SOCKET" => out.notify_socket = given.cloned(),
                "REDISCLI_AUTH" => out.redis_password = given.cloned().map(Secret::new),
                "AWS_ACCESS_KEY_ID" => out.aws_access_key_id = given.cloned(),
                "AWS_SECRET_ACCESS_KEY" => out.aws_secret_access_key = given.cloned().map(Secret::new),
                "AWS_SESSION_TOKEN" => out.aws_session_token = given.cloned().map(Secret::new),
                "NO_COLOR" => out.no_colour |= given.is_some(),
                "TERM" => out.no_colour |= text == "dumb",
                name => match name.strip_prefix(PREFIX) {
                    Some(rest) if rest.contains("__") => out.settings.push((name.to_owned(), text)),
                    Some(rest) if !KNOWN.contains(&rest) => out.strange.push(name.to_owned()),
                    _ => {}
                },
            }
        }
        out.settings.sort();
        out.strange.sort();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
    }

    #[test]
    fn settings_secrets_and_strangers_are_told_apart() {
        let found = environment(&[
            ("MAINSTAY_S3__LISTEN", ""),
            ("MAINSTAY_S3_LISTEN", "x"),
            ("MAINSTAY_URL", "http://localhost:8000"),
            ("MAINSTAY_MASTER_KEY", "hunter2"),
            ("MINIO_ROOT_USER", ""),
            ("HOME", "/root"),
        ]);
        assert_eq!(found.settings, [(String::from("MAINSTAY_S3__LISTEN"), String::new())]);
        assert_eq!(found.strange, ["MAINSTAY_S3_LISTEN"]);
        assert!(found.root_user.is_none());
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
