//! What a process inherits from the one that started it: listening sockets, and the channel to `weir supervise`.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use tokio::sync::oneshot;

use crate::control::Upgrades;
use crate::net::{Ports, receive};

pub(crate) use crate::control::UPGRADE;

/// Set in the environment of a process whose standard input is the channel to its parent.
pub(crate) const SUPERVISED: &str = "WEIR_SUPERVISED";

/// The secret that signs sessions, in hexadecimal: the same for all processes of one parent.
const SECRET_BYTES: usize = 64;

/// To the parent: this process is ready.
pub(crate) const READY: u8 = b'R';

/// From the parent: a successor serves.
pub(crate) const SUCCEEDED: u8 = b'S';

/// From the parent: no successor, and why; the length of the text in two bytes, then the text.
pub(crate) const REFUSED: u8 = b'F';

/// What `weir supervise` or a service manager passed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Listening sockets.
    pub ports: Ports,
    /// Signs sessions where the configuration has no `auth.session_secret`, so that they outlive the process.
    pub session_secret: Option<String>,
    /// The channel to `weir supervise`.
    pub parent: Option<Parent>,
}

/// The channel to `weir supervise`.
#[derive(Debug)]
pub struct Parent {
    channel: UnixStream,
    upgrades: Upgrades,
}

/// Why the parent wants this process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromParent {
    /// A successor serves on the same sockets.
    Succeeded,
    /// The parent has ended.
    Gone,
}

impl Inherited {
    /// From `weir supervise`, from a service manager (LISTEN_FDS), or nothing.
    ///
    /// # Errors
    /// The environment announces something that is not there.
    pub fn from_environment() -> io::Result<Self> {
        if std::env::var_os(SUPERVISED).is_none() {
            return Ok(Self {
                ports: Ports::of_service_manager()?,
                ..Self::default()
            });
        }
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut secret = [0; SECRET_BYTES];
        let listeners = receive(&channel, &mut secret)?;
        Ok(Self {
            ports: Ports::of(listeners)?,
            session_secret: Some(String::from_utf8_lossy(&secret).into_owned()),
            parent: Some(Parent {
                upgrades: Upgrades::new(channel.try_clone()?),
                channel,
            }),
        })
    }
}

impl Parent {
    /// Asks for a successor.
    pub(crate) fn upgrades(&self) -> Upgrades {
        self.upgrades.clone()
    }

    /// Says that this process is ready. Resolves when it is to end.
    ///
    /// # Errors
    /// There can be no thread that reads the channel.
    pub fn ready(mut self) -> io::Result<oneshot::Receiver<FromParent>> {
        // That the parent has gone is found by the read below.
        let _ = self.channel.write_all(&[READY]);
        let (sender, message) = oneshot::channel();
        let listen = move || {
            // Weir may have ended meanwhile.
            let _ = sender.send(self.listen().unwrap_or(FromParent::Gone));
        };
        std::thread::Builder::new()
            .name("weir-parent".into())
            .spawn(listen)?;
        Ok(message)
    }

    /// Reads refusals until a successor serves.
    fn listen(&mut self) -> io::Result<FromParent> {
        loop {
            let mut message = [0];
            self.channel.read_exact(&mut message)?;
            match message[0] {
                SUCCEEDED => return Ok(FromParent::Succeeded),
                REFUSED => {
                    let mut length = [0; 2];
                    self.channel.read_exact(&mut length)?;
                    let mut why = vec![0; u16::from_be_bytes(length).into()];
                    self.channel.read_exact(&mut why)?;
                    self.upgrades.refuse(String::from_utf8_lossy(&why).into_owned());
                }
                _ => return Ok(FromParent::Gone),
            }
        }
    }
}
