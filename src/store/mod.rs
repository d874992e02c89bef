//! Ordered, transactional storage of sealed records.
