//! The accept loop and the loop around one connection's dialogue.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::SmtpConfig;
use super::auth::smtp_password;
use super::data::{DataReceiver, Received};
use super::session::{Action, Credentials, LINE_MAX, Rules, Session, too_large};
use crate::accounts::AccessKeys;
use crate::bans::{self, Bans};
use crate::base::supervise::Role;
use crate::base::{Clock, Supervisor};
use crate::mail::message::{self, LineEnds, Message};
use crate::mail::{Envelope, MailError, Outbox, Source, Submission};
use crate::store::StoreError;
use crate::telemetry::{Counter, Metrics};

/// Bytes read at once.
const READ: usize = 16 << 10;

/// Most bytes of answers held before they are sent: those of one read's pipelined commands.
const ANSWERS: usize = 64 << 10;

/// Bytes of the budget for messages that are taken at once.
const SHARE: usize = 64 << 10;

/// What every connection of the door shares.
#[derive(Debug)]
pub struct Door {
    outbox: Outbox,
    keys: Arc<AccessKeys>,
    clock: Arc<dyn Clock>,
    config: SmtpConfig,
    place: Place,
    bans: Bans,
    /// What all messages under way may hold, in shares of [`SHARE`] bytes.
    room: Arc<Semaphore>,
    accepted: Counter,
    refused: Counter,
    logins_failed: Counter,
}

/// Where the door stands.
#[derive(Clone, Debug)]
pub struct Place {
    /// Goes into the passwords of its users.
    pub region: String,
    /// The name it greets with.
    pub host: String,
}

impl Door {
    /// A door into `outbox` for the holders of `keys`, of whom `bans` hears who has none.
    pub fn new(
        outbox: Outbox,
        keys: Arc<AccessKeys>,
        clock: Arc<dyn Clock>,
        config: SmtpConfig,
        place: Place,
        bans: Bans,
        metrics: &Metrics,
    ) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let room = config.max_held.as_usize().max(outbox.config().max_message.as_usize());
        let room = Arc::new(Semaphore::new((room / SHARE + 1).min(Semaphore::MAX_PERMITS)));
        Self {
            outbox,
            keys,
            clock,
            config,
            place,
            bans,
            room,
            accepted: counter("mainstay_smtp_messages_total", "Messages taken in over SMTP"),
            refused: counter("mainstay_smtp_refused_total", "Commands and messages refused"),
            logins_failed: counter("mainstay_smtp_logins_failed_total", "Logins with wrong credentials"),
        }
    }

    fn rules(&self) -> Rules {
        let mail = self.outbox.config();
        Rules {
            host: self.place.host.clone(),
            max_message: mail.max_message.bytes(),
            max_recipients: mail.max_recipients,
        }
    }

    /// The user, if the credentials are right.
    fn check(&self, credentials: &Credentials) -> Option<String> {
        let (key, now) = (self.keys.secret(credentials.user()), self.clock.now());
        let matches = |secret| credentials.matches(smtp_password(&secret, &self.place.region).expose());
        let right = key.filter(|key| key.mail_secrets(now).into_iter().any(matches));
        if right.is_none() {
            self.logins_failed.inc();
        }
        right.map(|key| key.id.clone())
    }

    /// Queues a message; the answer to the client says what became of it.
    async fn submit(&self, peer: IpAddr, user: &str, envelope: Envelope, body: Body) -> String {
        let answer = match body {
            Body::TooLarge => Err(too_large(self.outbox.config().max_message.bytes())),
            Body::NoRoom => Err("452 4.3.1 Too many messages at once, try again later\r\n".to_owned()),
            Body::Text(text, _held) => self.queue(peer, user, envelope, &text).await.map_err(|error| refusal(&error)),
        };
        match answer {
            Ok(id) => {
                self.accepted.inc();
                format!("250 2.0.0 OK: queued as {id}\r\n")
            }
            Err(text) => {
                self.refused.inc();
                text
            }
        }
    }

    async fn queue(&self, peer: IpAddr, user: &str, envelope: Envelope, text: &[u8]) -> Result<String, MailError> {
        let (id, now) = (self.outbox.fresh_id(), self.clock.now());
        let name = id.to_string();
        let message = Message::parse(text, LineEnds::Strict, now, &name, &self.place.host)?;
        let idempotency = message.header("Idempotency-Key").or_else(|| message.header("X-Idempotency-Key"));
        let accepted = self
            .outbox
            .accept(Submission {
                id,
                envelope,
                trace: message::received(peer, &self.place.host, "ESMTPA", &name, now),
                message,
                source: Source::Smtp,
                idempotency: idempotency.map(|key| format!("smtp\0{user}\0{key}")),
                urgent: false,
                useful_for: None,
            })
            .await?;
        Ok(accepted.id.to_string())
    }
}

