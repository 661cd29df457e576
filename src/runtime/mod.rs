//! The composition root: what the two processes are made of, and alone in knowing clock, entropy and sockets.

pub mod clock;
pub mod lease;
