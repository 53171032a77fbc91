//! The one session all connections of a load share, as those of an agent do.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Shared;
use crate::gateway::{Answer, Gateway};

/// A session id and how many logins came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: Arc<[u8]>,
    generation: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Mutex<Option<Session>>,
}

const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Shared {
    /// The session in force, another one than `expired`. Logs in where needed; of many connections that
    /// find the same session expired only the first does.
    pub(super) async fn session(&self, expired: Option<&Session>) -> Result<Session, String> {
        let mut current = self.sessions.current.lock().await;
        let good = current
            .as_ref()
            .filter(|s| expired.is_none_or(|e| e.generation != s.generation));
        if let Some(session) = good {
            return Ok(session.clone());
        }
        let generation = current.as_ref().map_or(0, |s| s.generation + 1);
        match self.log_in().await {
            Ok(id) => {
                self.count(|c| c.logins += 1);
                let session = Session {
                    id: id.into(),
                    generation,
                };
                *current = Some(session.clone());
                Ok(session)
            }
            Err(why) => {
                self.count(|c| c.login_failures += 1);
                Err(why)
            }
        }
    }

    async fn log_in(&self) -> Result<Vec<u8>, String> {
        let options = &self.options;
        let url = options.auth.as_ref().unwrap_or(&options.data);
        let mut gateway = Gateway::connect(&options.dialer, url)
            .await
            .map_err(|e| e.to_string())?;
        let answer = gateway
            .login(&options.user, &options.password, LOGIN_TIMEOUT)
            .await;
        gateway.close().await;
        match answer {
            Answer::Session(id) => Ok(id),
            other => Err(format!("login at {url} as {}: {other:?}", options.user)),
        }
    }

    /// What the agent does when its gateway stops.
    pub(super) async fn log_out(&self) {
        let options = &self.options;
        let url = options.auth.as_ref().unwrap_or(&options.data);
        let Some(session) = self.sessions.current.lock().await.take() else {
            return;
        };
        if let Ok(mut gateway) = Gateway::connect(&options.dialer, url).await {
            // A courtesy: a session that stays open expires by itself.
            let _ = gateway.logout(&session.id, LOGIN_TIMEOUT).await;
            gateway.close().await;
        }
    }
}
