//! What an HTTP/2 client takes of a response, stream by stream.
//!
//! The socket's own wait (see [`super::patience`]) does not see a client that reads the socket and still never opens a
//! stream's window (RFC 9113 section 5.2). So every stream is watched in its own task: its response is handed over in pieces
//! of 16 KiB, and when the next piece has not been taken for the whole wait, the stream is reset. The connection and its
//! other streams go on.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes handed over at once, which is what a client must take within its wait: as many as a frame of DATA holds by default
/// (RFC 9113 section 6.5.2).
const PIECE: usize = 16 << 10;

tokio::task_local! {
    /// Since when this task's stream waits for its client to take a piece.
    static WAITING: Cell<Option<Instant>>;
}

/// Drives a stream's `future` to its end; false when it was given up, because its client took nothing for `limit`.
///
/// # Cancel safety
/// Dropping it drops `future`.
pub async fn taken(future: impl Future<Output = ()>, limit: Duration) -> bool {
    let watched = async move {
        let mut future = pin!(future);
        // Made when a client keeps us waiting for the first time, which most never do.
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            if future.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            let Some(since) = WAITING.with(Cell::get) else {
                alarm = None;
                return Poll::Pending;
            };
            let due = since + limit;
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            alarm.as_mut().poll(context).map(|()| false)
        })
        .await
    };
    WAITING.scope(Cell::new(None), watched).await
}

/// What is left of a response's last frame.
#[derive(Debug, Default)]
pub struct Pieces(Bytes);

impl Pieces {
    /// The next piece: of what is left, else of the next frame of `body`. Who asks has taken the one before.
    pub fn poll<B>(
        &mut self,
        body: Pin<&mut B>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
    where
        B: http_body::Body<Data = Bytes>,
    {
        let mut piece = std::mem::take(&mut self.0);
        if piece.is_empty() {
            waits_since(None);
            piece = match ready!(body.poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            };
        }
        self.0 = piece.split_off(piece.len().min(PIECE));
        waits_since(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// Bytes left.
    pub const fn left(&self) -> usize {
        self.0.len()
    }

    /// What is still to come when the body has `rest`.
    pub fn with_left(&self, rest: &SizeHint) -> SizeHint {
        let left = self.0.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(left));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint
    }
}

/// Notes since when this task's stream waits for its client, if it is one that [`taken`] drives.
fn waits_since(moment: Option<Instant>) {
    let _ = WAITING.try_with(|waiting| waiting.set(moment));
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::StreamBody;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

    fn body(frames: Frames) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(stream::iter(frames))
    }

    /// Takes `count` pieces of `frames`, `each` apart, then no more.
    async fn take(frames: Frames, count: usize, each: Duration) {
        let (mut body, mut pieces) = (body(frames), Pieces::default());
        for _ in 0..count {
            poll_fn(|context| pieces.poll(Pin::new(&mut body), context)).await;
            tokio::time::sleep(each).await;
        }
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn a_large_frame_goes_out_in_pieces_and_in_order() {
        let bytes: Vec<u8> = (0..40_000u32).map(|at| at.to_le_bytes()[0]).collect();
        let frames = vec![Ok(Frame::data(bytes.clone().into())), Ok(Frame::trailers(HeaderMap::new()))];
        let (mut body, mut pieces) = (body(frames), Pieces::default());
        let mut seen = Vec::new();
        let mut lengths = Vec::new();
        while let Some(Ok(frame)) = poll_fn(|context| pieces.poll(Pin::new(&mut body), context)).await {
            let left = pieces.left();
            assert_eq!(pieces.with_left(&SizeHint::with_exact(5)).exact(), Some(5 + left as u64));
            lengths.push((frame.data_ref().map(Bytes::len), left));
            seen.extend(frame.into_data().unwrap_or_default());
        }
        assert_eq!(
            lengths,
            [(Some(PIECE), 40_000 - PIECE), (Some(PIECE), 40_000 - 2 * PIECE), (Some(7_232), 0), (None, 0)]
        );
        assert_eq!(seen, bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_nothing_is_taken_is_given_up_after_the_wait() {
        let start = Instant::now();
        let frames = vec![Ok(Frame::data(Bytes::from(vec![0; 100_000])))];
        assert!(!taken(take(frames, 1, Duration::ZERO), LIMIT).await);
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn every_piece_that_is_taken_earns_the_whole_wait_again() {
        let start = Instant::now();
        let frames = vec![Ok(Frame::data(Bytes::from(vec![0; 100_000])))];
        let each = Duration::from_secs(20);
        assert!(!taken(take(frames, 5, each), LIMIT).await);
        assert_eq!(start.elapsed().as_secs(), (each * 4 + LIMIT).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_us_is_not_given_up() {
        let waiting = async {
            let mut pieces = Pieces::default();
            let frames = stream::iter(Frames::from([Ok(Frame::data(Bytes::from_static(b"event")))]));
            let mut body = StreamBody::new(futures_util::StreamExt::chain(frames, stream::pending()));
            loop {
                poll_fn(|context| pieces.poll(Pin::new(&mut body), context)).await;
            }
        };
        assert!(tokio::time::timeout(LIMIT * 9, taken(waiting, LIMIT)).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_ends_has_ended() {
        assert!(taken(async {}, LIMIT).await);
    }
}
