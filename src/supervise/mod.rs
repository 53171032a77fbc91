//! `weir supervise`: a parent that holds the ports, so that no gateway is refused while weir is started again.
//!
//! The parent opens the ports of the configuration and starts `weir run` with them. It starts it again when it dies,
//! passes signals on, reaps children, and at SIGUSR2 starts a second process beside the first, which takes over when
//! it is ready ([`state`]). It has no connections and sees no events. [`Inherited`](crate::app::Inherited) is the other end.

mod state;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{self, Signal, WaitOptions, kill_process, wait};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use self::state::{Action, Pid, Processes};
use crate::app::inherited::{READY, REFUSED, SUCCEEDED, SUPERVISED, UPGRADE};
use crate::app::{Files, prepare};
use crate::config::Config;
use crate::net::{Ports, hex, pass};
use crate::output::{self, FAILED, MISCONFIGURED};

/// Messages of children that wait to be handled.
const MESSAGES_MAX: usize = 16;

/// Runs until a signal ends it, and ends with the exit code of the process that served.
#[must_use]
pub fn run(files: &Files, adjust: &dyn Fn(&mut Config)) -> ExitCode {
    // Before the configuration is read: the kernel drops signals to process 1 that it does not handle.
    let (runtime, signals) = match listen() {
        Ok(listening) => listening,
        Err(e) => {
            output::note(format_args!("error: cannot listen for signals: {e}"));
            return ExitCode::from(FAILED);
        }
    };
    let (config, _, log) = match prepare(files, adjust) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let code = supervise(files, &config, &runtime, signals).unwrap_or_else(|e| {
        tracing::error!("cannot supervise: {e}");
        FAILED
    });
    log.flush();
    ExitCode::from(code)
}

/// The signals of the parent.
struct Signals {
    child: unix::Signal,
    term: unix::Signal,
    int: unix::Signal,
    hup: unix::Signal,
    upgrade: unix::Signal,
}

fn listen() -> io::Result<(Runtime, Signals)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _context = runtime.enter();
        Signals {
            child: signal(SignalKind::child())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        }
    };
    Ok((runtime, signals))
}

fn supervise(files: &Files, config: &Config, runtime: &Runtime, signals: Signals) -> io::Result<u8> {
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let ports = match Ports::of_service_manager() {
        Ok(ports) => ports,
        Err(e) => return Ok(misconfigured(&e)),
    };
    let mut supervisor = Supervisor {
        files: files.clone(),
        program: program(std::env::args_os().next())?,
        arguments: arguments(std::env::args_os().skip(1)),
        ports,
        sockets: HashMap::new(),
        secret: hex(&secret),
        channels: HashMap::new(),
        messages: sender,
    };
    if let Err(e) = supervisor.open(config) {
        return Ok(misconfigured(&e));
    }
    Ok(runtime.block_on(supervisor.run(signals, messages)))
}

/// In the words of `weir run`.
fn misconfigured(e: &io::Error) -> u8 {
    tracing::error!("cannot start: {e}");
    MISCONFIGURED
}

/// The path by which this process was started, not the file behind it: a link may name another version later.
fn program(name: Option<OsString>) -> io::Result<PathBuf> {
    match name {
        Some(name) if Path::new(&name).components().count() > 1 => std::path::absolute(name),
        _ => std::env::current_exe(),
    }
}

/// The arguments of this process, with `run` in place of `supervise`.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut own: Vec<OsString> = own.collect();
    if let Some(command) = own.iter_mut().find(|argument| *argument == "supervise") {
        *command = "run".into();
    }
    own
}

struct Supervisor {
    files: Files,
    /// A path: an upgrade starts the file that it names then.
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Opens sockets, or takes those that a service manager passed.
    ports: Ports,
    /// By the address of the configuration.
    sockets: HashMap<SocketAddr, TcpListener>,
    secret: String,
    channels: HashMap<Pid, UnixStream>,
    messages: mpsc::Sender<(Pid, u8)>,
}

