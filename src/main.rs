//! The operator and the sidecar: parse, delegate.
fn main() {}
