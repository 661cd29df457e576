//! The way to an OIDC provider: HTTPS with a limit on everything.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use axum::http::{Request, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::SecretString;

use crate::http::{MAX_ANSWER, Outside, Unreachable};

/// How long a connection, and an answer, may take.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(6);

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A way that believes public authorities, or those that it is given.
pub struct Web {
    secret: Option<PathBuf>,
    /// The one that was used last, by the authorities that it believes.
    client: Mutex<Option<(Option<String>, Https)>>,
}

impl Web {
    /// A way. The client secret is read from the file each time, as it may be replaced there.
    pub fn new(secret: Option<PathBuf>) -> Self {
        Self {
            secret,
            client: Mutex::default(),
        }
    }

    fn client(&self, authorities: Option<&str>) -> Result<Https, Unreachable> {
        let mut last = self.client.lock();
        if let Some((of, client)) = &*last
            && of.as_deref() == authorities
        {
            return Ok(client.clone());
        }
        let client = client(authorities)?;
        *last = Some((authorities.map(str::to_owned), client.clone()));
        Ok(client)
    }
}

impl Outside for Web {
    fn ask(
        &self,
        request: Request<Vec<u8>>,
        authorities: Option<Arc<str>>,
    ) -> BoxFuture<'static, Result<Response<Vec<u8>>, Unreachable>> {
        let client = self.client(authorities.as_deref());
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let asked = async move {
            let answer = client?.request(request).await;
            let (parts, body) = answer.map_err(|error| unreachable(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| Unreachable(error.to_string()))?;
            Ok(Response::from_parts(parts, body.to_bytes().to_vec()))
        };
        Box::pin(async move {
            let timed = tokio::time::timeout(ANSWER, asked).await;
            timed.map_err(|_| Unreachable("it takes too long".into()))?
        })
    }

    fn client_secret(&self) -> Option<SecretString> {
        let text = fs::read_to_string(self.secret.as_ref()?).ok()?;
        // As `kubectl create secret --from-file` brings it.
        let text = text.trim_end_matches(['\n', '\r']);
        (!text.is_empty()).then(|| text.into())
    }
}

fn client(authorities: Option<&str>) -> Result<Https, Unreachable> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let bad = |what: &dyn std::fmt::Display| Unreachable(format!("caBundle: {what}"));
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Unreachable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let mut builder = Client::builder(TokioExecutor::new());
    // A provider is asked now and then.
    builder.pool_max_idle_per_host(1);
    Ok(builder.build(https))
}

/// What went wrong, and why: the library's own text says the first only.
pub(super) fn unreachable(error: &hyper_util::client::legacy::Error) -> Unreachable {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Unreachable(text)
}
