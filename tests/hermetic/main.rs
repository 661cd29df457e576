//! Tests without a network or a cluster.

mod tidy;
