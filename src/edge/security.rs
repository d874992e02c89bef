//! The security headers a site's responses get where the app set none.

use http::header::{REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::config::SecurityConfig;
use super::host::Host;

/// The preset, ready to be copied into responses.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    always: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    /// The headers `config` names. Values that are no header values were refused by
    /// [`EdgeConfig::validate`](super::EdgeConfig::validate).
    pub fn new(config: &SecurityConfig) -> Self {
        let always = [
            (X_CONTENT_TYPE_OPTIONS, &config.content_type_options),
            (X_FRAME_OPTIONS, &config.frame_options),
            (REFERRER_POLICY, &config.referrer_policy),
            (HeaderName::from_static("permissions-policy"), &config.permissions_policy),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)))
        .collect();
        let seconds = config.hsts.duration().as_secs();
        let subdomains = if config.hsts_subdomains { "; includeSubDomains" } else { "" };
        let hsts = HeaderValue::from_str(&format!("max-age={seconds}{subdomains}")).ok().filter(|_| seconds > 0);
        Self { always, hsts }
    }

    /// Adds what is missing to a response for `host`; `secure` tells whether the client came over TLS.
    pub fn add(&self, headers: &mut HeaderMap, host: &Host, secure: bool) {
        for (name, value) in &self.always {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        if let Some(hsts) = &self.hsts
            && secure
            && !host.is_local()
            && !headers.contains_key(STRICT_TRANSPORT_SECURITY)
        {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(config: &SecurityConfig, host: &str, secure: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        SecurityHeaders::new(config).add(&mut headers, &host.parse().unwrap(), secure);
        headers
    }

    #[test]
    fn the_apps_own_headers_win() {
        let headers = added(&SecurityConfig::default(), "example.com", true);
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=15552000");
    }

    #[test]
    fn hsts_is_for_domains_over_tls_only() {
        for (host, secure) in [("example.com", false), ("localhost", true), ("127.0.0.1:8443", true), ("[::1]", true)] {
            let headers = added(&SecurityConfig::default(), host, secure);
            assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY), "{host}");
        }
    }

    #[test]
    fn an_empty_text_leaves_a_header_out() {
        let config = SecurityConfig {
            content_type_options: String::new(),
            hsts: crate::base::Span::secs(0),
            ..SecurityConfig::default()
        };
        let headers = added(&config, "example.com", true);
        assert!(!headers.contains_key(X_CONTENT_TYPE_OPTIONS) && !headers.contains_key(STRICT_TRANSPORT_SECURITY));
    }
}