/// The SMTP answer to a message the outbox refused.
fn refusal(error: &MailError) -> String {
    match error {
        MailError::TooLarge { most, .. } => too_large(*most),
        MailError::TooManyRecipients { .. } => "452 4.5.3 Too many recipients\r\n".to_owned(),
        MailError::QueueFull { .. } => "452 4.3.1 Mail queue full, try again later\r\n".to_owned(),
        MailError::Store(StoreError::Full { .. }) => "452 4.3.1 Insufficient system storage\r\n".to_owned(),
        MailError::Malformed(reason) => format!("550 5.6.0 Message refused: {reason}\r\n"),
        MailError::Header { .. } | MailError::Address { .. } | MailError::Missing(_) => {
            "550 5.6.0 Message refused: malformed header\r\n".to_owned()
        }
        error => {
            tracing::error!(%error, "a submitted message could not be stored");
            "451 4.3.0 Message not stored, try again later\r\n".to_owned()
        }
    }
}

/// Accepts connections until the server drains, each a task of its own.
///
/// # Cancel safety
/// Dropping it stops accepting; connections go on.
pub async fn serve(listener: TcpListener, door: Arc<Door>, supervisor: Supervisor) {
    let places = Arc::new(Semaphore::new(door.config.max_clients as usize));
    let shutdown = supervisor.shutdown().clone();
    let mut draining = std::pin::pin!(shutdown.draining());
    loop {
        let accepted = tokio::select! {
            () = draining.as_mut() => return,
            accepted = listener.accept() => accepted,
        };
        let (mut stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // For want of descriptors the same connection would fail again at once.
                tracing::warn!(door = "smtp", %error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if door.bans.shuts_out(peer.ip()) {
            continue;
        }
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let (door, shutdown) = (Arc::clone(&door), shutdown.clone());
                supervisor.task("smtp-connection", Role::Ordinary, async move {
                    tokio::select! {
                        () = shutdown.forced() => {}
                        // A client that goes away is no event.
                        _ = converse(stream, peer, &door, &shutdown, place) => {}
                    }
                });
            }
            Err(_full) => {
                supervisor.task("smtp-refusal", Role::Ordinary, async move {
                    let text = b"421 4.3.2 Too many connections, try again later\r\n";
                    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(text)).await;
                });
            }
        }
    }
}

