//! The way to the ZenML server behind the sidecar: plain HTTP, as it is in the same pod.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::{
    body::Body,
    http::{
        Request, Response, Uri,
        uri::{Authority, PathAndQuery, Scheme},
    },
};
use futures::future::BoxFuture;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::admin::Probe;
use crate::http::{Unreachable, Upstream};

/// How long a connection may take. It is to the same machine.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer to a probe may take.
const PROBED: Duration = Duration::from_secs(8);

/// A ZenML server.
#[derive(Clone, Debug)]
pub struct Zenml {
    authority: Authority,
    client: Client<HttpConnector, Body>,
}

impl Zenml {
    /// The one at a URL with nothing but host and port.
    ///
    /// # Errors
    /// If it is another URL.
    pub fn at(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--upstream={url}"))?;
        let authority = uri.authority().context("--upstream needs a host")?;
        ensure!(
            uri.scheme() == Some(&Scheme::HTTP) && uri.path() == "/",
            "--upstream={url}: it is http://host:port"
        );
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        Ok(Self {
            authority: authority.clone(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Asks how it is, at a path of its own.
    pub fn probe(self: &Arc<Self>, path: &'static str) -> Probe {
        let server = Arc::clone(self);
        Arc::new(move || {
            let server = Arc::clone(&server);
            Box::pin(async move {
                let request = Request::get(path).body(Body::empty());
                let request = request.map_err(|error| error.to_string())?;
                let answer = tokio::time::timeout(PROBED, server.send(request)).await;
                let answer = answer.map_err(|_| "the ZenML server takes too long".to_owned())?;
                match answer {
                    Ok(answer) if answer.status().is_success() => Ok(()),
                    Ok(answer) => Err(format!("the ZenML server answers {}", answer.status())),
                    Err(why) => Err(why.to_string()),
                }
            })
        })
    }
}

impl Upstream for Zenml {
    fn send(
        &self,
        mut request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Unreachable>> {
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build();
        let client = self.client.clone();
        Box::pin(async move {
            *request.uri_mut() = uri.map_err(|error| Unreachable(error.to_string()))?;
            let answer = client.request(request).await;
            let answer = answer.map_err(|error| super::outside::unreachable(&error))?;
            Ok(answer.map(Body::new))
        })
    }
}
