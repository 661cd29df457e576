//! At rest nothing is written, and little is read and kept.
