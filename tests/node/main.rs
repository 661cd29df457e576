//! Real pods: the demo, which shows what the README promises, and the ZenML server. `make node-test`, as root on Linux.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod site;
mod upgrade;
mod zenml;

use std::process::Command;

/// F24, S07: all of it runs where only restricted pods may.
#[test]
fn the_demo_installs_logs_in_revokes_and_leaves_nothing_behind() {
    for prepared in ["ZENOP_IMAGE_BINARY", "ZENOP_ZENML"] {
        assert!(
            std::env::var_os(prepared).is_some(),
            "{prepared} is not set: run `make node-test`"
        );
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("cluster/demo.sh")
        .current_dir(root)
        .output()
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    for promise in [
        "with a node that runs real pods",
        "zenserver.zenop.dev/prod   True",
        "Service account 'ci'",
        "after kubectl returned the token is refused",
        "API key ci-main is not active",
    ] {
        assert!(
            said.contains(promise),
            "it does not show {promise:?}:\n{said}"
        );
    }
    assert!(!said.contains("ZENKEY_e"), "it shows a key");
    let status = Command::new("target/debug/zenop-cluster")
        .arg("status")
        .current_dir(root)
        .status();
    assert!(
        !status.expect("zenop-cluster").success(),
        "a cluster is left behind"
    );
}