/// One connection, from greeting to end.
async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    door: &Door,
    shutdown: &crate::base::Shutdown,
    _place: OwnedSemaphorePermit,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session::new(door.rules());
    let idle = door.config.idle_timeout.duration();
    let mut input = Vec::new();
    let mut answers = session.greeting().into_bytes();
    let mut errors = 0;
    loop {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            let mut action = session.line(&line);
            if let Action::Check(credentials) = &action {
                let user = door.check(credentials);
                let banned = user.is_none() && door.bans.failed_login(peer.ip(), bans::Door::Smtp);
                action = match session.logged_in(user) {
                    _ if banned => Action::Close("421 4.7.0 Too many failed log-ins\r\n"),
                    action => action,
                };
            }
            match action {
                Action::Answer(text) => answers.extend_from_slice(text.as_bytes()),
                Action::Refuse(text) => {
                    answers.extend_from_slice(text.as_bytes());
                    door.refused.inc();
                    errors += 1;
                }
                Action::Close(text) => {
                    answers.extend_from_slice(text.as_bytes());
                    return send(&mut stream, &mut answers, idle).await;
                }
                Action::Check(_) => {}
                Action::Data(text, envelope) => {
                    answers.extend_from_slice(text.as_bytes());
                    send(&mut stream, &mut answers, idle).await?;
                    let Some(body) = data(&mut stream, &mut input, door, idle).await? else {
                        answers.extend_from_slice(b"521 5.5.2 Lone carriage return or line feed\r\n");
                        return send(&mut stream, &mut answers, idle).await;
                    };
                    let user = session.user().unwrap_or_default().to_owned();
                    let answer = door.submit(peer.ip(), &user, envelope, body).await;
                    answers.extend_from_slice(answer.as_bytes());
                }
            }
            if errors > door.config.max_errors {
                answers.extend_from_slice(b"421 4.7.0 Too many errors\r\n");
                return send(&mut stream, &mut answers, idle).await;
            }
            if answers.len() > ANSWERS {
                send(&mut stream, &mut answers, idle).await?;
            }
        }
        if input.len() > LINE_MAX {
            answers.extend_from_slice(b"500 5.5.2 Line too long\r\n");
            return send(&mut stream, &mut answers, idle).await;
        }
        send(&mut stream, &mut answers, idle).await?;
        let read = tokio::select! {
            read = receive(&mut stream, &mut input, idle) => read?,
            () = shutdown.draining() => {
                answers.extend_from_slice(b"421 4.3.2 Service shutting down\r\n");
                return send(&mut stream, &mut answers, idle).await;
            }
        };
        if !read {
            return Ok(());
        }
    }
}

/// What followed DATA.
enum Body {
    /// A message, and its share of the budget.
    Text(Vec<u8>, Option<OwnedSemaphorePermit>),
    /// One above the limit.
    TooLarge,
    /// One there was no room for beside all others.
    NoRoom,
}

/// Takes in a message that follows DATA; `None` when a lone line end made it untrustworthy.
async fn data(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    door: &Door,
    idle: Duration,
) -> std::io::Result<Option<Body>> {
    let mut receiver = DataReceiver::new(door.outbox.config().max_message.as_usize());
    let mut share: Option<OwnedSemaphorePermit> = None;
    let mut no_room = false;
    loop {
        let received = receiver.receive(input);
        if !no_room && !grow(&mut share, receiver.held(), &door.room) {
            (no_room, share) = (true, None);
            receiver.give_up();
        }
        match received {
            Received::End(used) => {
                input.drain(..used);
                return Ok(Some(match receiver.finish() {
                    _ if no_room => Body::NoRoom,
                    Some(text) => Body::Text(text, share),
                    None => Body::TooLarge,
                }));
            }
            Received::LoneLineEnd => {
                door.refused.inc();
                return Ok(None);
            }
            Received::More => input.clear(),
        }
        if !receive(stream, input, idle).await? {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Makes `share` as large as a message that holds `bytes` needs; `false` when the budget has no more.
fn grow(share: &mut Option<OwnedSemaphorePermit>, bytes: usize, room: &Arc<Semaphore>) -> bool {
    let needed = bytes.div_ceil(SHARE);
    let more = needed.saturating_sub(share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    let Ok(more) = u32::try_from(more) else { return false };
    if more == 0 {
        return true;
    }
    match (Arc::clone(room).try_acquire_many_owned(more), share.as_mut()) {
        (Ok(permit), Some(share)) => share.merge(permit),
        (Ok(permit), None) => *share = Some(permit),
        (Err(_none_left), _) => return false,
    }
    true
}

/// Reads more into `input`; `false` at the end of the connection or after `idle`.
async fn receive(stream: &mut TcpStream, input: &mut Vec<u8>, idle: Duration) -> std::io::Result<bool> {
    input.reserve(READ);
    match tokio::time::timeout(idle, stream.read_buf(input)).await {
        Ok(read) => Ok(read? > 0),
        Err(_elapsed) => {
            let _ = stream.write_all(b"421 4.4.2 Idle for too long\r\n").await;
            Ok(false)
        }
    }
}

async fn send(stream: &mut TcpStream, answers: &mut Vec<u8>, idle: Duration) -> std::io::Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    tokio::time::timeout(idle, stream.write_all(answers)).await??;
    answers.clear();
    Ok(())
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
