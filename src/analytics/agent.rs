//! What a `User-Agent` tells, in a word: whether a person is behind it, and which browser on what. Never a version: with one
//! it would be half a fingerprint.

/// Words in the names of programs that no person looks at pages with.
const PROGRAMS: [&str; 34] = [
    "bot",
    "crawl",
    "spider",
    "slurp",
    "headless",
    "phantom",
    "selenium",
    "puppeteer",
    "playwright",
    "lighthouse",
    "pagespeed",
    "gtmetrix",
    "facebookexternalhit",
    "facebookcatalog",
    "preview",
    "scrap",
    "scan",
    "monitor",
    "uptime",
    "pingdom",
    "statuscake",
    "archive",
    "index",
    "validator",
    "checker",
    "feed",
    "rss",
    "curl",
    "wget",
    "python",
    "http-client",
    "httpclient",
    "mediapartners",
    "google-read-aloud",
];

/// Whether `agent` is a program's. Every browser since 1998 begins with one of two words; programs that do so too name
/// themselves in what follows.
pub fn is_program(agent: &str) -> bool {
    if !agent.starts_with("Mozilla/") && !agent.starts_with("Opera/") {
        return true;
    }
    let agent = agent.to_ascii_lowercase();
    // A telephone of that name, not a program.
    PROGRAMS.iter().any(|word| agent.contains(word)) && !agent.contains("cubot")
}

/// The first name whose mark is in `agent`.
fn first(agent: &str, marks: &[(&str, &'static str)]) -> &'static str {
    marks.iter().find(|(mark, _)| agent.contains(mark)).map_or("other", |(_, name)| name)
}

/// The browser. Most of them name others too, so the order counts.
pub fn browser(agent: &str) -> &'static str {
    first(
        agent,
        &[
            ("Edg", "Edge"),
            ("OPR/", "Opera"),
            ("Opera", "Opera"),
            ("SamsungBrowser/", "Samsung Internet"),
            ("Vivaldi/", "Vivaldi"),
            ("YaBrowser/", "Yandex"),
            ("DuckDuckGo/", "DuckDuckGo"),
            ("Firefox/", "Firefox"),
            ("FxiOS/", "Firefox"),
            ("Chrome/", "Chrome"),
            ("CriOS/", "Chrome"),
            ("Safari/", "Safari"),
            ("AppleWebKit/", "Safari"),
        ],
    )
}

/// The system it runs on.
pub fn system(agent: &str) -> &'static str {
    first(
        agent,
        &[
            ("iPhone", "iOS"),
            ("iPad", "iOS"),
            ("iPod", "iOS"),
            ("Android", "Android"),
            ("Windows", "Windows"),
            ("CrOS", "ChromeOS"),
            ("Macintosh", "macOS"),
            ("Linux", "Linux"),
            ("X11", "Linux"),
        ],
    )
}

/// The kind of device.
pub fn device(agent: &str) -> &'static str {
    let is_tablet =
        agent.contains("iPad") || agent.contains("Tablet") || (agent.contains("Android") && !agent.contains("Mobi"));
    if is_tablet {
        "tablet"
    } else if agent.contains("Mobi") || agent.contains("iPhone") {
        "phone"
    } else {
        "desktop"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        for (agent, wanted) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
                ("Chrome", "Linux", "desktop"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
                ("Edge", "Windows", "desktop"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
                ("Safari", "iOS", "phone"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 16; SM-X200) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Safari/537.36",
                ("Samsung Internet", "Android", "tablet"),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:144.0) Gecko/20100101 Firefox/144.0",
                ("Firefox", "macOS", "desktop"),
            ),
        ] {
            assert_eq!((browser(agent), system(agent), device(agent)), wanted);
            assert!(!is_program(agent), "{agent}");
        }
    }

    #[test]
    fn programs_are_no_visitors() {
        for agent in [
            "",
            "curl/8.5.0",
            "Go-http-client/2.0",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36",
            "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        ] {
            assert!(is_program(agent), "{agent}");
        }
        assert!(!is_program(
            "Mozilla/5.0 (Linux; Android 9; CUBOT X20) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36"
        ));
    }
}
