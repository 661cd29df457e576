//! Serves accounts in memory on a port of the loopback, to try a client on: prints the keys of
//! two accounts, of which the first is an administrator, then serves until it is interrupted.
//!
//! `cargo run --example memory-server -- 18240`

#[path = "mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod support;

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use zenop::http::{App, Limits, Options, serve};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let port: u16 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let store = support::empty();
    store.change(|state| {
        for (n, name) in [(1, "ci"), (2, "training")] {
            let account = support::add_account(state, n, name);
            let key = support::add_key(state, account, n, "default");
            println!("{name} {}", *key.text());
            if let Some(mut account) = state.directory.remove_account(account) {
                account.admin = n == 1;
                state.directory.put_account(account);
            }
        }
    });
    #[expect(clippy::disallowed_methods, reason = "the root of this program")]
    let clock = jiff::Timestamp::now;
    let ground = support::ground(&Arc::new(store), clock);
    let app = App::new(ground, &mut Registry::default(), Options::default());
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let end = async { drop(tokio::signal::ctrl_c().await) };
    serve(listener, app.router(), Limits::default(), end).await;
    Ok(())
}
