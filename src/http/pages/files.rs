//! What pages load: a stylesheet and an icon. Each is named after its content, so browsers keep it
//! for ever and never show a page with another release's.

use std::sync::LazyLock;

use axum::{
    extract::{Path, Request, State},
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::http::{App, Refusal, upstream};

const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

pub(super) static STYLE: LazyLock<File> = LazyLock::new(|| {
    let text = include_str!("../../../templates/pages.css");
    File::new("pages", "css", "text/css; charset=utf-8", text)
});
pub(super) static ICON: LazyLock<File> = LazyLock::new(|| {
    let text = include_str!("../../../templates/icon.svg");
    File::new("icon", "svg", "image/svg+xml", text)
});

/// A file of this release.
pub(super) struct File {
    name: String,
    kind: &'static str,
    text: &'static str,
}

impl File {
    fn new(stem: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let mut hash = hex::encode(Sha256::digest(text));
        hash.truncate(16);
        Self {
            name: format!("{stem}-{hash}.{ending}"),
            kind,
            text,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// `GET /assets/{file}`. The ZenML server's dashboard has files there, too.
pub(in crate::http) async fn file(
    State(app): State<App>,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let found = [&*STYLE, &*ICON]
        .into_iter()
        .find(|file| file.name == wanted);
    let Some(file) = found else {
        return upstream::pass(State(app), request).await;
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(file.kind)),
        (CACHE_CONTROL, FOR_EVER),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, file.text).into_response())
}
