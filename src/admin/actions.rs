//! The routes that change something, and the [`guard`] before these and others. Each change is a line in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Handles;
use super::guard;
use super::listener::Peer;
use super::routes::json;
use super::tap;
use crate::control::ReloadRequest;
use crate::lifecycle::{End, Phase};

/// Longest wait for a reload; shorter than a connection may live, so the answer still gets through.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest wait for the workers to enable or disable an endpoint.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(2);

/// The routes, to be given `handles` as state.
pub(super) fn routes() -> Router<Arc<Handles>> {
    Router::new()
        .route("/reload", post(reload))
        .route("/drain", post(drain).delete(undo_drain))
        .route("/upgrade", post(upgrade))
        .route("/endpoints/{group}/{endpoint}/{switch}", post(endpoint))
        .route("/log-level", get(log_level).put(set_log_level))
        .route("/tap", post(tap::open))
        .layer(Extension(tap::TapSlots::new()))
}

/// Lets a call pass that may read, or that may change things.
pub(super) async fn authorize(
    State(handles): State<Arc<Handles>>,
    ConnectInfo(Peer { address: peer, .. }): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let config = Arc::clone(&handles.config.borrow());
    let token = config.admin.as_ref().and_then(|a| a.token.as_ref());
    let what = format!("{} {}", request.method(), request.uri().path());
    let allowed = match reads {
        true => guard::may_read(token, request.headers()),
        false => guard::may_write(token, peer.ip(), request.headers()),
    };
    if let Err(refusal) = allowed {
        tracing::warn!(%peer, call = %what, reason = refusal.message(), "admin call refused");
        let mut response = error(refusal.status(), refusal.message());
        if refusal == guard::Refusal::Token {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        return response;
    }
    if reads {
        return next.run(request).await;
    }
    // Before the call: the rest is not reached when the caller closes the connection.
    tracing::info!(%peer, call = %what, "admin call");
    let response = next.run(request).await;
    if !response.status().is_success() {
        tracing::warn!(%peer, call = %what, status = response.status().as_u16(), "admin call failed");
    }
    response
}

async fn reload(State(handles): State<Arc<Handles>>) -> Response {
    let (answer, outcome) = oneshot::channel();
    match handles.reload.try_send(ReloadRequest { answer }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return error(StatusCode::CONFLICT, "a reload is already in progress"),
        Err(TrySendError::Closed(_)) => return error(StatusCode::SERVICE_UNAVAILABLE, "weir is stopping"),
    }
    match timeout(RELOAD_TIMEOUT, outcome).await {
        Ok(Ok(Ok(report))) => json(StatusCode::OK, &report),
        Ok(Ok(Err(problems))) => {
            let text = "the new configuration was refused; the old one stays in force";
            json(
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!({ "error": text, "problems": problems }),
            )
        }
        Ok(Err(_)) => error(StatusCode::SERVICE_UNAVAILABLE, "weir is stopping"),
        Err(_) => json(
            StatusCode::ACCEPTED,
            &json!({ "message": "still in progress; last_reload in /status has the outcome" }),
        ),
    }
}

async fn drain(State(handles): State<Arc<Handles>>) -> Response {
    let (notice, timeout) = {
        let config = handles.config.borrow();
        (config.drain_notice, config.drain_timeout)
    };
    handles.lifecycle.drain(Instant::now(), notice, timeout);
    phase(&handles)
}

/// Takes back only a drain: a weir that is starting must not become ready by this.
async fn undo_drain(State(handles): State<Arc<Handles>>) -> Response {
    match handles.lifecycle.phase() {
        Phase::Draining { end: End::Open, .. } => handles.lifecycle.ready(),
        Phase::Ready => {}
        Phase::Draining { .. } => {
            return error(
                StatusCode::CONFLICT,
                "this drain ends the process and cannot be undone",
            );
        }
        Phase::Starting | Phase::Stopped => {
            return error(StatusCode::CONFLICT, "there is no drain to undo");
        }
    }
    phase(&handles)
}

/// Answers before there is a successor: /status says which process serves, or why there is no new one.
async fn upgrade(State(handles): State<Arc<Handles>>) -> Response {
    let Some(upgrades) = &handles.upgrades else {
        return error(
            StatusCode::CONFLICT,
            "this weir was not started by `weir supervise`, which could start another beside it; restart it: with \
             systemd by `systemctl restart weir` (weir.socket keeps the ports open), else start the new weir first, \
             which shares the ports, and then send this one SIGTERM",
        );
    };
    match upgrades.ask() {
        Ok(()) => json(
            StatusCode::ACCEPTED,
            &json!({ "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION") }),
        ),
        Err(e) => {
            let text = format!("cannot reach `weir supervise`: {e}");
            error(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
    }
}

fn phase(handles: &Handles) -> Response {
    let phase = handles.lifecycle.phase();
    let drain = phase.drain(Instant::now());
    let body = json!({
        "phase": phase.as_str(),
        "drain_stage": drain.map(|d| d.0),
        "drain_remaining_seconds": drain.map(|d| d.1.as_secs_f64()),
    });
    json(StatusCode::OK, &body)
}

async fn endpoint(
    State(handles): State<Arc<Handles>>,
    Path((group, endpoint, switch)): Path<(String, String, String)>,
) -> Response {
    let enabled = match switch.as_str() {
        "enable" => true,
        "disable" => false,
        _ => return error(StatusCode::NOT_FOUND, "an endpoint can be enabled or disabled"),
    };
    match timeout(SWITCH_TIMEOUT, handles.control.enable(&group, &endpoint, enabled)).await {
        Ok(true) => json(
            StatusCode::OK,
            &json!({ "group": group, "endpoint": endpoint, "enabled": enabled }),
        ),
        Ok(false) => error(
            StatusCode::NOT_FOUND,
            &unknown_endpoint(&handles, &group, &endpoint),
        ),
        Err(_) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "a worker has not answered for two seconds; /status says what is in force",
        ),
    }
}

fn unknown_endpoint(handles: &Handles, group: &str, endpoint: &str) -> String {
    let config = Arc::clone(&handles.config.borrow());
    match config.groups.iter().find(|g| g.name == group) {
        Some(known) => {
            let names: Vec<_> = known.endpoints.iter().map(|e| e.name.as_str()).collect();
            format!(
                "group {group} has no endpoint {endpoint}; it has {}",
                names.join(", ")
            )
        }
        None => {
            let names: Vec<_> = config.groups.iter().map(|g| g.name.as_str()).collect();
            format!("there is no group {group}; there are {}", names.join(", "))
        }
    }
}

async fn log_level(State(handles): State<Arc<Handles>>) -> String {
    handles.log.level() + "\n"
}

async fn set_log_level(State(handles): State<Arc<Handles>>, body: Bytes) -> Response {
    match handles.log.set_level(String::from_utf8_lossy(&body).trim()) {
        Ok(()) => (handles.log.level() + "\n").into_response(),
        Err(problem) => error(StatusCode::BAD_REQUEST, &problem),
    }
}

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json(status, &json!({ "error": message }))
}
