//! The routes that only read, and the headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::listener::Peer;
use super::status::Status;
use super::{Handles, actions, page};
use crate::decisions::DecisionsHandle;
use crate::lifecycle::Phase;
use crate::metrics::ProcessState;
use crate::status::Snapshot;

/// Largest request body.
const BODY_MAX_BYTES: usize = 4096;

/// Longest wait for the workers; probes commonly time out after two seconds, too.
const WORKER_TIMEOUT: Duration = Duration::from_secs(2);

/// All routes.
pub(super) fn router(handles: Handles) -> Router {
    let handles = Arc::new(handles);
    let guarded = Router::new()
        .route("/status", get(status))
        .merge(page::routes())
        .merge(actions::routes())
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(&handles),
            actions::authorize,
        ));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .fallback(not_found)
        .layer(middleware::from_fn(read_request))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::map_response(add_headers))
        .with_state(handles)
}

/// Reads the whole request before anything is done about it; until then its connection may be evicted.
async fn read_request(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await {
        Ok(body) => {
            peer.request_is_whole();
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// One request a connection (see [`super::listener`]); answers are not cached, not framed, and their type is not guessed.
async fn add_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    response
}

async fn metrics(State(handles): State<Arc<Handles>>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    let answer = async {
        let state = state(&handles, handles.control.look()).await?;
        let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        Ok::<_, Stuck>((kind, handles.metrics.render(&state)))
    };
    peer.one_at_a_time(answer).await.into_response()
}

async fn status(State(handles): State<Arc<Handles>>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    let answer = async {
        let state = state(&handles, handles.control.status()).await?;
        let config = Arc::clone(&handles.config.borrow());
        let status = Status::new(
            &state,
            &config,
            handles.decisions.as_ref().map(DecisionsHandle::status),
            handles.upgrades.as_ref(),
            handles.log.level(),
            Instant::now(),
        );
        Ok::<_, Stuck>(json(StatusCode::OK, &status))
    };
    peer.one_at_a_time(answer).await.into_response()
}

async fn livez(State(handles): State<Arc<Handles>>) -> Result<&'static str, Stuck> {
    state(&handles, handles.control.look()).await.map(|_| "ok\n")
}

/// Ready: configuration loaded, listeners bound, not draining. The Traffic Managers' health does not count: in a sidecar
/// weir's readiness is the pod's, and an outage of a Traffic Manager would take every gateway out of service.
async fn readyz(State(handles): State<Arc<Handles>>, RawQuery(query): RawQuery) -> Response {
    let phase = handles.lifecycle.phase();
    let ready = phase == Phase::Ready;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let verbose = query.is_some_and(|q| q.split('&').any(|p| p == "verbose" || p.starts_with("verbose=")));
    if !verbose {
        let word = if ready { "ok" } else { phase.as_str() };
        return (status, format!("{word}\n")).into_response();
    }
    let mark = |holds| if holds { "[+]" } else { "[-]" };
    let started = phase != Phase::Starting;
    let open = !matches!(phase, Phase::Draining { .. } | Phase::Stopped);
    let text = format!(
        "[+] configuration loaded\n{} listeners bound\n{} not draining\nphase: {}\n",
        mark(started),
        mark(open),
        phase.as_str()
    );
    (status, text).into_response()
}

async fn not_found() -> Response {
    let text = "no such path; there are / /metrics /livez /readyz /status /reload /drain /upgrade /tap /log-level \
                /endpoints/{group}/{endpoint}/enable and …/disable\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// The answer when a worker does not.
type Stuck = (StatusCode, &'static str);

/// The state of the process, unless a worker is stuck or has ended.
async fn state(
    handles: &Handles,
    snapshot: impl Future<Output = Option<Snapshot>>,
) -> Result<ProcessState, Stuck> {
    let snapshot = timeout(WORKER_TIMEOUT, snapshot).await.ok().flatten();
    let text = "a worker has not answered for two seconds\n";
    Ok(ProcessState {
        snapshot: snapshot.ok_or((StatusCode::SERVICE_UNAVAILABLE, text))?,
        facts: handles.facts.borrow().clone(),
        phase: handles.lifecycle.phase(),
    })
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
