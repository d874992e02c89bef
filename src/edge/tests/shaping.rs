//! What a site changes, and who may enter it.

use super::*;

fn ask(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{more}Connection: close\r\n\r\n")
}

fn put(path: &std::path::Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

#[tokio::test]
async fn paths_and_headers_are_changed_for_the_app_and_redirects_come_first() {
    let settings = format!(
        "{PLAIN}app = \"\"\n[[sites]]\npath = \"/api\"\nupstream = \"ORIGIN\"\nstrip_path = true\nrewrites = ['^/v1/(.*)$ /$1']\n\
         redirects = ['^/api/old/(.*)$ /api/$1 308']\nrequest_headers = [\"X-Key: secret\", \"Cookie:\", \"+Accept: x/y\"]\n"
    );
    let trial = with_origin(&settings, ok).await;
    let answer = trial.talk(ask("/api/old/a?b=c", "")).await;
    assert!(status(&answer) == 308 && answer.contains("location: /api/a?b=c\r\n"), "{answer}");
    let answer = trial.talk(ask("/api/v1/users?x=1", "X-Key: mine\r\nCookie: a=b\r\nAccept: a/b\r\n")).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let seen = trial.only_request().to_ascii_lowercase();
    assert!(seen.starts_with("get /users?x=1 http/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-key: secret") && !seen.contains("mine") && !seen.contains("cookie"), "{seen}");
    assert!(seen.contains("accept: a/b") && seen.contains("accept: x/y"), "{seen}");
}

#[tokio::test]
async fn errors_have_the_sites_own_pages_and_the_apps_where_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("error.html");
    put(&page, "our own words");
    let down = format!(
        "{PLAIN}[[sites]]\nupstream = \"127.0.0.1:1\"\nerror_pages = [\"5xx: {0}\"]\n[[sites]]\npath = \"/theirs\"\n\
         upstream = \"ORIGIN\"\nerror_pages = [\"404: {0}\"]\n[[sites]]\npath = \"/ours\"\nupstream = \"ORIGIN\"\n\
         error_pages = [\"404: {0}\"]\nintercept_errors = true\n",
        page.display()
    );
    let trial = with_origin(&down, |_| "HTTP/1.1 404 No\r\nContent-Length: 6\r\nX-A: b\r\n\r\ntheirs".to_owned()).await;
    for (path, code, words) in
        [("/", 502, "our own words"), ("/theirs", 404, "theirs"), ("/ours", 404, "our own words")]
    {
        let answer = trial.talk(ask(path, "")).await;
        assert!(status(&answer) == code && answer.ends_with(words), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_file_puts_a_site_into_maintenance_and_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maintenance");
    let trial = with_origin(
        &format!("{PLAIN}[[sites]]\nupstream = \"ORIGIN\"\nmaintenance_file = \"{}\"\n", file.display()),
        ok,
    )
    .await;
    let becomes = async |code: u16| {
        let seen = async {
            while status(&trial.talk(ask("/", "")).await) != code {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap();
    };
    becomes(200).await;
    put(&file, "");
    becomes(503).await;
    LocalDisk.remove_file(&file).unwrap();
    becomes(200).await;
}

#[tokio::test]
async fn a_password_is_asked_for_and_the_app_is_told_who_it_is() {
    let hash = bcrypt::hash("open sesame", 8).unwrap();
    let settings = format!("{PLAIN}[[sites]]\nupstream = \"ORIGIN\"\nbasic_auth = ['ada:{hash}']\n");
    let trial = with_origin(&settings, ok).await;
    let answer = trial.talk(ask("/", "")).await;
    assert!(status(&answer) == 401 && answer.contains("www-authenticate: Basic realm=\"Restricted\""), "{answer}");
    // ada:wrong
    assert_eq!(status(&trial.talk(ask("/", "Authorization: Basic YWRhOndyb25n\r\n")).await), 401);
    // ada:open sesame
    let good = "Authorization: Basic YWRhOm9wZW4gc2VzYW1l\r\nRemote-User: root\r\n";
    assert_eq!(status(&trial.talk(ask("/", good)).await), 200);
    let seen = trial.only_request().to_ascii_lowercase();
    assert!(
        seen.contains("remote-user: ada\r\n") && !seen.contains("root") && !seen.contains("authorization"),
        "{seen}"
    );
}

#[tokio::test]
async fn another_service_says_who_enters() {
    let supervisor = Supervisor::new(Shutdown::new());
    let service = Origin::start(&supervisor, |request| {
        let known = request.contains("cookie: session=good");
        if known {
            let head = "HTTP/1.1 200 OK\r\nRemote-User: ada\r\nRemote-Groups: admins\r\nSet-Cookie: renewed=1\r\nX-Other: no\r\n";
            return format!("{head}Content-Length: 2\r\n\r\nok");
        }
        "HTTP/1.1 302 Found\r\nLocation: https://auth.example/?rd=x\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    let settings = format!(
        "{PLAIN}[[sites]]\nupstream = \"ORIGIN\"\nauth_url = \"http://{}/api/authz/auth-request\"\n[[sites]]\npath = \"/lost\"\n\
         upstream = \"ORIGIN\"\nauth_url = \"http://127.0.0.1:1/\"\n",
        service.address
    );
    let trial = with_origin(&settings, ok).await;
    let answer = trial.talk(ask("/a?b=c", "Remote-User: root\r\n")).await;
    assert!(status(&answer) == 302 && answer.contains("location: https://auth.example/?rd=x"), "{answer}");
    let asked = service.requests()[0].to_ascii_lowercase();
    for line in [
        "get /api/authz/auth-request http/1.1\r\n".to_owned(),
        "x-original-url: http://shop.example/a?b=c\r\n".to_owned(),
        "x-original-method: get\r\n".to_owned(),
        "x-forwarded-method: get\r\n".to_owned(),
        "x-forwarded-uri: /a?b=c\r\n".to_owned(),
        "x-forwarded-host: shop.example\r\n".to_owned(),
        "x-forwarded-for: 127.0.0.1\r\n".to_owned(),
        format!("host: {}\r\n", service.address),
    ] {
        assert!(asked.contains(&line), "{line} not in {asked}");
    }
    assert!(!asked.contains("root"), "{asked}");
    for _ in 0..2 {
        let answer = trial.talk(ask("/", "Cookie: session=good\r\nRemote-User: root\r\nRemote-Email: r@x\r\n")).await;
        assert!(status(&answer) == 200 && answer.contains("set-cookie: renewed=1"), "{answer}");
    }
    let seen = trial.origin.requests()[0].to_ascii_lowercase();
    assert!(seen.contains("remote-user: ada\r\n") && seen.contains("remote-groups: admins\r\n"), "{seen}");
    assert!(!seen.contains("root") && !seen.contains("r@x") && !seen.contains("x-other"), "{seen}");
    assert_eq!(service.connections.load(Ordering::SeqCst), 1, "one connection for all questions");
    assert_eq!(status(&trial.talk(ask("/lost", "")).await), 502);
    supervisor.shutdown().force();
}

/// An edge whose settings name its origin as `ORIGIN`.
async fn with_origin(settings: &str, reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Trial {
    let supervisor = Supervisor::new(Shutdown::new());
    let origin = Origin::start(&supervisor, reply).await;
    let settings = settings.replace("ORIGIN", &origin.address.to_string());
    let mut trial = trial(&settings, ok).await;
    trial.origin = origin;
    let stop = trial.supervisor.shutdown().clone();
    trial.supervisor.task("test stop", Role::Ordinary, async move {
        stop.forced().await;
        supervisor.shutdown().force();
    });
    trial
}
