//! Malice on the wire: whatever bytes come, the answer is 4xx or the end of the connection, and
//! the server goes on serving others.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use zenop::http::{Limits, Options, routes, serve};

use super::client::{Server, now};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a socket of its own.
pub struct Served {
    pub address: SocketAddr,
    end: oneshot::Sender<()>,
    done: JoinHandle<()>,
    pub server: Server,
}

impl Served {
    pub async fn start() -> Self {
        Self::with(Limits::default(), Options::default()).await
    }

    pub async fn with(limits: Limits, options: Options) -> Self {
        Self::of(Server::with(options, now), limits).await
    }

    /// That server, on a socket.
    pub async fn of(server: Server, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let router = server.router.clone();
        let done = tokio::spawn(async move {
            serve(listener, router, limits, async { drop(ended.await) }).await;
        });
        Self {
            address,
            end,
            done,
            server,
        }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes; everything that comes back until the connection ends.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let (mut read, mut write) = self.connect().await.into_split();
        let bytes = bytes.to_vec();
        // The server may end the connection before it took all; that is its right.
        let sent = tokio::spawn(async move {
            let _ = write.write_all(&bytes).await;
            write
        });
        let answer = to_end(&mut read).await;
        drop(sent.await);
        answer
    }

    async fn lives(&self) {
        let answer = self
            .exchange(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

/// Everything until the connection ends, however it does.
async fn to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let _ = timeout(PATIENCE, read).await.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The statuses of all answers in it. No body has a status line in it.
pub fn statuses(answer: &str) -> Vec<u16> {
    let status = |text: &str| text.get(..3)?.parse().ok();
    answer
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(status)
        .collect()
}

fn refused(answer: &str) -> bool {
    statuses(answer)
        .iter()
        .all(|status| (400..500).contains(status))
}

/// An answer that none of our code saw: it says nothing, and ends the connection.
fn is_bare(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("connection: close"), "{answer}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn t08_what_can_be_read_in_two_ways_is_refused_or_ends_the_connection() {
    let served = Served::start().await;
    let info = "GET /api/v1/info HTTP/1.1\r\nhost: x\r\n";
    let smuggled = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let cases = [
        (
            "two lengths",
            format!("{info}content-length: 0\r\ncontent-length: 5\r\n\r\n{smuggled}"),
        ),
        (
            "lengths in a list",
            format!("{info}content-length: 0, 5\r\n\r\n{smuggled}"),
        ),
        (
            "a signed length",
            format!("{info}content-length: +0\r\n\r\n{smuggled}"),
        ),
        (
            "a folded header",
            format!("{info}x: a\r\n b\r\n\r\n{smuggled}"),
        ),
        (
            "a blank before the colon",
            format!("{info}content-length : 5\r\n\r\n{smuggled}"),
        ),
        (
            "a blank before the first header",
            format!("GET /api/v1/info HTTP/1.1\r\n host: x\r\n\r\n{smuggled}"),
        ),
        (
            "NUL in a header",
            format!("{info}x: a\0b\r\n\r\n{smuggled}"),
        ),
        (
            "NUL in the path",
            "GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        ),
        ("CR in a header", format!("{info}x: a\rb\r\n\r\n{smuggled}")),
        (
            "an unknown coding",
            format!("{info}transfer-encoding: gzip\r\n\r\n{smuggled}"),
        ),
        (
            "chunked not last",
            format!("{info}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "chunked in HTTP/1.0",
            "GET /api/v1/info HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        ("no version", "GET /api/v1/info\r\n\r\n".into()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("HTTP/9", "GET / HTTP/9.9\r\nhost: x\r\n\r\n".into()),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".into()),
        (
            "a tunnel",
            "CONNECT evil.example:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".into(),
        ),
    ];
    for (name, bytes) in cases {
        let answer = served.exchange(bytes.as_bytes()).await;
        assert!(refused(&answer), "{name}: {answer}");
        assert!(statuses(&answer).len() <= 1, "{name}: {answer}");
        if answer.starts_with("HTTP/1.1 400") {
            is_bare(&answer);
        }
    }
    // RFC 9112, 6.1: read as chunked, and the connection ends with it. See `serve` for why it is
    // not refused.
    for (first, second) in [
        ("content-length: 4", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 4"),
        ("transfer-encoding: chunked", "content-length: 4, 5"),
    ] {
        let bytes = format!("{info}{first}\r\n{second}\r\n\r\n0\r\n\r\n{smuggled}");
        let answer = served.exchange(bytes.as_bytes()).await;
        assert_eq!(statuses(&answer), [200], "{first}: {answer}");
        assert!(answer.contains("connection: close"), "{first}: {answer}");
    }
    served.lives().await;
}

#[tokio::test]
async fn t10_j18_what_is_too_long_is_refused_unread() {
    let served = Served::start().await;
    let long = "x".repeat(1 << 20);
    let cases = [
        (
            "a header",
            format!("GET / HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
        ),
        (
            "a token",
            format!("GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {long}\r\n\r\n"),
        ),
        ("a path", format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n")),
        ("a method", format!("{long} / HTTP/1.1\r\nhost: x\r\n\r\n")),
        (
            "headers",
            format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(50_000)),
        ),
        (
            "many headers",
            format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)),
        ),
        (
            "17 KiB of it",
            format!(
                "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
                &long[..17 << 10]
            ),
        ),
    ];
    for (name, bytes) in cases {
        let answer = served.exchange(bytes.as_bytes()).await;
        let told = statuses(&answer);
        assert_eq!(told, [431], "{name}: {answer}");
        is_bare(&answer);
    }
    let fits = format!(
        "GET /health HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n",
        &long[..15 << 10]
    );
    assert_eq!(statuses(&served.exchange(fits.as_bytes()).await), [200]);
}

#[tokio::test]
async fn bodies_that_are_too_long_are_refused_however_they_are_framed() {
    let served = Served::start().await;
    let login = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\n";
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let chunks = format!(
        "{login}transfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(2000)
    );
    assert_eq!(statuses(&served.exchange(chunks.as_bytes()).await), [413]);
    for length in ["16385", "99999999999999999"] {
        let announced = format!("{login}content-length: {length}\r\n\r\n");
        assert_eq!(
            statuses(&served.exchange(announced.as_bytes()).await),
            [413]
        );
    }
    // Nobody reads this one; the connection ends with the answer.
    let ignored = format!(
        "GET /api/v1/info HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(2000)
    );
    assert_eq!(statuses(&served.exchange(ignored.as_bytes()).await), [200]);
    let broken = format!("{login}transfer-encoding: chunked\r\n\r\nzz\r\n");
    assert!(refused(&served.exchange(broken.as_bytes()).await));
    served.lives().await;
}

#[tokio::test]
async fn t11_heads_and_bodies_that_do_not_come_end_in_time() {
    let short = Duration::from_millis(200);
    let limits = Limits {
        head_time: short,
        ..Limits::default()
    };
    let options = Options {
        request_timeout: short,
        ..Options::default()
    };
    let served = Served::with(limits, options).await;
    let cases: [(&[u8], &[u16]); 4] = [
        (b"", &[]),
        (b"GET /api/v1/info HTTP/1.1\r\nhost:", &[]),
        (b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", &[200]),
        (
            b"POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\npass",
            &[408],
        ),
    ];
    for (bytes, told) in cases {
        assert_eq!(statuses(&served.exchange(bytes).await), told);
    }
    // One byte now and then does not prolong it.
    let (mut read, mut write) = served.connect().await.into_split();
    let drip = tokio::spawn(async move {
        for byte in "GET /api/v1/info HTTP/1.1\r\nx: "
            .bytes()
            .chain(std::iter::repeat(b'x'))
        {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(to_end(&mut read).await, "");
    timeout(PATIENCE, drip)
        .await
        .expect("the server hung up")
        .unwrap();
    assert_eq!(Limits::default().head_time, Duration::from_secs(10));
}

/// A client that asks and never takes the answers is cut off.
#[tokio::test]
async fn answers_that_nobody_takes_end_the_connection() {
    let limits = Limits {
        write_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let served = Served::with(limits, Options::default()).await;
    let mut stream = served.connect().await;
    let ask = "GET /api/v1/info HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let asked = async { while stream.write_all(ask.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, asked).await.expect("the server hung up");
    served.lives().await;
}

/// Each has two ends here. Where the system allows less open files, there are fewer.
#[test]
fn t12_five_thousand_idle_connections_do_not_keep_others_out() {
    let name = "http::sockets::t12_five_thousand_idle_connections_do_not_keep_others_out";
    alone(name, async {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut files = getrlimit(Resource::Nofile);
        files.current = files.maximum;
        setrlimit(Resource::Nofile, files).unwrap();
        let ends = files.maximum.map_or(usize::MAX, |files| files as usize);
        let idle = usize::min(5_000, (ends - 200) / 2);
        assert!(idle >= 1_500, "{ends} open files are too few to try this");
        let served = Served::start().await;
        let mut open = Vec::new();
        let before = resident();
        for _ in 0..idle {
            open.push(served.connect().await);
        }
        served.lives().await;
        let grown = resident().saturating_sub(before);
        println!("{} KiB for {idle} idle connections", grown >> 10);
        // They are let go in time, and were there until now.
        assert_eq!(to_end(open.last_mut().unwrap()).await, "");
        served.lives().await;
    });
}

#[tokio::test]
async fn t12_beyond_the_bound_one_waits_for_its_turn() {
    // Beyond the bound one waits, until one of the others is closed for being idle.
    let limits = Limits {
        connections: 2,
        head_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let served = Served::with(limits, Options::default()).await;
    let _idle = (served.connect().await, served.connect().await);
    served.lives().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let served = Served::start().await;
    let ask =
        "GET /api/v1/version HTTP/1.1\r\nhost: x\r\n\r\nGET /nosuch HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = served
        .exchange(format!("{}{last}", ask.repeat(50)).as_bytes())
        .await;
    let mut wanted = [200, 404].repeat(50);
    wanted.push(200);
    assert_eq!(statuses(&answer), wanted);
}

#[tokio::test]
async fn a_request_that_ends_anywhere_leaves_no_trace() {
    let served = Served::start().await;
    let form = format!("password={}", served.server.key.text().replace('=', "%3D"));
    let whole = format!(
        "POST /api/v1/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    assert_eq!(statuses(&served.exchange(whole.as_bytes()).await), [200]);
    for end in (0..whole.len()).step_by(3) {
        let mut stream = served.connect().await;
        stream.write_all(&whole.as_bytes()[..end]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(refused(&answer), "cut at {end}: {answer}");
    }
    served.lives().await;
}

#[tokio::test]
async fn every_route_survives_bodies_of_every_kind() {
    let served = Served::start().await;
    let token = served.server.token().await;
    for route in routes() {
        let path = route.path.replace('{', "%7B").replace('}', "%7D");
        for authorization in ["", &format!("authorization: Bearer {token}\r\n")] {
            for (content_type, body) in [
                ("application/json", &b"{\"a\":"[..]),
                ("application/json", b"[[[[[[[[[[[["),
                ("application/x-www-form-urlencoded", b"%ff%zz&&==&a=b&a"),
                ("text/plain", b"\0\xff\xfe"),
                ("\u{e4}", b""),
            ] {
                let mut bytes = format!(
                    "{} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}\
                     content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
                    route.method,
                    body.len()
                )
                .into_bytes();
                bytes.extend_from_slice(body);
                let told = statuses(&served.exchange(&bytes).await);
                assert!(matches!(told[..], [200..500]), "{route:?}: {told:?}");
            }
        }
    }
    served.lives().await;
}

/// Runs the test of that name in a process that does nothing else, as memory and open files are
/// a process's.
pub fn alone(name: &str, test: impl Future<Output = ()>) {
    const ALONE: &str = "ZENOP_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return runtime().block_on(test);
    }
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    let failed = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success() && told.contains("1 passed"),
        "{told}{failed}"
    );
    print!("{told}");
}

#[test]
fn a_flood_of_long_heads_takes_little_memory() {
    let name = "http::sockets::a_flood_of_long_heads_takes_little_memory";
    alone(name, flood_of_long_heads());
}

async fn flood_of_long_heads() {
    let served = Served::start().await;
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..500 {
        let mut stream = served.connect().await;
        let head = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(15 << 10));
        stream.write_all(head.as_bytes()).await.unwrap();
        open.push(stream);
    }
    served.lives().await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 500 half requests");
    println!("{} KiB for 500 half requests", grown >> 10);
}

/// Resident memory of this process, in bytes.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap() << 10
}

#[tokio::test]
async fn the_end_waits_for_requests_and_no_longer_than_it_may() {
    let served = Served::start().await;
    let mut idle = served.connect().await;
    let mut busy = served.connect().await;
    let head = b"POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n";
    busy.write_all(head).await.unwrap();
    served.lives().await;
    served.end.send(()).unwrap();
    assert_eq!(to_end(&mut idle).await, "", "who asks nothing is let go");
    busy.write_all(b"x").await.unwrap();
    assert_eq!(
        statuses(&to_end(&mut busy).await),
        [400],
        "who asked is answered"
    );
    timeout(PATIENCE, served.done).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());

    let limits = Limits {
        drain: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = Served::with(limits, Options::default()).await;
    let mut busy = served.connect().await;
    busy.write_all(head).await.unwrap();
    served.lives().await;
    served.end.send(()).unwrap();
    timeout(PATIENCE, served.done).await.unwrap().unwrap();
    assert_eq!(to_end(&mut busy).await, "");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A request in which anything may be wrong.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET /api/v1/info HTTP/1.1\r\n".to_vec()),
        Just(b"POST /api/v1/login HTTP/1.1\r\n".to_vec()),
        Just(b"host: x\r\n".to_vec()),
        Just(b"content-length: 3\r\n".to_vec()),
        Just(b"transfer-encoding: chunked\r\n".to_vec()),
        Just(b"authorization: Bearer ZENKEY_\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn garbage_is_refused_or_ends_the_connection() {
    let runtime = runtime();
    let limits = Limits {
        head_time: Duration::from_millis(50),
        ..Limits::default()
    };
    let options = Options {
        request_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let served = runtime.block_on(Served::with(limits, options));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let result = runner.run(&garbage(), |bytes| {
        let answer = runtime.block_on(served.exchange(&bytes));
        let told = statuses(&answer);
        prop_assert!(
            told.iter().all(|status| (200..500).contains(status)),
            "{}",
            answer
        );
        runtime.block_on(served.lives());
        Ok(())
    });
    result.unwrap();
}
