//! Lists over many objects, through the front door.

use uuid::Uuid;

use super::{client::Server, support};

/// A server with accounts `bot-00` to `bot-24` beside `ci`; every third is inactive.
fn server() -> Server {
    let server = Server::new();
    server.change(|state| {
        for n in 0..25 {
            let id = support::add_account(state, 100 + n, &format!("bot-{n:02}"));
            let mut account = state.directory.remove_account(id).unwrap();
            account.active = n % 3 != 0;
            account.description = format!("Number {n}");
            state.directory.put_account(account);
        }
    });
    server
}

async fn names(server: &Server, token: &str, query: &str) -> (Vec<String>, serde_json::Value) {
    let path = format!("/api/v1/service_accounts?{query}");
    let page = server.get_as(token, &path).await.expect(200).json();
    let name = |item: &serde_json::Value| item["name"].as_str().unwrap().to_owned();
    let names = page["items"].as_array().unwrap().iter().map(name).collect();
    (names, page)
}

#[tokio::test]
async fn pages_partition_the_list_in_order() {
    let server = server();
    let token = server.token().await;
    let (all, page) = names(&server, &token, "size=10000&sort_by=desc:name").await;
    assert_eq!(
        (page["total"].as_u64(), page["total_pages"].as_u64()),
        (Some(26), Some(1))
    );
    assert!(all.is_sorted_by(|a, b| a > b));
    let mut joined = Vec::new();
    for n in 1..=4 {
        let (some, page) = names(
            &server,
            &token,
            &format!("size=7&sort_by=desc:name&page={n}"),
        )
        .await;
        assert_eq!(page["total_pages"], 4);
        assert_eq!((&page["index"], &page["max_size"]), (&n.into(), &7.into()));
        joined.extend(some);
    }
    assert_eq!(joined, all);
}

/// The queries that the real client sends, and one of each operator (zenml-wire.md 10).
#[tokio::test]
async fn filters_select() {
    let server = server();
    let token = server.token().await;
    let id = Uuid::from_u128(0xacc0_0000_0000_4000_8000_0000_0000_0000 + 101);
    let simple = id.simple().to_string();
    let cases = [
        (
            "hydrate=False&sort_by=desc%3Acreated&logical_operator=and&page=1&size=20&name=equals%3Aci".into(),
            1,
        ),
        ("name=ci".into(), 1),
        ("name=CI".into(), 0),
        ("name=notequals:ci".into(), 25),
        ("name=startswith:BOT-0".into(), 10),
        ("name=endswith:4".into(), 3),
        ("name=contains:t-1".into(), 10),
        ("name=contains:t_1".into(), 10),
        ("name=notcontains:bot".into(), 1),
        (r#"name=oneof:["ci","bot-01","x"]"#.into(), 2),
        (r#"name=notoneof:["ci"]"#.into(), 25),
        ("name=isnull:".into(), 0),
        ("name=isnotnull:".into(), 26),
        ("external_user_id=isnull:".into(), 26),
        ("name=foo:bar".into(), 0),
        ("name=contains:bot&name=endswith:4".into(), 3),
        ("name=ci&name=bot-01&logical_operator=or".into(), 2),
        ("name=ci&name=bot-01&logical_operator=and".into(), 0),
        ("active=True".into(), 17),
        ("active=notequals:true".into(), 9),
        ("active=True&active=False".into(), 9),
        (format!("id={id}"), 1),
        (format!("id={}", simple.to_uppercase()), 1),
        ("id=acc0".into(), 0),
        ("id=notequals:acc0".into(), 26),
        (format!("id=startswith:{}", &id.to_string()[..12]), 26),
        (format!("id=endswith:{}", &simple[28..]), 1),
        (format!(r#"id=oneof:["{id}"]"#), 1),
        ("created=gt:2026-01-01 00:01:50".into(), 14),
        ("created=lte:2026-01-01 00:00:01".into(), 1),
        ("created=2026-01-01 00:00:01".into(), 1),
        (
            "created=in:2026-01-01 00:01:40,2026-01-01 00:01:42".into(),
            3,
        ),
        ("description=gte:20".into(), 0),
        ("nosuch=1&x=y".into(), 26),
        ("logical_operator=or".into(), 26),
    ];
    for (query, count) in cases {
        let query: String = query;
        let encoded = query.replace(' ', "%20").replace('"', "%22");
        let (_, page) = names(&server, &token, &encoded).await;
        assert_eq!(page["total"], count, "{query}");
    }
}

#[tokio::test]
async fn keys_are_those_of_the_account() {
    let server = server();
    let token = server.token().await;
    let other = Uuid::from_u128(0xacc0_0000_0000_4000_8000_0000_0000_0000 + 101);
    server.change(|state| {
        support::add_key(state, server.account, 2, "second");
        support::add_key(state, other, 3, "default");
    });
    let keys = async |account: Uuid, query: &str| {
        let path = format!("/api/v1/service_accounts/{account}/api_keys?sort_by=name&{query}");
        server.get_as(&token, &path).await.expect(200).json()
    };
    let both = keys(server.account, "").await;
    assert_eq!(both["total"], 2);
    assert_eq!(both["items"][1]["name"], "second");
    assert_eq!(
        keys(other, "").await["items"][0]["body"]["service_account"]["name"],
        "bot-01"
    );
    assert_eq!(keys(other, "name=equals:second").await["total"], 0);
    let unused = keys(server.account, "last_login=isnull:").await;
    assert_eq!(unused["total"], 1);
    assert_eq!(unused["items"][0]["name"], "second");
    let path = format!("/api/v1/service_accounts/{other}/api_keys/second");
    server.get_as(&token, &path).await.expect(404);
}
