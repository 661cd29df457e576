//! One line of the log for each decision of authentication.

use zenop::auth::address::Proxies;

use super::{
    canary::Log,
    limits::{login, set},
    sockets::Served,
};

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
        let answer = login(
            &served,
            &key,
            "x-forwarded-for: 203.0.113.9, 198.51.100.7\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(guard);
        assert_eq!(log.audit().last().unwrap()["address"], address);
        assert_eq!(log.text().contains("203.0.113.9"), address == "203.0.113.9");
        log.clear();
    }
}
