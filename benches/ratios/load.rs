//! A load generator for HTTP/1.1 over kept-alive connections to loopback.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How many connections ask at a time, where the server is not slower for it.
const CONNECTIONS: usize = 16;

/// Requests per second that are answered with 200, asked over and over for `time`.
pub async fn requests_per_second(address: &str, request: &[u8], time: Duration) -> f64 {
    requests_at(address, request, time, CONNECTIONS).await
}

/// The same with so many connections. A request that began in time counts, and its time with it.
pub async fn requests_at(address: &str, request: &[u8], time: Duration, connections: usize) -> f64 {
    let (begun, done) = (Instant::now(), AtomicU64::new(0));
    let one = || async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let mut buffer = Vec::with_capacity(16 << 10);
        while begun.elapsed() < time {
            exchange(&mut stream, request, &mut buffer).await;
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    futures::future::join_all((0..connections).map(|_| one())).await;
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// One request and its answer, 200, which stays in `buffer`.
pub async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) {
    exchange_as("200", stream, request, buffer).await;
}

/// The same with another status.
pub async fn exchange_as(
    status: &str,
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) {
    buffer.clear();
    stream.write_all(request).await.expect("it takes requests");
    loop {
        let n = stream.read_buf(buffer).await.expect("it answers");
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(buffer));
        let Some(head) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..head]);
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if buffer.len() >= head + 4 + length.expect("a length") {
            assert!(
                buffer.starts_with(format!("HTTP/1.1 {status}").as_bytes()),
                "{}",
                String::from_utf8_lossy(buffer)
            );
            return;
        }
    }
}

/// The JSON that one request is answered with.
pub async fn answer(address: &str, request: &[u8]) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let mut buffer = Vec::new();
    exchange(&mut stream, request, &mut buffer).await;
    let head = buffer.windows(4).position(|w| w == b"\r\n\r\n");
    serde_json::from_slice(&buffer[head.expect("a body") + 4..]).expect("JSON")
}
