//! What is a valid credential, and whose: pure rules. Never waits, reads a clock or draws randomness.

pub mod address;
pub mod api_key;
pub mod bcrypt;
pub mod credential;
pub mod device;
pub mod device_code;
mod devices;
pub mod directory;
pub mod id_token;
mod identity;
pub mod keyring;
pub mod keyset;
pub mod limit;
pub mod network;
pub mod principal;
pub mod reference;
mod roster;
pub mod scheme;
pub mod seal;
pub mod sealed;
pub mod secret_value;
pub mod shelf;
pub mod token;
pub mod upstream;
mod user;
