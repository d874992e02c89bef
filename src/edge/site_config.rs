//! The settings of one site.

use super::balance::Balance;
use super::compress::Compress;
use super::mutual::ClientCert;
use super::peer::Verify;
use super::security::Preset;
use crate::base::{ByteSize, Span};
use crate::settings;

settings! {
    /// One site: which requests, and where they go.
    pub struct SiteConfig {
        /// Host names, each exact (`example.com`) or with a wildcard for one or more labels (`*.example.com`). None means
        /// every host.
        pub hosts: Vec<String> = Vec::new(),
        /// Path prefix, matched on whole segments: `/api` takes `/api` and `/api/x`, not `/apis`. It is not cut off.
        pub path: String = String::from("/"),
        /// Where the requests go: `http://127.0.0.1:3000`, `127.0.0.1:3000`, a Unix socket, `unix:/run/app.sock`, TLS,
        /// `https://app.internal`, or HTTP/2, without TLS `h2c://127.0.0.1:50051` and with it `h2://app.internal` (gRPC;
        /// WebSockets need HTTP/1.1). A site has either this, or `upstreams`, or `root`, or `redirect`.
        pub upstream: String = String::new(),
        /// Several copies of one app. One that does not take connections, or breaks off or answers too late `failures`
        /// times in a row, gets no requests for `failure_pause`; when all are like that, all are tried. A request that
        /// reached none is sent to the next, and so is one without a body that may be repeated (GET, HEAD, OPTIONS, PUT,
        /// DELETE) when the connection broke.
        pub upstreams: Vec<String> = Vec::new(),
        /// Which copy a request goes to: `least-connections`, the one with the fewest requests under way, as one worker
        /// sees it; `round-robin`; `random-two`, the less busy of two taken by chance; `cookie`, a browser stays with its
        /// copy; `address`, a client's address does (IPv6: its /64).
        pub balance: Balance = Balance::LeastConnections,
        /// The cookie of `balance = "cookie"`.
        pub sticky_cookie: String = String::from("mainstay-copy"),
        /// `Host` that the app is sent: empty, what the client asked for; `$upstream`, the app's own name; or a name.
        /// `X-Forwarded-Host` always has what the client asked for.
        pub upstream_host: String = String::new(),
        /// For `https://` and `h2://`: a file with the certificates (PEM) of the only authorities trusted. Empty: those of
        /// the machine.
        pub upstream_ca: String = String::new(),
        /// For `https://` and `h2://`: the name that the app's certificate must have, also sent to it (SNI). Empty: that
        /// of its address.
        pub upstream_name: String = String::new(),
        /// For `https://` and `h2://`: `full`, or `insecure`, which takes any certificate.
        pub upstream_verify: Verify = Verify::Full,
        /// Connecting, TLS included; 0s takes `edge.timeouts.connect`.
        pub connect_timeout: Span = Span::secs(0),
        /// To the response's head; 0s takes `edge.timeouts.response`.
        pub response_timeout: Span = Span::secs(0),
        /// Longest pause within a response; 0s takes `edge.timeouts.read`.
        pub read_timeout: Span = Span::secs(0),
        /// Failed requests in a row that leave a copy out for `failure_pause`. No connection is enough by itself.
        pub failures: u32 = 3,
        /// For how long.
        pub failure_pause: Span = Span::secs(10),
        /// Ask every copy for this path, such as `/healthz`, and leave out the ones that do not answer well; empty asks
        /// nothing.
        pub health_path: String = String::new(),
        /// `Host` of these requests; empty takes the copy's own name.
        pub health_host: String = String::new(),
        /// From one to the next.
        pub health_interval: Span = Span::secs(5),
        /// Longest wait for the answer, connecting included.
        pub health_timeout: Span = Span::secs(3),
        /// A good answer's status, or range.
        pub health_status: String = String::from("200-399"),
        /// Good answers in a row that bring a copy back.
        pub health_rise: u32 = 2,
        /// Bad ones in a row that take it out.
        pub health_fall: u32 = 3,
        /// Serve the files of this folder, such as `/srv/app`. Names that begin with a dot (but `/.well-known`) and
        /// symbolic links below the folder are not served; the folder itself may be a link. `name.br`, `name.zst` and
        /// `name.gz` beside a file are sent in its place to who takes them.
        pub root: String = String::new(),
        /// The file that answers for a folder of `root`.
        pub index: String = String::from("index.html"),
        /// The file below `root` that answers for places that are no file, such as `/index.html` for an app that runs in
        /// the browser. A missing picture, script or other known kind of file is still 404. Empty: all are.
        pub fallback: String = String::new(),
        /// `Cache-Control` of files, `pattern: value` each; the first that fits counts, and without one it is `no-cache`
        /// (kept, but asked for again: 304). In a pattern `*` stands for anything; the pattern `hashed` means names with a
        /// hash, such as `app-BxK3d9aQ.js`. A value is a time such as `7d`, `immutable` (a year), or the whole header.
        pub cache: Vec<String> = Vec::new(),
        /// Answer with a redirect to this address; `$uri` stands for path and query of the request, as in
        /// `https://www.example.com$uri`.
        pub redirect: String = String::new(),
        /// Status of `redirect`: 301, 302, 303, 307 or 308.
        pub redirect_status: u16 = 301,
        /// Answer every request with 503 and a page that says the site is being worked on.
        pub maintenance: bool = false,
        /// Addresses or networks that see the site during `maintenance`.
        pub maintenance_except: Vec<String> = Vec::new(),
        /// A file, such as `/run/shop/maintenance`: while it is there, the site is in `maintenance`. It is looked for once a
        /// second.
        pub maintenance_file: String = String::new(),
        /// Patterns of paths that are sent on, `pattern target` or `pattern target status` each, such as
        /// `^/blog/(\\d+)$ https://blog.example.com/$1 302`; the first that fits counts, and comes before any log-in. A
        /// pattern is a regular expression on the path; the query goes along unless the target ends in `?`.
        pub redirects: Vec<String> = Vec::new(),
        /// Patterns of paths that are asked for under another one, `pattern target` each: `^/v1/(.*)$ /$1`. The first that
        /// fits counts.
        pub rewrites: Vec<String> = Vec::new(),
        /// Cut `path` off before the app, or the folder, is asked; `rewrites` see what is left.
        pub strip_path: bool = false,
        /// Request headers for the app, `Name: value` each, set in place of the client's; `Name:` alone takes the header
        /// out, `+Name: value` adds one. `Host` is `upstream_host`.
        pub request_headers: Vec<String> = Vec::new(),
        /// Own pages for errors, `status: file` each, such as `404: /srv/errors/404.html`; a status may be `4xx`, `5xx` or
        /// a range. Files are read at the start and by a reload.
        pub error_pages: Vec<String> = Vec::new(),
        /// Show `error_pages` in place of the app's own errors too.
        pub intercept_errors: bool = false,
        /// A file with the certificates (PEM) of authorities: clients are asked for a certificate of one of them. The app is
        /// told of it in `Client-Cert` (RFC 9440), `X-Client-Cert-Subject`, `X-Client-Cert-Sha256` and
        /// `X-Client-Cert-Verified`. Read at the start and by a reload.
        pub client_ca_file: String = String::new(),
        /// A file with revocation lists (PEM, version 2) of those authorities: clients whose certificate is on one are
        /// refused, and, as with nginx' `ssl_crl`, so are all of an authority without a list, or whose list is past its
        /// time. Read at the start and by a reload.
        pub client_crl_file: String = String::new(),
        /// Who shows no good certificate: `require`, they get 400; `request`, the app is told `none` or `failed` in
        /// `X-Client-Cert-Verified`.
        pub client_cert: ClientCert = ClientCert::Require,
        /// People who enter with a name and a password (HTTP Basic), `name:hash` each; a hash is bcrypt (`htpasswd -nB
        /// ada`) or argon2id. The app is told who it is in `Remote-User`, and not the password.
        pub basic_auth: Vec<String> = Vec::new(),
        /// A file with such lines, as `htpasswd -B` writes it; read at the start and by a reload.
        pub basic_auth_file: String = String::new(),
        /// What browsers show when they ask for the password.
        pub basic_auth_realm: String = String::from("Restricted"),
        /// A service that says whether a request goes on, such as `http://127.0.0.1:9091/api/authz/auth-request` (Authelia):
        /// 2xx lets it through, any other answer below 500 goes to the client. It is told what was asked for in
        /// `X-Original-URL`, `X-Original-Method` and `X-Forwarded-*`.
        pub auth_url: String = String::new(),
        /// Headers of its answer that the app is sent; from clients they never reach the app.
        pub auth_copy: Vec<String> = ["Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"].map(String::from).to_vec(),
        /// For an `auth_url` with `https://`: a file with the certificates (PEM) of the only authorities trusted.
        pub auth_ca: String = String::new(),
        /// Largest request body; 0 takes `edge.limits.body`.
        pub body: ByteSize = ByteSize(0),
        /// Which answers are compressed here (gzip, br, zstd; whatever the client prefers): `off`, `public` or `all`. With
        /// `public` an app's answer to a request with a cookie or `Authorization`, or one that sets a cookie, is left as it
        /// is: compressed, its length would tell something of a secret in it to who can choose another part of it. What is
        /// compressed already, a part, marked `no-transform`, an event stream, or below 512 bytes is always left as it is.
        pub compress: Compress = Compress::Public,
        /// Keep the app's answers for everybody, as far as they say so (`Cache-Control`, `Expires`, `Vary`; RFC 9111): a
        /// shared cache, in memory and with `edge.cache_disk` on disk. An answer that sets a cookie is never kept, and one to a request with a cookie or
        /// `Authorization` only if it says `public` or `s-maxage`. Not for a site with a log-in. `Cache-Status` in the answer
        /// says what was done.
        pub cache_answers: bool = false,
        /// Largest body of an answer that is kept, at most a quarter of `edge.cache_memory` or `edge.cache_disk`, whichever is
        /// larger. With a disk what is larger than a sixteenth of `edge.cache_memory` is kept there only.
        pub cache_max_object: ByteSize = ByteSize::mib(1),
        /// Count its pages and visitors, without cookies, for the console, `mainstay analytics` and
        /// `/v1/sites/<site>/analytics`; `analytics` has what is kept of it. Below its path, `/.mainstay/vitals.js` is a script
        /// that measures pages where they are shown (Web Vitals), for those that name it, and `/.mainstay/vitals` takes what
        /// it sends.
        pub analytics: bool = false,
        /// For how long answers are good that do not say it themselves: a time such as `10m` for 200, 301 and 302, or
        /// `status: time`, such as `404: 1m`. None: they are kept only if `Last-Modified` lets their time be guessed. What an
        /// app forbids (`private`, `no-store`, a cookie) stays forbidden.
        pub cache_default: Vec<String> = Vec::new(),
        /// For how long past its time a kept answer stands in when the app does not answer, or with a status of 500 and above,
        /// where the answer does not say it itself (`stale-if-error`); `must-revalidate` and `no-cache` forbid it.
        pub cache_stale: Span = Span::secs(0),
        /// Add security headers.
        pub security_headers: bool = true,
        /// Which security headers: `standard` is what `edge.security` says; `strict` adds a content security policy that
        /// takes everything from the site itself, forbids frames, and keeps other origins out.
        pub security: Preset = Preset::Standard,
        /// Response headers, `Name: value` each, set in place of what the app or a preset says; `Name:` alone takes the
        /// header out, `+Name: value` adds one.
        pub headers: Vec<String> = Vec::new(),
        /// Rate zones that requests must pass, in this order; past one of them they get 429.
        pub rates: Vec<String> = Vec::new(),
        /// Addresses or networks served, when any is named; all others get 403.
        pub allow: Vec<String> = Vec::new(),
        /// Addresses or networks not served, also if `allow` has them.
        pub deny: Vec<String> = Vec::new(),
    }
}
