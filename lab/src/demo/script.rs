//! What goes wrong, and when: a Traffic Manager of each group dies and comes back, a session expires, and the
//! broker of decisions is away for a while.

use std::cell::RefCell;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use weir::output::{self, Failure};
use weir::status::Snapshot;

use super::DemoArgs;
use super::setup::Setup;
use crate::Close;

/// How long a change may take to show.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What had to happen, with how often it did.
pub(super) type Witnesses = Vec<(&'static str, u64)>;

/// Prints the script; fails when stdout is closed.
pub(super) struct Said<'a> {
    bar: &'a ProgressBar,
    failed: RefCell<Option<Failure>>,
    has_failed: Notify,
}

impl<'a> Said<'a> {
    pub(super) fn beside(bar: &'a ProgressBar) -> Self {
        Self {
            bar,
            failed: RefCell::default(),
            has_failed: Notify::new(),
        }
    }

    fn say(&self, line: &str) {
        // Where there is no terminal there is no bar, and a bar that is hidden prints nothing.
        if let Err(failure) = self.bar.suspend(|| output::print(line)) {
            self.failed.replace(Some(failure));
            self.has_failed.notify_one();
        }
    }

    /// Ends when stdout is closed.
    pub(super) async fn failed(&self) -> Failure {
        loop {
            self.has_failed.notified().await;
            if let Some(failure) = self.failed.take() {
                return failure;
            }
        }
    }
}

/// Plays the middle third; returns when everything is well again.
pub(super) async fn play(args: &DemoArgs, setup: &Setup, said: &Said<'_>, start: Instant) -> Witnesses {
    if args.calm {
        return Vec::new();
    }
    let say = |what: &str| said.say(&format!("{:>5.1}s  {what}\n", start.elapsed().as_secs_f64()));
    let leg = setup.leg.play(args, &setup.weir, &say, start);
    let (mut seen, of_leg) = tokio::join!(managers(args, setup, &say, start), leg);
    seen.extend(of_leg);
    seen
}

async fn managers(args: &DemoArgs, setup: &Setup, say: &impl Fn(&str), start: Instant) -> Witnesses {
    let at = |twelfths: u32| sleep_until(start + args.duration * twelfths / 12);
    let (shared, standby) = (&setup.managers[0], &setup.managers[1]);

    at(3).await;
    say("a Traffic Manager of \"shared\" is killed, and the first one of \"standby\"");
    shared[0].kill(Close::Rst).await;
    standby[0].kill(Close::Rst).await;
    let down = until(setup, |s| s.groups.iter().all(|g| g.endpoints[0].links_up == 0)).await;

    at(6).await;
    say("both live again; they know no session from before");
    shared[0].revive().await;
    standby[0].revive().await;
    let up = until(setup, |s| s.groups.iter().all(|g| g.endpoints[0].links_up == 1)).await;

    at(8).await;
    say("the session of a Traffic Manager of \"shared\" expires");
    let logins = shared[1].counts().logins_ok;
    shared[1].expire_sessions();
    let relogin = until(setup, |_| shared[1].counts().logins_ok > logins).await;
    let expired = shared[1].counts().session_errors;
    say("weir has logged in again");
    vec![
        ("links down while Traffic Managers were dead", down),
        ("links up again", up),
        ("frames refused for an expired session", expired),
        ("logins after the expiry", relogin),
    ]
}

/// 1 when weir says so in time.
async fn until(setup: &Setup, is: impl Fn(&Snapshot) -> bool) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is(&setup.weir.control().snapshot().await) {
            return 1;
        }
        sleep(Duration::from_millis(5)).await;
    }
    0
}
