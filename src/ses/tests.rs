//! The door as a signed client meets it, over its router.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, StatusCode};

use super::*;
use crate::accounts::FirstCredentials;
use crate::base::Secret;
use crate::http::query::Query;
use crate::http::sigv4::{PathRule, Policy, Signer, sign};
use crate::http::{Handler as _, RouterHandler, body};
use crate::mail::MailConfig;
use crate::testing::{TestClock, TestRandom, memory_store};

const POLICY: Policy<'_> = Policy { service: "ses", region: "us-east-1", path: PathRule::Twice };

struct Bench {
    router: RouterHandler,
    outbox: Outbox,
    clock: Arc<TestClock>,
    signer: Signer,
}

struct Answer {
    status: StatusCode,
    kind: String,
    text: String,
}

fn bench() -> Bench {
    let clock = Arc::new(TestClock::default());
    let random = Arc::new(TestRandom::new(3));
    let metrics = Metrics::new();
    let first = FirstCredentials {
        id: Some("AKIDEXAMPLE".to_owned()),
        secret: Some(Secret::new("a-secret-of-some-length".to_owned())),
    };
    let store = memory_store();
    let keys = AccessKeys::open(&store, random.as_ref(), clock.as_ref(), first).unwrap();
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let outbox = Outbox::new(store, Arc::clone(&shared), random, &metrics, MailConfig::default());
    let region = "us-east-1".to_owned();
    let bans = Bans::open(memory_store(), Arc::clone(&shared), &metrics, crate::bans::Rules::default()).unwrap();
    let door = Door::new(outbox.clone(), Arc::new(keys), shared, region, "mail.example.com".to_owned(), bans, &metrics);
    let signer =
        Signer { access_key_id: "AKIDEXAMPLE".to_owned(), secret: Secret::new("a-secret-of-some-length".to_owned()) };
    Bench { router: RouterHandler::new(Arc::new(door).router()), outbox, clock, signer }
}

impl Bench {
    async fn call(&self, method: Method, path: &str, invocation: &str, text: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("host", "127.0.0.1:8000".parse().unwrap());
        if !invocation.is_empty() {
            headers.insert("amz-sdk-invocation-id", invocation.parse().unwrap());
        }
        let query = Query::parse("").unwrap();
        let now = self.clock.now();
        sign(&self.signer, POLICY, (&method, path, &query), &mut headers, text.as_bytes(), now).unwrap();
        self.send(method, path, headers, text).await
    }

    async fn send(&self, method: Method, path: &str, headers: HeaderMap, text: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).body(Body::from(text.to_owned())).unwrap();
        *request.headers_mut() = headers;
        let peer = Peer { address: "127.0.0.1:4242".parse().unwrap(), secure: false, door: "console" };
        let response = self.router.call(request, peer).await;
        let status = response.status();
        let kind = response.headers().get("x-amzn-errortype").map(|kind| kind.to_str().unwrap().to_owned());
        let text = body::read(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, kind: kind.unwrap_or_default(), text: String::from_utf8(text.to_vec()).unwrap() }
    }

    async fn only_message(&self) -> (crate::mail::outbox::Record, String) {
        let mut messages = self.outbox.messages(None, 10).await.unwrap();
        assert_eq!(messages.len(), 1);
        let message = messages.remove(0);
        let text = self.outbox.text(message.id).await.unwrap();
        (message, String::from_utf8(text).unwrap())
    }
}

const V2: &str = "/ses/v2/email/outbound-emails";

fn simple(subject: &str) -> String {
    serde_json::json!({
        "FromEmailAddress": "Shop <shop@example.com>",
        "Destination": { "ToAddresses": ["ada@example.com"], "BccAddresses": ["eve@example.com"] },
        "Content": { "Simple": {
            "Subject": { "Data": subject, "Charset": "UTF-8" },
            "Body": { "Text": { "Data": "hello" }, "Html": { "Data": "<p>hello</p>" } },
        } },
    })
    .to_string()
}

