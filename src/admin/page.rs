//! The page: one static HTML document that fetches /status each second and draws it. It loads nothing else: the policy
//! names its style and its script by their hashes, so injected markup could not run.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Handles;

/// The hashes are taken over these bytes, without the tags.
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/page.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>",
    include_str!("page/page.js"),
    "</script>\n</body>\n</html>\n",
);

/// The route of the page.
pub(super) fn routes() -> Router<Arc<Handles>> {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let page = move || {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::CONTENT_SECURITY_POLICY, policy.clone()),
        ];
        std::future::ready((headers, PAGE).into_response())
    };
    Router::new().route("/", get(page))
}

/// The source expression of an inline part in a Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}
