//! Which names certificates are ordered for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::config::MAX_NAMES;
use crate::edge::config::EdgeConfig;
use crate::edge::host::Pattern;

/// The names certificates are ordered for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// All of them.
    pub fn into_set(self) -> BTreeSet<String> {
        self.0
    }

    /// Whether `name` is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The names of `config` that an authority could know, with those of the doors of `labels`. What a wildcard among them
    /// has is left to it, unless it is asked for by name.
    pub fn of(config: &EdgeConfig, labels: &[&str]) -> Self {
        let acme = &config.acme;
        if !acme.agree_terms {
            return Self::default();
        }
        let doors = labels.iter().map(|label| format!("{label}.{}", config.domain));
        let hosts = config.sites.iter().flat_map(|site| &site.hosts).filter_map(|host| match host.parse() {
            Ok(Pattern::Exact(name)) => Some(name),
            Ok(Pattern::Below(suffix)) => Some(format!("*{suffix}")).filter(|name| acme.in_dns(name)),
            _ => None,
        });
        let all = std::iter::once(config.domain.clone()).chain(doors).chain(hosts).chain(acme.names.iter().cloned());
        let skipped = |name: &String| acme.skip.iter().any(|skip| skip.eq_ignore_ascii_case(name));
        let known = |name: &String| {
            name.contains('.')
                && !name.ends_with(".localhost")
                && !name.contains('_')
                && name.parse::<IpAddr>().is_err()
                && !config.internal_ca.has(name)
        };
        let all = all.map(|name| name.to_ascii_lowercase()).filter(|name| known(name) && !skipped(name));
        let mut all: BTreeSet<String> = all.take(MAX_NAMES).collect();
        let wild: BTreeSet<String> = all.iter().filter(|name| name.starts_with("*.")).cloned().collect();
        let asked_for = |name: &str| acme.names.iter().any(|named| named.eq_ignore_ascii_case(name));
        all.retain(|name| {
            let has = name.split_once('.').is_some_and(|(_, parent)| wild.contains(&format!("*.{parent}")));
            !has || wild.contains(name) || asked_for(name)
        });
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let config: EdgeConfig = toml::from_str(text).unwrap();
        Names::of(&config, &["s3"]).into_set().into_iter().collect()
    }

    #[test]
    fn names_are_those_an_authority_could_know_and_none_without_consent() {
        let sites = "[[sites]]\nhosts = [\"Shop.example\", \"*.example.com\", \"10.0.0.1\", \"localhost\"]\n";
        let acme = "[acme]\nagree_terms = true\nnames = [\"b.example\"]\nskip = [\"S3.example.com\"]\n";
        let all = format!("domain = \"example.com\"\n{sites}{acme}");
        assert_eq!(names(&all), ["b.example", "example.com", "shop.example"]);
        assert!(names(&all.replace("true", "false")).is_empty());
        assert!(names("[acme]\nagree_terms = true").is_empty());
    }

    #[test]
    fn a_wildcard_needs_the_dns_and_has_what_is_below_it() {
        let sites =
            "[[sites]]\nhosts = [\"a.example.com\", \"*.example.com\", \"*.example.org\", \"b.a.example.com\"]\n";
        let acme = "[acme]\nagree_terms = true\nnames = [\"x.example.com\"]\n";
        let dns = "[[acme.dns]]\ndomains = [\"example.com\"]\n";
        let all = format!("domain = \"example.com\"\n{sites}{acme}{dns}");
        assert_eq!(names(&all), ["*.example.com", "b.a.example.com", "example.com", "x.example.com"]);
    }
}
