//! Help that teaches.

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::zen::PROGRAM;

async fn help(words: &[&str]) -> Result<String> {
    let output = Command::new(PROGRAM)
        .args(words)
        .arg("--help")
        .output()
        .await?;
    ensure!(output.status.success(), "{words:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn every_command_has_examples_that_name_it() -> Result<()> {
    let common = [
        "list",
        "describe",
        "create",
        "activate",
        "deactivate",
        "delete",
        "restore",
    ];
    let of_keys = ["rotate", "show", "new"];
    let sa = common.map(|verb| ("sa", verb));
    let key = common.into_iter().chain(of_keys).map(|verb| ("key", verb));
    let device = ["list", "describe", "approve", "lock", "unlock", "delete"];
    let device = device.map(|verb| ("device", verb));
    let user = [
        "list",
        "describe",
        "create",
        "activate",
        "deactivate",
        "sign-out",
        "reset",
        "delete",
    ];
    let user = user.map(|verb| ("user", verb));
    let secret = [
        "list", "describe", "get", "export", "create", "update", "rename", "seal", "unseal",
        "backup", "restore", "delete",
    ];
    let secret = secret.map(|verb| ("secret", verb));
    let component = ["list", "get", "describe", "refs", "delete"];
    let component = component.map(|verb| ("component", verb));
    let server = [
        "list",
        "get",
        "describe",
        "status",
        "deploy",
        "update",
        "remove",
        "logs",
        "connect",
        "disconnect",
    ];
    let server = server.map(|verb| ("server", verb));
    let stack = [("stack", "register-secrets")];
    let secret = secret.into_iter().chain(component).chain(stack);
    let people = device.into_iter().chain(user).chain(secret).chain(server);
    for (noun, verb) in sa.into_iter().chain(key).chain(people) {
        let said = help(&[noun, verb]).await?;
        let example = format!("kubectl zen {noun} {verb}");
        let examples = said.split("Examples:").nth(1).unwrap_or_default();
        ensure!(examples.contains(&example), "{noun} {verb}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn the_overview_tells_exit_codes() -> Result<()> {
    insta::assert_snapshot!("overview", help(&[]).await?);
    insta::assert_snapshot!("key", help(&["key"]).await?);
    Ok(())
}
