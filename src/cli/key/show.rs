//! `kubectl zen key show`.

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use zeroize::Zeroizing;

use crate::{
    api::{DeliveryMode, SourceType, ZenAPIKey, label},
    auth::api_key::ApiKey,
    cli::{
        Session,
        arguments::UnsafeOutput,
        cluster::Cluster,
        failure::{Exit, Failure},
        output::Stream,
    },
};

/// Which key.
#[derive(Clone, Debug, Args)]
pub struct KeyShow {
    /// The key's name.
    name: String,

    #[command(flatten)]
    unsafe_output: UnsafeOutput,
}

impl KeyShow {
    /// Prints it.
    ///
    /// # Errors
    /// If it may not be shown here, or is not there.
    pub async fn run(&self, session: &Session) -> Result<(), Failure> {
        let instead = "use the Secret that it is in";
        session
            .out
            .may_show_key(Stream::Out, self.unsafe_output, instead)?;
        let cluster = session.cluster().await?;
        let key = cluster.read::<ZenAPIKey>(&self.name).await?.typed;
        let text = delivered(&cluster, &key).await?;
        session.out.key(Stream::Out, &text)
    }
}

/// The text of a delivered key, from its Secret. That is the one which the operator made for this
/// very key: a Secret of the same name may be somebody else's.
///
/// # Errors
/// If there is none, or it holds no key.
pub async fn delivered(cluster: &Cluster, key: &ZenAPIKey) -> Result<Zeroizing<String>, Failure> {
    let title = cluster.title::<ZenAPIKey>(&key.name_any());
    let failed = |message: String| Failure::new(Exit::NotFound, format!("{title}: {message}"));
    if key.spec.delivery.mode == DeliveryMode::None {
        return Err(failed(nowhere(key)));
    }
    let delivered = key.status.as_ref().and_then(|s| s.secret_ref.as_ref());
    let Some(delivered) = delivered else {
        let name = key.name_any();
        return Err(failed(format!(
            "it is in no Secret yet; see `kubectl zen key describe {name}`"
        )));
    };
    let secret = cluster.core::<Secret>().get(&delivered.name).await;
    let doing = format!("reading Secret {}/{}", cluster.namespace, delivered.name);
    let secret = secret.map_err(|error| Failure::of(&doing, &error))?;
    if secret.labels().get(label::OWNER_UID) != key.metadata.uid.as_ref() {
        return Err(failed(format!(
            "Secret {} was not made for it",
            delivered.name
        )));
    }
    let entry = &key.spec.delivery.secret_template.keys.key;
    let bytes = secret.data.as_ref().and_then(|data| data.get(entry));
    let text = bytes
        .and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
        .map(|text| Zeroizing::new(text.to_owned()))
        .filter(|text| text.parse::<ApiKey>().is_ok());
    text.ok_or_else(|| {
        failed(format!(
            "Secret {} has no key under {entry}",
            delivered.name
        ))
    })
}

fn nowhere(key: &ZenAPIKey) -> String {
    let source = &key.spec.source;
    match (source.source_type, &source.value_from) {
        (SourceType::ValueFrom, Some(from)) => format!(
            "it is not delivered; it comes from entry {} of Secret {}",
            from.secret_key_ref.key, from.secret_key_ref.name
        ),
        _ => "only its hash is in the cluster; whoever made it has the key".to_owned(),
    }
}
