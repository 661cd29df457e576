//! A Kubernetes operator and auth sidecar for ZenML.
//!
//! The map of the house, from the leaves to the root (`docs/ARCHITECTURE.md` walks through it):

pub mod api;
pub mod auth;
pub mod cli;
pub mod http;
pub mod reconcile;
pub mod runtime;
pub mod store;
pub mod wire;
