//! A real local Kubernetes, built from Go modules, for tests and the demo.
