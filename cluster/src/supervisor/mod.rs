//! The process that owns one cluster: its folder, its children, and their end.
//!
//! Whoever wants a cluster starts a supervisor and holds a pipe to its stdin. When the holder ends, however it ends, the
//! kernel closes the pipe and the supervisor tears everything down. Should the supervisor itself be killed, its children
//! die with it (see [`process::tied`](crate::process::tied)) and the next supervisor sweeps up the folder.

mod cluster;
mod components;
pub mod forward;
mod input;
mod kwok;
mod node;
pub mod space;
mod storage;

pub use node::{CNI_FOLDERS, import};

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use rustix::process::setsid;
use serde_json::Value;

use self::{
    cluster::Cluster,
    input::{Input, Inputs},
};
use crate::{
    folder::{self, Folder},
    progress,
    protocol::{Act, Answer, Request, Running, Wanted},
};

/// Starts a cluster, serves requests about it, and tears it down when its holder ends or a signal says so.
///
/// With a `note`, the holder may end once the cluster is ready: it then runs until a signal, and the note says how to
/// reach it.
pub async fn run(wanted: Wanted, note: Option<PathBuf>) -> Result<()> {
    if note.is_some() {
        // Away from the terminal, whose end would otherwise be ours.
        setsid().context("leaving the terminal")?;
    }
    let mut inputs = Inputs::listen()?;
    sweep();
    let folder = Folder::create()?;
    let mut cluster = Cluster::new(folder.path(), wanted)?;
    let started = Instant::now();
    let ready = tokio::select! {
        ready = cluster.start() => ready.map(Some),
        () = inputs.stop() => Ok(None),
    };
    let served = match ready {
        Ok(Some(running)) => {
            let took = progress::seconds(started.elapsed());
            progress::say(format_args!("Kubernetes ready in {took}"));
            serve(&mut cluster, &mut inputs, running, note.as_deref()).await
        }
        Ok(None) => Ok(()),
        Err(error) => {
            answer(&Answer::Failed(format!("{error:#}")));
            Ok(())
        }
    };
    cluster.stop().await;
    served
}

async fn serve(
    cluster: &mut Cluster,
    inputs: &mut Inputs,
    running: Running,
    note: Option<&Path>,
) -> Result<()> {
    if let Some(note) = note {
        inputs.let_go();
        fs::write(note, serde_json::to_vec_pretty(&running)?).context("noting the cluster")?;
    }
    answer(&Answer::Ready(Box::new(running)));
    loop {
        match inputs.next().await {
            Input::Request(request) => answer(&perform(cluster, request).await),
            Input::ChildEnded => cluster.report_ended(),
            Input::Stop => break,
        }
    }
    if let Some(note) = note {
        fs::remove_file(note).context("removing the cluster's note")?;
    }
    Ok(())
}

async fn perform(cluster: &mut Cluster, request: Request) -> Answer {
    let done = match request {
        Request::Apiserver(Act::Stop) => cluster.stop_apiserver().await,
        Request::Apiserver(Act::Start) => cluster.start_apiserver().await,
        Request::Apiserver(Act::Pause) => cluster.pause_apiserver(),
        Request::Apiserver(Act::Resume) => cluster.resume_apiserver(),
    };
    done.map_or_else(
        |error| Answer::Failed(format!("{error:#}")),
        |()| Answer::Done,
    )
}

/// Says it to the holder, who may be gone.
fn answer(answer: &Answer) {
    if let Ok(line) = serde_json::to_string(answer) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Removes what killed supervisors left behind.
pub fn sweep() {
    for folder in folder::abandoned() {
        space::remove_cgroups(&folder);
        let _ = fs::remove_dir_all(folder);
    }
}

/// Makes an object of the whole cluster what `object` says.
async fn apply<K>(client: &Client, name: &str, mut object: Value) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    if let Some(metadata) = object
        .pointer_mut("/metadata")
        .and_then(Value::as_object_mut)
    {
        metadata.insert("name".into(), name.into());
    }
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), K::api_version(&()).into());
        object.insert("kind".into(), K::kind(&()).into());
    }
    let api = Api::<K>::all(client.clone());
    let params = PatchParams::apply("zenop-cluster").force();
    api.patch(name, &params, &Patch::Apply(&object)).await?;
    Ok(())
}
