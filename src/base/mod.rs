//! Ground: the outside world as arguments, and the small types every room speaks in.
//!
//! Nothing below this room. Time comes from [`Clock`], randomness from [`Random`], files from [`Disk`]; each has a
//! double in `testing`. Tasks and threads start through [`Supervisor`], with a name, and stop through [`Shutdown`].
//!
//! Start reading at [`disk`] (the fault seam) and [`supervise`] (what happens when a task dies).

pub mod backoff;
pub mod clock;
pub mod disk;
pub mod hyperloglog;
pub mod ids;
pub mod listen;
pub mod local_disk;
pub mod network;
pub mod process;
pub mod program;
pub mod random;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod size;
pub mod span;
pub mod stars;
pub mod supervise;

pub use backoff::Backoff;
pub use clock::{Clock, SystemClock, Timestamp};
pub use disk::{Disk, DiskFile, Entry, EntryKind, OpenMode, Space};
pub use ids::Id128;
pub use listen::Listen;
pub use local_disk::LocalDisk;
pub use random::{Random, SystemRandom};
pub use secret::Secret;
pub use settings::Settings;
pub use shutdown::Shutdown;
pub use size::ByteSize;
pub use span::Span;
pub use supervise::Supervisor;
