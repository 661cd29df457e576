//! TLS at the front door, attacks.md T15: old versions, plain text and whoever dawdles are turned away.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zenop::http::{Certificate, Limits, Options, serve_tls};

use super::client::{Server, now};

const PATIENCE: Duration = Duration::from_secs(30);
const HOST: &str = "zenml.test";
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";

struct Served {
    address: SocketAddr,
    certificate: watch::Sender<Certificate>,
    /// Who vouches for the one that it began with.
    authority: String,
}

fn certificate() -> (String, Certificate) {
    let made = generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = made;
    let key = signing_key.serialize_pem();
    let certificate = Certificate::read(cert.pem().as_bytes(), key.as_bytes());
    (cert.pem(), certificate.unwrap())
}

async fn served(limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (authority, first) = certificate();
    let (certificate, shown) = watch::channel(first);
    let router = Server::with(Options::default(), now).router;
    let end = std::future::pending();
    tokio::spawn(async move { serve_tls(listener, shown, router, limits, end).await });
    Served {
        address,
        certificate,
        authority,
    }
}

impl Served {
    async fn connect(
        &self,
        authority: &str,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let host = ServerName::try_from(HOST).unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(host, stream);
        timeout(PATIENCE, connected).await.expect("in time")
    }

    /// Everything that comes back for bytes in plain text, until the connection ends.
    async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = timeout(PATIENCE, read).await.expect("the connection ends");
        answer
    }
}

async fn lives(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(HEALTH).await.unwrap();
    let mut answer = [0; 15];
    let read = stream.read_exact(&mut answer);
    timeout(PATIENCE, read).await.expect("in time").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

/// What a client says first that knows no more than this version, and all else that is needed.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session, one suite, no compression.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Its groups, forms of points and signatures.
    let extensions = [[0, 10, 0, 4, 0, 2, 0, 0x17], [0, 13, 0, 4, 0, 2, 4, 3]];
    body.extend([0, 22]);
    body.extend(extensions.concat());
    body.extend([0, 11, 0, 2, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[tokio::test]
async fn t15_tls_1_0_and_1_1_are_refused_and_newer_ones_served() {
    let served = served(Limits::default()).await;
    for minor in [1, 2] {
        let answer = served.exchange(&hello(minor)).await;
        // A fatal alert: protocol_version.
        assert_eq!(answer[..1], [21], "{answer:?}");
        assert_eq!(answer[5..], [2, 70], "{answer:?}");
    }
    // The same is taken from who knows TLS 1.2.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&hello(3)).await.unwrap();
    let answer = timeout(PATIENCE, stream.read_u8()).await.expect("in time");
    assert_eq!(answer.unwrap(), 22, "no handshake");
    for version in [&TLS12, &TLS13] {
        let mut stream = served.connect(&served.authority, version).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        lives(&mut stream).await;
    }
}

#[tokio::test]
async fn t15_plain_http_gets_no_answer_but_the_end() {
    let served = served(Limits::default()).await;
    let answer = served.exchange(HEALTH).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn t15_who_dawdles_in_the_handshake_has_a_place_and_loses_it() {
    let limits = Limits {
        connections: 1,
        head_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let served = served(limits).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let hello = hello(3);
    silent.write_all(&hello[..9]).await.unwrap();
    let mut other = {
        let connecting = served.connect(&served.authority, &TLS13);
        let mut connecting = std::pin::pin!(connecting);
        let early = timeout(Duration::from_millis(300), &mut connecting).await;
        assert!(early.is_err(), "the one place is taken");
        connecting.await.unwrap()
    };
    lives(&mut other).await;
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
    drop(end.expect("its connection ends"));
}

/// F16.
#[tokio::test]
async fn f16_a_new_certificate_is_for_new_connections_and_ends_none() {
    let served = served(Limits::default()).await;
    let mut old = served.connect(&served.authority, &TLS13).await.unwrap();
    lives(&mut old).await;
    let (authority, second) = certificate();
    served.certificate.send_replace(second);
    let refused = served.connect(&served.authority, &TLS13).await;
    assert!(refused.is_err(), "the old one is shown");
    let mut new = served.connect(&authority, &TLS13).await.unwrap();
    lives(&mut new).await;
}
