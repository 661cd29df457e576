//! `get`.

use clap::Args;

use super::{
    Session,
    arguments::ObjectForm,
    failure::Failure,
    noun::{Names, Noun, each},
};

/// `get`.
#[derive(Clone, Debug, Args)]
pub struct GetArguments {
    #[command(flatten)]
    names: Names,

    /// How to show them.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: ObjectForm,
}

/// Shows objects as they are.
///
/// # Errors
/// If one is not there; the others are shown.
pub async fn get<K: Noun>(session: &Session, arguments: &GetArguments) -> Result<(), Failure> {
    let cluster = session.cluster().await?;
    each(session, &arguments.names, async |name| {
        let found = cluster.read::<K>(name).await?;
        session.out.object(arguments.output, &found.raw)
    })
    .await
}
