//! One request and its answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use quinn::{Connection, RecvStream, SendStream, StoppedError, VarInt};
use tokio::time::timeout;

use super::code::{Code, Fault};
use super::frames::{self, DATA, HEADERS};
use super::head;
use super::qpack::{self, Limits, Unreadable};
use super::upload::{Cut, Upload};
use crate::base::Clock;
use crate::http::connection::plain;
use crate::http::load::{Flight, Load};
use crate::http::{Peer, Server};

/// Bytes handed over at once, which is what a client must take within its wait; as for HTTP/2.
const PIECE: usize = 16 << 10;
/// Requests taken back before their answer, from which on they may not be more than half of all: a client that asks only to take
/// it back costs the app as much as one that wants an answer.
const TAKEN_BACK: u32 = 200;

/// What the requests of one connection share.
pub struct Shared {
    /// Answers.
    pub server: Arc<Server>,
    /// What they came over.
    pub connection: Connection,
    /// Who asks.
    pub peer: Peer,
    /// Which are under way.
    pub load: Arc<Load>,
    /// For the `Date` of answers.
    pub clock: Arc<dyn Clock>,
    /// How many there were, and how many of them were taken back.
    pub asked: AtomicU32,
    /// See `asked`.
    pub taken_back: AtomicU32,
}

/// Why an answer is not sent to its end.
enum Unsent {
    /// The stream is reset.
    Reset(Code),
    /// The client wants no more of it.
    Unwanted,
}

/// An answer's stream. A stream that is only dropped would end as if all had been sent.
struct Answering {
    stream: SendStream,
    /// What it is reset with, unless all has been.
    otherwise: Option<Code>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(code) = self.otherwise {
            let _ = self.stream.reset(code.number());
        }
    }
}

/// Ready when the client wants no more of a stream, has got all of it, or is gone.
type Stopped<'a> = Pin<&'a mut (dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send)>;

impl Shared {
    /// How large a head may be.
    pub fn limits(&self) -> Limits {
        let config = self.server.config();
        Limits { bytes: config.max_head.as_usize(), fields: config.max_headers as usize }
    }