impl Supervisor {
    /// Until the last process has ended.
    async fn run(&mut self, mut signals: Signals, mut messages: mpsc::Receiver<(Pid, u8)>) -> u8 {
        let mut processes = Processes::new(Instant::now());
        let mut todo = Vec::new();
        // Lets the runtime see signals that came before: a stop is handled before anything is started.
        yield_now().await;
        loop {
            while let Some(action) = todo.pop() {
                match action {
                    Action::End(code) => return code,
                    action => todo.extend(self.act(action, &mut processes)),
                }
            }
            let due = processes.due();
            // Biased: ended children are reaped before anything else is decided, and a stop goes before a start.
            tokio::select! {
                biased;
                _ = signals.child.recv() => {
                    for (pid, code) in reap() {
                        self.channels.remove(&pid);
                        todo.extend(processes.ended(pid, code, Instant::now()));
                    }
                }
                Some((pid, message)) = messages.recv() => match message {
                    READY => todo.extend(processes.ready(pid)),
                    UPGRADE => todo.extend(processes.asked(pid, Instant::now())),
                    _ => {}
                },
                _ = signals.term.recv() => todo.extend(processes.stop()),
                _ = signals.int.recv() => todo.extend(processes.stop()),
                _ = signals.hup.recv() => if let Some(pid) = processes.serving() {
                    send(pid, Signal::HUP);
                },
                _ = signals.upgrade.recv() => todo.extend(processes.upgrade(Instant::now())),
                () = async { match due { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {
                    todo.extend(processes.tick(Instant::now()));
                }
            }
        }
    }

    /// Performs an action; returns what is to be done next.
    fn act(&mut self, action: Action, processes: &mut Processes) -> Vec<Action> {
        match action {
            Action::Start => match self.start() {
                Ok(pid) => {
                    tracing::info!(pid, "weir started");
                    processes.started(pid, Instant::now());
                }
                Err(e) => return processes.not_started(&e.to_string(), Instant::now()),
            },
            Action::Retire(pid) => self.tell(pid, &[SUCCEEDED]),
            Action::Refuse(pid, why) => {
                let length = u16::try_from(why.len()).unwrap_or(0).to_be_bytes();
                self.tell(pid, &[&[REFUSED][..], &length, why.as_bytes()].concat());
            }
            Action::Kill(pid) => send(pid, Signal::KILL),
            Action::Terminate(pid) => send(pid, Signal::TERM),
            Action::End(_) => {}
        }
        Vec::new()
    }

    /// Does nothing where the process has ended.
    fn tell(&self, pid: Pid, message: &[u8]) {
        if let Some(mut channel) = self.channels.get(&pid) {
            let _ = channel.write_all(message);
        }
    }

    /// Starts a process, passes it the sockets, and listens to it on a thread of its own.
    fn start(&mut self) -> io::Result<Pid> {
        // A new process reads the configuration as it is now, and may need other ports.
        if let Ok((config, _)) = self.files.load() {
            self.open(&config)?;
        }
        let (ours, theirs) = UnixStream::pair()?;
        let sockets: Vec<&TcpListener> = self.sockets.values().collect();
        // They wait in the channel until the process reads.
        pass(&ours, &sockets, self.secret.as_bytes())?;
        let mut listening = ours.try_clone()?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env(SUPERVISED, "1")
            // Ctrl-C at a terminal goes to the whole group: with the one that is passed on it would be the second signal.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.program.display())))?;
        let pid = Pid::try_from(child.id()).map_err(io::Error::other)?;
        let messages = self.messages.clone();
        let listen = move || {
            let mut message = [0];
            while listening.read_exact(&mut message).is_ok() {
                if messages.blocking_send((pid, message[0])).is_err() {
                    return;
                }
            }
        };
        let listener = std::thread::Builder::new().name(format!("weir-child-{pid}"));
        if let Err(e) = listener.spawn(listen) {
            // Its messages could not be read.
            let _ = child.kill();
            return Err(e);
        }
        self.channels.insert(pid, ours);
        Ok(pid)
    }

    /// Opens what the configuration names and is not open yet, and closes the rest.
    fn open(&mut self, config: &Config) -> io::Result<()> {
        // Not those of the return leg: weir closes them while no broker answers.
        let mut wanted = config.ports();
        wanted.retain(|(key, _)| !key.starts_with("decisions."));
        self.sockets
            .retain(|address, _| wanted.iter().any(|(_, port)| port == address));
        for (key, address) in wanted {
            // A port that the kernel chooses is chosen by the process that serves.
            if address.port() != 0 && !self.sockets.contains_key(&address) {
                let wrong = |e: io::Error| io::Error::new(e.kind(), format!("{key} = \"{address}\": {e}"));
                self.sockets.extend(
                    self.ports
                        .open(address, 1)
                        .map_err(wrong)?
                        .pop()
                        .map(|s| (address, s)),
                );
            }
        }
        Ok(())
    }
}

/// All processes that have ended (orphans too, where this is process 1), with exit codes as a shell reports them.
fn reap() -> Vec<(Pid, u8)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let by_signal = status.terminating_signal().map(|signal| 128 + signal);
        let code = by_signal
            .or(status.exit_status())
            .and_then(|code| u8::try_from(code).ok());
        ended.push((pid.as_raw_nonzero().get(), code.unwrap_or(FAILED)));
    }
    ended
}

fn send(pid: Pid, signal: Signal) {
    if let Some(process) = process::Pid::from_raw(pid)
        && let Err(e) = kill_process(process, signal)
    {
        tracing::warn!(pid, "cannot signal: {e}");
    }
}
