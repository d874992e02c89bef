//! Outbound mail: the outbox, delivery, and the ways messages leave.
//!
//! What it promises:
//! - **Accepted means synced**: [`Outbox::accept`] returns after the message and one row for every recipient are
//!   committed.
//! - **At least once**: a message is sent twice only when a crash, or a lost reply, falls between the relay's answer and
//!   the commit of the outcome; its `Message-ID` stays the same, so receivers can tell.
//! - **Final is final**: a permanent refusal is never tried again, also after a restart; nothing leaves the queue
//!   without a final state.
//! - **One bad message or recipient holds up nobody else**: every recipient is a row and a delivery of its own.
//!
//! Start reading at [`outbox`] (what is stored), [`delivery`] (what happens to it) and [`query`] (looking at it).

pub mod address;
pub mod compose;
pub mod config;
pub mod content;
pub mod counts;
pub mod delivery;
pub mod error;
pub mod message;
pub mod outbox;
pub mod query;
pub mod rows;
pub mod schedule;
pub mod templates;
pub mod transport;

pub use config::{MailConfig, TransportKind};
pub use content::Content;
pub use counts::{Counts, Hour, Standing};
pub use delivery::Delivery;
pub use error::MailError;
pub use message::{Envelope, LineEnds, Message};
pub use outbox::{Accepted, Outbox, Outcome, Submission};
pub use query::{Detail, Filter, Page, Summary};
pub use rows::Source;
pub use templates::{Brand, Letter};
pub use transport::Transport;
