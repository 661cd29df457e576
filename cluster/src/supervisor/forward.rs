//! Lets the machine reach a port inside the node's network.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::AsFd,
    path::Path,
};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Listens where it is and connects in the network namespace that the file names. Does not return.
///
/// It moves the calling thread, so it is for a program of one thread that does nothing else.
pub async fn run(listen: SocketAddr, network: &Path, to: SocketAddr) -> Result<()> {
    let listener = StdListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let network = File::open(network).context("opening the node's network")?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering the node's network")?;
    loop {
        let (mut outer, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Ok(mut inner) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut outer, &mut inner).await;
            }
        });
    }
}
