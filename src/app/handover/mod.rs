//! The whole server replaced while it serves: `mainstay upgrade`.
//!
//! The process that runs ([`predecessor`]) starts the new program ([`launch`]) with one end of a socket pair as its standard
//! input ([`channel`]). Over it go first the listening sockets ([`message::Manifest`]), then whose turn it is:
//!
//! ```text
//! predecessor                                        successor
//! checks the program and the settings
//! sockets ------------------------------------------> reads the settings, takes the sockets, binds new ones
//!         <------------------------------------------ waiting           (nothing has happened until here)
//! requests for own doors are left to the successor
//! doors that use the data folder stop and finish
//! stores close, the folder's lock is let go of
//! go -----------------------------------------------> locks the folder, opens everything, answers at every door
//! what it learns -----------------------------------> hears it before its edge accepts, and from then on
//!         <------------------------------------------ ready             or: failed
//! accepts no more; what is open goes on to its end
//! ```
//!
//! Promises: a connection is never refused, since every listening socket has an owner all the time; the edge accepts and
//! answers without a pause, since it needs no store; the other doors' clients wait in the kernel's queues while the folder
//! changes hands; one process at a time has the folder. If the successor fails after its turn has come, it is ended and the
//! program before is started again the same way, from its own file that is still in memory.
//!
//! What the predecessor still learns once its stores are closed, on connections it has or accepts, it tells ([`learned`]): bans
//! that jails make, pages that were seen, kept answers that are no longer good. A successor that fails has taken none of it
//! away; the next one is told again.

pub mod arrivals;
pub mod channel;
pub mod launch;
pub mod learned;
#[cfg(test)]
mod learned_tests;
pub mod message;
pub mod predecessor;
pub mod request;
pub mod successor;
#[cfg(test)]
mod tests;
