//! Every room's settings in one tree.
