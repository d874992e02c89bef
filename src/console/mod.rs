//! The admin's pages.
