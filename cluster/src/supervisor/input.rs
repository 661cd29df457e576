//! What a supervisor listens to: its holder's pipe, signals, its children.

use std::{future::pending, io, os::fd::AsFd};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::protocol::Request;

/// Something to react to.
#[derive(Debug)]
pub enum Input {
    /// The holder asks for something.
    Request(Request),
    /// Some child ended.
    ChildEnded,
    /// The holder is gone, or somebody asked us to end.
    Stop,
}

/// All sources of [`Input`].
pub struct Inputs {
    pipe: Option<Lines<BufReader<pipe::Receiver>>>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    child: Signal,
}

impl Inputs {
    /// Listens to signals and to the pipe on stdin, whose end means the holder's end.
    pub fn listen() -> Result<Self> {
        let stdin = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("duplicating stdin")?;
        // Not tokio's stdin: its blocked thread would keep the process from ending.
        let pipe =
            pipe::Receiver::from_owned_fd(stdin).context("stdin must be the holder's pipe")?;
        Ok(Self {
            pipe: Some(BufReader::new(pipe).lines()),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Listens no more to the pipe: from now on the holder may end.
    pub fn let_go(&mut self) {
        self.pipe = None;
    }

    /// Waits for the next thing to react to. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Input {
        tokio::select! {
            line = next_line(&mut self.pipe) => line.and_then(|line| serde_json::from_str(&line).ok())
                .map_or(Input::Stop, Input::Request),
            _ = self.terminate.recv() => Input::Stop,
            _ = self.interrupt.recv() => Input::Stop,
            _ = self.hangup.recv() => Input::Stop,
            _ = self.child.recv() => Input::ChildEnded,
        }
    }

    /// Waits until it is time to end.
    pub async fn stop(&mut self) {
        while !matches!(self.next().await, Input::Stop) {}
    }
}

/// `None` at the pipe's end.
async fn next_line(pipe: &mut Option<Lines<BufReader<pipe::Receiver>>>) -> Option<String> {
    match pipe {
        Some(lines) => lines.next_line().await.ok().flatten(),
        None => pending().await,
    }
}
