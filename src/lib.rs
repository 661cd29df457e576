//! A Kubernetes operator and auth sidecar for ZenML.
pub mod api;
