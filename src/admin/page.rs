//! The page for people: one static document with its style and its script, all from this binary, which asks
//! /status each second and draws what it says. It loads nothing from anywhere else and may not.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Handles;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the page and its two parts.
pub(super) fn routes() -> Router<Arc<Handles>> {
    Router::new()
        .route(
            "/",
            get(part("text/html; charset=utf-8", include_str!("page/page.html"))),
        )
        .route(
            "/page.css",
            get(part("text/css; charset=utf-8", include_str!("page/page.css"))),
        )
        .route(
            "/page.js",
            get(part(
                "text/javascript; charset=utf-8",
                include_str!("page/page.js"),
            )),
        )
}

fn part(kind: &'static str, text: &'static str) -> impl Fn() -> Answer + Clone + Send + Sync + 'static {
    move || {
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        ];
        std::future::ready((headers, text).into_response())
    }
}

type Answer = std::future::Ready<axum::response::Response>;
