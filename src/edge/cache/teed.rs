//! The body of an answer on its way to the client, while it is gathered to be stored.
//!
//! The app is read as fast as it sends, at most as far as one stored answer in memory may reach. What goes to disk comes at
//! the client's pace; what is not kept any more the client reads from the app itself.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::super::body::{AnswerError, ResponseBody};

/// What the one who gathers hands on.
#[derive(Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// Bytes, with what is given back when the client takes them.
    Paced(Bytes, OwnedSemaphorePermit),
    /// Trailers.
    Trailers(HeaderMap),
    /// It is whole.
    End,
    /// It broke off.
    Broken(AnswerError),
    /// The rest, which is not gathered.
    Rest(Box<ResponseBody>),
}

/// Such a body.
#[derive(Debug)]
pub struct Teed {
    pieces: mpsc::UnboundedReceiver<Piece>,
    rest: Option<Box<ResponseBody>>,
    /// Bytes to come, when the app said so.
    left: Option<u64>,
    ended: bool,
}

/// The body was cut off.
#[derive(Debug, thiserror::Error)]
pub enum TeedError {
    /// By the app.
    #[error(transparent)]
    App(#[from] AnswerError),
    /// Here, since the server stops.
    #[error("the app's answer is not read any more")]
    Dropped,
}

impl Teed {
    /// A body of `length` bytes, if that is known, and where its pieces go in. They are bounded by who puts them in.
    pub fn new(length: Option<u64>) -> (mpsc::UnboundedSender<Piece>, Self) {
        let (sender, pieces) = mpsc::unbounded_channel();
        (sender, Self { pieces, rest: None, left: length, ended: false })
    }
}

impl Body for Teed {
    type Data = Bytes;
    type Error = TeedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TeedError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let frame = loop {
            if let Some(rest) = &mut this.rest {
                break ready!(Pin::new(rest.as_mut()).poll_frame(context)).map(|frame| frame.map_err(TeedError::App));
            }
            match ready!(this.pieces.poll_recv(context)) {
                Some(Piece::Data(data)) => break Some(Ok(Frame::data(data))),
                Some(Piece::Paced(data, given_back)) => {
                    drop(given_back);
                    break Some(Ok(Frame::data(data)));
                }
                Some(Piece::Trailers(trailers)) => break Some(Ok(Frame::trailers(trailers))),
                Some(Piece::End) => break None,
                Some(Piece::Broken(error)) => break Some(Err(TeedError::App(error))),
                Some(Piece::Rest(rest)) => this.rest = Some(rest),
                None => break Some(Err(TeedError::Dropped)),
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.left = this.left.map(|left| left.saturating_sub(bytes));
            }
            Some(Err(_)) | None => this.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_come_through_and_only_an_end_is_one() {
        let (send, mut body) = Teed::new(None);
        send.send(Piece::Data(Bytes::from_static(b"ab"))).unwrap();
        send.send(Piece::End).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert!(body.frame().await.is_none() && body.is_end_stream());

        let (send, mut body) = Teed::new(Some(4));
        send.send(Piece::Data(Bytes::from_static(b"ab"))).unwrap();
        drop(send);
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.size_hint().exact(), Some(2));
        assert!(matches!(body.frame().await, Some(Err(TeedError::Dropped))));
    }
}
