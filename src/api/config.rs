//! Settings of the console door.

use crate::base::Listen;

crate::settings! {
    /// The console door: health, metrics and the app's HTTP interface.
    pub struct ConsoleConfig {
        /// Where it listens.
        pub listen: Listen = Listen::loopback(8000),
    }
}
