//! A panic in any thread or task ends `weir run` (docs/adr/0013-a-panic-ends-the-process.md).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use crate::telemetry::LogHandle;

/// From now on a panic is logged and ends the process at once, by SIGABRT.
pub(super) fn end_the_process(log: &LogHandle) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        log_panic(panic);
        log.flush();
        std::process::abort();
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let why = text.unwrap_or("a panic without a message");
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        at,
        backtrace = trace,
        "weir has a defect and ends at once; what its queues hold is lost: {why}"
    );
}
