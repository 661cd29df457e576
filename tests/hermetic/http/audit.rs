//! One line of the log for each decision of authentication.

use std::sync::Arc;

use zenop::{auth::address::Proxies, store::Settings};

use super::{canary::Log, client::Server, sockets::Served, support};

/// Changes the settings.
fn set(server: &Server, change: impl FnOnce(&mut Settings)) {
    let mut settings = support::settings();
    change(&mut settings);
    server.change(|state| state.settings = Arc::new(settings));
}

/// Logs in with a key on a socket, telling of these hops.
async fn login(served: &Served, key: &str, hops: &str) -> String {
    let form = format!("password={}", key.replace('=', "%3D"));
    let request = format!(
        "POST /api/v1/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-forwarded-for: {hops}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    served.exchange(request.as_bytes()).await
}

/// C14, H9, H16: the address is the right-most hop that no trusted proxy is, unless addresses are
/// not to be written down.
#[tokio::test]
async fn c14_an_audit_line_names_the_address_that_can_be_believed() {
    let log = Log::default();
    let served = Served::start().await;
    let key = served.server.key.text();
    let cases = [
        (&[][..], true, "127.0.0.1"),
        (&["127.0.0.0/8"], true, "198.51.100.7"),
        (&["127.0.0.0/8", "198.51.100.0/24"], true, "203.0.113.9"),
        (&["127.0.0.0/8"], false, "-"),
    ];
    for (proxies, record, address) in cases {
        set(&served.server, |settings| {
            settings.proxies = Proxies::new(proxies.iter().copied());
            settings.record_addresses = record;
        });
        let guard = log.json();
        let answer = login(&served, &key, "203.0.113.9, 198.51.100.7").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(guard);
        assert_eq!(log.audit().last().unwrap()["address"], address);
        assert_eq!(log.text().contains("203.0.113.9"), address == "203.0.113.9");
        log.clear();
    }
}