    /// Reads the request that comes on a stream, has it answered, and sends the answer. It counts as under way by `flight`
    /// until the client has got all.
    ///
    /// # Cancel safety
    /// Dropping it resets the stream.
    pub async fn serve(self: Arc<Self>, send: SendStream, receive: RecvStream, flight: Flight) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut stopped = pin!(send.stopped());
        let mut answering = Answering { stream: send, otherwise: Some(Code::INTERNAL_ERROR) };
        let upload = Upload::new(self.connection.clone(), receive, self.limits());
        match self.exchange(&mut answering.stream, stopped.as_mut(), upload).await {
            Ok(()) => {
                answering.otherwise = None;
                if answering.stream.finish().is_ok() {
                    // Until it is acknowledged: who closes the connection before takes it back.
                    let _ = timeout(self.patience(), stopped).await;
                }
            }
            Err(Unsent::Reset(code)) => answering.otherwise = Some(code),
            Err(Unsent::Unwanted) => answering.otherwise = Some(Code::REQUEST_CANCELLED),
        }
        drop((answering, flight));
    }

    fn patience(&self) -> Duration {
        self.server.config().write_timeout.duration()
    }

    async fn exchange(
        self: &Arc<Self>,
        send: &mut SendStream,
        mut stopped: Stopped<'_>,
        mut upload: Upload,
    ) -> Result<(), Unsent> {
        let wait = self.server.config().head_timeout.duration();
        let section = match timeout(wait, upload.head()).await {
            Ok(Ok(section)) => section,
            Ok(Err(Cut::Fault(fault))) => return Err(self.broken(fault)),
            Ok(Err(Cut::Gone)) => return Err(self.taken_back()),
            Err(_) => return Err(Unsent::Reset(Code::REQUEST_INCOMPLETE)),
        };
        let fields = match section.map_or(Err(Unreadable::TooLarge), |section| qpack::decode(&section, self.limits())) {
            Ok(fields) => fields,
            Err(Unreadable::Broken) => return Err(self.broken(Fault::Connection(Code::DECOMPRESSION_FAILED))),
            Err(Unreadable::TooLarge) => return self.too_large(send, stopped).await,
        };
        let read = head::request(fields).and_then(|request| Ok((head::declared_length(request.headers())?, request)));
        let Ok((declared, request)) = read else {
            self.server.counts.malformed.inc();
            return Err(Unsent::Reset(Code::MESSAGE_ERROR));
        };
        upload.declare(declared);
        poll_fn(|context| {
            upload.look(context);
            Poll::Ready(())
        })
        .await;
        let (fault, ending) = (upload.fault(), upload.ending());
        let is_head = request.method() == Method::HEAD;
        let request: Request<Upload> = request.map(|()| upload);
        let answer = Arc::clone(&self.server).answer(request, self.peer, self.load.begin());
        let response = tokio::select! {
            biased;
            response = answer => response.unwrap_or_else(|never: Infallible| match never {}),
            _ = stopped.as_mut() => return Err(self.taken_back()),
        };
        self.answer(send, stopped, response, is_head, &fault).await?;
        ending.end();
        Ok(())
    }

    /// What was wrong with a request, which may have ended the connection.
    fn broken(&self, fault: Fault) -> Unsent {
        self.server.counts.malformed.inc();
        match fault {
            Fault::Stream(code) => Unsent::Reset(code),
            Fault::Connection(code) => {
                self.connection.close(code.number(), b"");
                Unsent::Unwanted
            }
        }
    }

    /// Counts a request that was taken back before its answer; too many end the connection.
    fn taken_back(&self) -> Unsent {
        let so_far = self.taken_back.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if so_far > TAKEN_BACK && so_far > self.asked.load(Ordering::Relaxed) / 2 {
            self.connection.close(Code::EXCESSIVE_LOAD.number(), b"");
        }
        Unsent::Unwanted
    }

    async fn too_large(&self, send: &mut SendStream, stopped: Stopped<'_>) -> Result<(), Unsent> {
        self.server.counts.malformed.inc();
        let response = plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large\n");
        self.server.counts.response(response.status());
        self.answer(send, stopped, response, false, &OnceLock::new()).await
    }

    /// Sends `response`. A `fault` of the request's body that comes to light meanwhile resets the stream.
    async fn answer<B>(
        &self,
        send: &mut SendStream,
        mut stopped: Stopped<'_>,
        response: Response<B>,
        is_head: bool,
        fault: &OnceLock<Fault>,
    ) -> Result<(), Unsent>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let withheld = || match fault.get() {
            None => Ok(()),
            Some(Fault::Stream(code)) => Err(Unsent::Reset(*code)),
            Some(Fault::Connection(_)) => Err(Unsent::Unwanted),
        };
        withheld()?;
        let (mut parts, mut body) = response.into_parts();
        let status = parts.status;
        if status.is_informational() {
            // There is no way to another protocol here, and none was announced.
            return Err(Unsent::Reset(Code::INTERNAL_ERROR));
        }
        let bodyless = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !bodyless
            && !parts.headers.contains_key(header::CONTENT_LENGTH)
            && let Some(length) = body.size_hint().exact()
        {
            parts.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        if !parts.headers.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::from_str(&self.date())
        {
            parts.headers.insert(header::DATE, date);
        }
        self.write(send, &mut [frames::frame(HEADERS, &head::response(status, &parts.headers))]).await?;
        if bodyless || body.is_end_stream() {
            return Ok(());
        }
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                _ = stopped.as_mut() => return Err(Unsent::Unwanted),
            };
            withheld()?;
            match frame {
                None => return Ok(()),
                Some(Err(_)) => return Err(Unsent::Reset(Code::INTERNAL_ERROR)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.write_data(send, data).await?,
                    Err(frame) => {
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        let section = head::encoded_trailers(&trailers);
                        return self.write(send, &mut [frames::frame(HEADERS, &section)]).await;
                    }
                },
            }
        }
    }

    async fn write_data(&self, send: &mut SendStream, mut data: Bytes) -> Result<(), Unsent> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            self.write(send, &mut [frames::beginning(DATA, piece.len()), piece]).await?;
        }
        Ok(())
    }

    /// Hands `chunks` over, for which a client may take only so long.
    async fn write(&self, send: &mut SendStream, chunks: &mut [Bytes]) -> Result<(), Unsent> {
        match timeout(self.patience(), send.write_all_chunks(chunks)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unsent::Unwanted),
            Err(_) => {
                tracing::debug!("an HTTP/3 response was taken too slowly");
                Err(Unsent::Reset(Code::REQUEST_CANCELLED))
            }
        }
    }

    /// Now, as `Date` has it (RFC 9110 section 5.6.7).
    fn date(&self) -> String {
        self.clock.now().to_jiff().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}
