//! Health, metrics, and the app's HTTP interface.
