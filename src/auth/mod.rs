//! What is a valid credential, and whose: pure rules. Never waits, reads a clock or draws randomness.

pub mod address;
pub mod api_key;
pub mod directory;
mod identity;
pub mod keyring;
pub mod principal;
mod roster;
pub mod token;
mod user;
