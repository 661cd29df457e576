//! A Kubernetes operator and auth sidecar for ZenML.