#[tokio::test]
async fn v2_simple_mail_is_queued_once_for_each_recipient() {
    let bench = bench();
    let answer = bench.call(Method::POST, V2, "", &simple("Welcome")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let (message, text) = bench.only_message().await;
    assert!(answer.text.contains(&message.id.to_string()));
    assert_eq!(message.deliveries.len(), 2);
    assert!(text.contains("Subject: Welcome\r\n") && !text.contains("eve@"), "{text}");
}

#[tokio::test]
async fn a_retry_with_the_same_invocation_is_one_mail_with_the_same_id() {
    let bench = bench();
    let first = bench.call(Method::POST, V2, "b9a1", &simple("Welcome")).await;
    let again = bench.call(Method::POST, V2, "b9a1", &simple("Welcome")).await;
    assert_eq!(first.text, again.text);
    bench.only_message().await;
}

#[tokio::test]
async fn query_mail_is_queued_and_answered_in_xml() {
    let bench = bench();
    let form = "Action=SendEmail&Version=2010-12-01&Source=shop%40example.com\
                &Destination.ToAddresses.member.1=ada%40example.com&Message.Subject.Data=Hi\
                &Message.Body.Text.Data=hello+there";
    let answer = bench.call(Method::POST, "/ses/", "", form).await;
    let (message, text) = bench.only_message().await;
    assert!(answer.text.contains(&format!("<MessageId>{}</MessageId>", message.id)), "{}", answer.text);
    assert!(text.ends_with("hello there\r\n"), "{text}");
    let quota = bench.call(Method::POST, "/ses/", "", "Action=GetSendQuota").await;
    assert!(quota.text.contains("<SentLast24Hours>1.0</SentLast24Hours>"), "{}", quota.text);
}

#[tokio::test]
async fn raw_mail_takes_its_recipients_from_its_header_and_drops_bcc() {
    use base64::Engine as _;
    let bench = bench();
    let raw = "From: shop@example.com\nTo: Ada <ada@example.com>\nBcc: eve@example.com\nSubject: hi\n\nbody\n";
    let data = base64::engine::general_purpose::STANDARD.encode(raw);
    let data = percent_encoding::utf8_percent_encode(&data, percent_encoding::NON_ALPHANUMERIC);
    let form = format!("Action=SendRawEmail&RawMessage.Data={data}");
    let answer = bench.call(Method::POST, "/ses/", "", &form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let (message, text) = bench.only_message().await;
    let to: Vec<&str> = message.deliveries.iter().map(|delivery| delivery.to.as_str()).collect();
    assert_eq!(to, ["ada@example.com", "eve@example.com"]);
    assert!(!text.contains("Bcc"), "{text}");
}

#[tokio::test]
async fn nobody_sends_without_a_valid_signature() {
    let bench = bench();
    let unsigned = bench.send(Method::POST, V2, HeaderMap::new(), &simple("x")).await;
    assert_eq!((unsigned.status, unsigned.kind.as_str()), (StatusCode::FORBIDDEN, "MissingAuthenticationToken"));

    let forged = Bench { signer: Signer { secret: Secret::new("other".to_owned()), ..bench.signer.clone() }, ..bench };
    let answer = forged.call(Method::POST, V2, "", &simple("x")).await;
    assert_eq!((answer.status, answer.kind.as_str()), (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"));
    let answer = forged.call(Method::POST, "/ses/", "", "Action=SendEmail").await;
    assert!(answer.text.contains("<Code>SignatureDoesNotMatch</Code>"), "{}", answer.text);
    assert!(forged.outbox.messages(None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn header_injection_and_unknown_operations_are_refused_in_the_protocols_words() {
    let bench = bench();
    let inject = bench.call(Method::POST, V2, "", &simple("x\r\nBcc: eve@example.com")).await;
    assert_eq!((inject.status, inject.kind.as_str()), (StatusCode::BAD_REQUEST, "MessageRejected"));
    let broken = bench.call(Method::POST, V2, "", "{").await;
    assert_eq!((broken.status, broken.kind.as_str()), (StatusCode::BAD_REQUEST, "BadRequestException"));
    let unknown = bench.call(Method::POST, "/ses/", "", "Action=DeleteIdentity").await;
    assert!(unknown.text.contains("<Code>InvalidAction</Code>"), "{}", unknown.text);
    let unknown = bench.call(Method::POST, "/ses/v2/email/templates", "", "{}").await;
    assert_eq!(unknown.kind, "UnknownOperationException");
    assert!(bench.outbox.messages(None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_account_tells_no_quota() {
    let answer = bench().call(Method::GET, "/ses/v2/email/account", "", "").await;
    let account: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(account["SendQuota"]["Max24HourSend"], -1.0);
}
