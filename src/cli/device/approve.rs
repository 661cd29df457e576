//! `kubectl zen device approve`: asks the server, as only it can read a user code.
//!
//! Not through the API server's proxy: that takes the credential of its caller and passes none on,
//! and would need a right that reaches every Service. So a key of an account is shown to the
//! server itself: at the address that its ZenServer states, never at one that a link names, which
//! may be anybody's.

use std::time::Duration;

use clap::Args;
use http::{
    Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use http_body_util::BodyExt;
use kube::{Client, Config, client::Body};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    api::{ZenAPIKey, ZenServer, ZenServiceAccount},
    cli::{
        Session,
        cluster::Cluster,
        failure::{Exit, Failure, root},
        key::delivered,
        server,
    },
};

/// What to approve, and as whom.
#[derive(Clone, Debug, Args)]
pub struct ApproveArguments {
    /// The link that `zenml login` shows.
    #[arg(value_name = "LINK")]
    link: String,

    /// The ZenAPIKey whose account the device is to act as.
    #[arg(long, value_name = "NAME")]
    key: String,

    /// Trust the device: it stays logged in for longer.
    #[arg(long)]
    trusted: bool,

    /// Where the server is reached from here. Default: as its ZenServer says.
    #[arg(long, value_name = "URL")]
    server_url: Option<String>,
}

/// What a link asks.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    device: Uuid,
    code: String,
}

impl ApproveArguments {
    /// Approves the device.
    ///
    /// # Errors
    /// If the link is none, the key cannot be read, or the server refuses.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let asked = Asked::of(&self.link)?;
        let cluster = session.cluster().await?;
        let key = cluster.read::<ZenAPIKey>(&self.key).await?.typed;
        let url = match &self.server_url {
            Some(url) => url.clone(),
            None => address(&cluster, &key).await?,
        };
        let text = delivered(&cluster, &key).await?;
        let body = json!({"user_code": asked.code, "trusted_device": self.trusted});
        let path = format!("/api/v1/devices/{}/verify", asked.device);
        let shown = put(&url, &path, &text, &body).await?;
        let of = |name: &str| {
            let told = shown.pointer(&format!("/body/{name}"));
            told.and_then(Value::as_str).unwrap_or("unknown").to_owned()
        };
        session.out.prose(&format!(
            "device {} approved: host {}, system {}, address {}; `zenml login` there goes on by \
             itself",
            asked.device,
            of("hostname"),
            of("os"),
            of("ip_address")
        ))
    }
}

impl Asked {
    fn of(link: &str) -> Result<Self, Failure> {
        let query = link.split_once('?').map_or("", |(_, query)| query);
        let part = |wanted: &str| {
            let mut parts = form_urlencoded::parse(query.as_bytes());
            parts.find_map(|(name, value)| (name == wanted).then(|| value.into_owned()))
        };
        let device = part("device_id").and_then(|text| Uuid::try_parse(&text).ok());
        match (device, part("user_code")) {
            (Some(device), Some(code)) => Ok(Self { device, code }),
            _ => Err(Failure::usage(
                "this is no link of `zenml login`: it has the parts device_id and user_code; quote \
                 it, as a shell cuts it at the &",
            )),
        }
    }
}

/// Where the server of a key is, as its ZenServer says.
async fn address(cluster: &Cluster, key: &ZenAPIKey) -> Result<String, Failure> {
    let account = &key.spec.service_account_ref.name;
    let account = cluster.read::<ZenServiceAccount>(account).await?.typed;
    let name = account.spec.server_ref.name;
    let server = cluster.read::<ZenServer>(&name).await?.typed;
    server::address(&server, "--server-url")
}

async fn put(url: &str, path: &str, key: &str, body: &Value) -> Result<Value, Failure> {
    let failed = |why: String| {
        let message = format!("asking {url}: {why}; reach it by --server-url if not from here");
        Failure::new(Exit::Failed, message)
    };
    let base: Uri = url
        .parse()
        .map_err(|_| Failure::usage(format!("{url:?} is no URL")))?;
    let mut config = Config::new(base);
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(30));
    let client = Client::try_from(config).map_err(|error| failed(root(&error)))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| failed("the key is no header".into()))?;
    bearer.set_sensitive(true);
    let request = http::Request::builder()
        .method(Method::PUT)
        .uri(path)
        .header(AUTHORIZATION, bearer)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string().into_bytes()))
        .map_err(|error| failed(error.to_string()))?;
    let answer = client.send(request).await;
    let (parts, body) = answer.map_err(|error| failed(root(&error)))?.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let told: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    match parts.status {
        StatusCode::OK => Ok(told),
        status => Err(refused(status, &told)),
    }
}

/// What the server said, in its own words.
fn refused(status: StatusCode, told: &Value) -> Failure {
    let detail = told.get("detail");
    let said = detail.and_then(|detail| detail.get(1).unwrap_or(detail).as_str());
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Forbidden,
        _ => Exit::Failed,
    };
    let said = said.map_or_else(|| status.to_string(), str::to_owned);
    Failure::new(exit, format!("the server refuses: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_wherever_it_leads() {
        let device = Uuid::from_u128(7);
        let query = format!("?device_id={device}&user_code=a-b_c");
        let wanted = || Asked {
            device,
            code: "a-b_c".into(),
        };
        for base in ["https://evil.example.org/x", "/devices/verify", ""] {
            let asked = Asked::of(&format!("{base}{query}"));
            assert_eq!(asked.ok(), Some(wanted()));
        }
        for bad in ["", "x", "?device_id=x&user_code=y", "?user_code=y", "a-b_c"] {
            assert!(Asked::of(bad).is_err(), "{bad}");
        }
    }
}
