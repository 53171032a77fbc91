//! The task of one endpoint: dial, log in, pump, back off, and again.

use std::rc::Rc;

use tokio::time::{Instant, sleep_until};

use super::backoff::{Backoff, HEALTHY_AFTER};
use super::group::Shared;
use super::login::login;
use super::pump::Pump;
use super::session::Session;
use super::state::{Failure, Link};

/// Runs until the link is retired. Whatever ends a connection is handled in one way: a [`Failure`] is reported, what has no
/// reply is back in the queue, and the link backs off.
pub(super) async fn run(link: Rc<Link>, group: Rc<Shared>) {
    let mut backoff = {
        let settings = group.settings();
        Backoff::new(settings.backoff_min, settings.backoff_max)
    };
    while !link.is_retired() {
        if !link.is_enabled() {
            link.disabled();
            link.change().await;
            continue;
        }
        let failure = match connect_while_wanted(&link, &group).await {
            Some(Ok(pump)) => {
                let since = Instant::now();
                backoff.logged_in();
                link.up();
                let end = pump.run().await;
                if since.elapsed() >= HEALTHY_AFTER {
                    backoff.reset();
                }
                match end {
                    Ok(()) => continue,
                    Err(failure) => failure,
                }
            }
            Some(Err(failure)) => failure,
            None => continue,
        };
        {
            let settings = group.settings();
            backoff.set_bounds(settings.backoff_min, settings.backoff_max);
        }
        let delay = backoff.next(failure.class, &mut group.random());
        let again_at = Instant::now() + delay;
        link.down(failure, again_at);
        tokio::select! {
            // Unbiased would do as well: a change must not wait for the backoff.
            biased;
            () = link.change() => {}
            () = sleep_until(again_at) => {}
        }
        link.tries();
    }
}

/// A pump on a connection that is logged in, or `None` when the link was switched off meanwhile.
async fn connect_while_wanted(link: &Rc<Link>, group: &Rc<Shared>) -> Option<Result<Pump, Failure>> {
    let connected = connect(link, group);
    tokio::pin!(connected);
    loop {
        tokio::select! {
            // The change first: an endpoint that was switched off must not come up again.
            biased;
            () = link.change() => if !link.wanted() { return None },
            result = &mut connected => return Some(result),
        }
    }
}

async fn connect(link: &Rc<Link>, group: &Rc<Shared>) -> Result<Pump, Failure> {
    let settings = group.settings();
    let session = log_in(Rc::clone(link), Rc::clone(group)).await?;
    let stream = group
        .dialer()
        .dial(
            &link.endpoint.data,
            settings.connect_timeout,
            settings.tls_timeout,
        )
        .await?;
    Ok(Pump::new(Rc::clone(link), Rc::clone(group), stream, session))
}

/// Logs in over a connection of its own.
pub(super) async fn log_in(link: Rc<Link>, group: Rc<Shared>) -> Result<Session, Failure> {
    let settings = group.settings();
    let (username, password) = group.credentials();
    let auth = &link.endpoint.auth;
    let is_own = |session: &[u8]| group.is_own(session);
    let id = login(group.dialer(), auth, &username, &password, &settings, is_own).await?;
    Ok(Session::new(id, Instant::now()))
}
