//! Listening sockets: opened here, or passed by the process that started this one. Passed sockets outlive this process,
//! so gateways that connect between two processes wait in the kernel instead of being refused.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::cmsg_space;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::tcp::bind;

/// Most sockets passed at a time; weir has five kinds of ports.
const PASSED_MAX: usize = 16;

/// The listening sockets this process was given, and the way to open others. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    passed: Arc<Mutex<Vec<Passed>>>,
}

#[derive(Debug)]
struct Passed {
    address: SocketAddr,
    listener: TcpListener,
    is_used: bool,
}

impl Ports {
    /// The sockets of a service manager, by the LISTEN_FDS protocol of sd_listen_fds(3); none without that variable.
    ///
    /// # Errors
    /// One of them is not a listening TCP socket.
    pub fn of_service_manager() -> io::Result<Self> {
        let mut given = listenfd::ListenFd::from_env();
        let mut listeners = Vec::new();
        for i in 0..given.len() {
            let wrong =
                |e: io::Error| io::Error::new(e.kind(), format!("descriptor {} of LISTEN_FDS: {e}", i + 3));
            let listener = given.take_tcp_listener(i).map_err(wrong)?;
            if let Some(listener) = listener {
                if !socket_acceptconn(&listener)? {
                    let text = "it does not listen (a socket unit with Accept=yes passes connections)";
                    return Err(wrong(io::Error::new(io::ErrorKind::InvalidInput, text)));
                }
                listeners.push(listener);
            }
        }
        Self::of(listeners)
    }

    /// Wraps the sockets that were passed.
    ///
    /// # Errors
    /// A socket without an address.
    pub fn of(listeners: Vec<TcpListener>) -> io::Result<Self> {
        let mut passed = Vec::with_capacity(listeners.len());
        for listener in listeners {
            listener.set_nonblocking(true)?;
            passed.push(Passed {
                address: listener.local_addr()?,
                listener,
                is_used: false,
            });
        }
        Ok(Self {
            passed: Arc::new(Mutex::new(passed)),
        })
    }

    /// Returns `sockets` sockets that listen on `address`: handles on the passed one where there is one, else new ones
    /// that share the address (SO_REUSEPORT) with each other and with the next process of this user. With port 0 the
    /// kernel chooses one port for all.
    ///
    /// # Errors
    /// Names the address and, where it is known, what to do.
    pub fn open(&self, address: SocketAddr, sockets: usize) -> io::Result<Vec<TcpListener>> {
        let mut passed = self.passed();
        if let Some(passed) = passed.iter_mut().find(|p| serves(p.address, address)) {
            passed.is_used = true;
            return (0..sockets).map(|_| passed.listener.try_clone()).collect();
        }
        let is_taken = bind(address, false).is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse);
        let first = bind(address, true)?;
        if is_taken {
            tracing::warn!(
                %address,
                "another process of this user listens there, too; until one of them ends, each gets some of the connections"
            );
        }
        let address = first.local_addr()?;
        let mut all = vec![first];
        for _ in 1..sockets {
            all.push(bind(address, true)?);
        }
        Ok(all)
    }

    /// Passed sockets that were not opened.
    #[must_use]
    pub fn unused(&self) -> Vec<SocketAddr> {
        let passed = self.passed();
        let unused = passed.iter().filter(|p| !p.is_used);
        unused.map(|p| p.address).collect()
    }

    fn passed(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a socket on `passed` does what one on `wanted` would. systemd's `ListenStream=9611` listens on `[::]`,
/// which takes IPv4, too.
fn serves(passed: SocketAddr, wanted: SocketAddr) -> bool {
    let both =
        passed.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && wanted.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    wanted.port() != 0 && passed.port() == wanted.port() && (passed.ip() == wanted.ip() || both)
}

/// Passes listening sockets to the process at the other end, with `payload` beside them.
///
/// # Errors
/// There are more than 16, or the other end is gone.
pub fn pass(channel: &UnixStream, listeners: &[&TcpListener], payload: &[u8]) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(|l| l.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(PASSED_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many sockets to pass"));
    }
    let sent = sendmsg(
        channel,
        &[IoSlice::new(payload)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent == payload.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// The other end of [`pass`]: the sockets, and as many bytes as `payload` holds.
///
/// # Errors
/// The other end is gone, or sent something else.
pub fn receive(channel: &UnixStream, payload: &mut [u8]) -> io::Result<Vec<TcpListener>> {
    let wanted = payload.len();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(PASSED_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let got = recvmsg(channel, &mut [IoSliceMut::new(payload)], &mut ancillary, flags)?;
    if got.bytes != wanted || got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "no sockets came from the process that started this one",
        ));
    }
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(descriptors.into_iter().map(TcpListener::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_passed_socket_is_used_by_every_worker_and_another_address_is_opened() {
        let socket = bind(local(0), true).unwrap();
        let address = socket.local_addr().unwrap();
        let ports = Ports::of(vec![socket]).unwrap();
        assert_eq!(ports.unused(), [address]);
        for socket in ports.open(address, 2).unwrap() {
            assert_eq!(socket.local_addr().unwrap(), address);
        }
        assert!(ports.unused().is_empty());
        assert_ne!(ports.open(local(0), 1).unwrap()[0].local_addr().unwrap(), address);
    }

    #[test]
    fn a_socket_on_both_families_serves_the_ipv4_wildcard() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(serves(at("[::]:9611"), at("0.0.0.0:9611")));
        assert!(!serves(at("[::]:9611"), at("127.0.0.1:9611")));
        assert!(!serves(at("0.0.0.0:9611"), at("0.0.0.0:9711")));
        assert!(!serves(at("127.0.0.1:0"), at("127.0.0.1:0")));
    }

    #[test]
    fn sockets_travel_with_their_payload() {
        let (here, there) = UnixStream::pair().unwrap();
        let sockets = [bind(local(0), true).unwrap(), bind(local(0), true).unwrap()];
        pass(&here, &sockets.each_ref(), b"four").unwrap();
        let mut payload = [0; 4];
        let received = receive(&there, &mut payload).unwrap();
        let address = |l: &TcpListener| l.local_addr().unwrap();
        assert_eq!(
            received.iter().map(address).collect::<Vec<_>>(),
            sockets.iter().map(address).collect::<Vec<_>>()
        );
        assert_eq!(&payload, b"four");
        drop(here);
        assert!(receive(&there, &mut payload).is_err(), "the other end is gone");
    }
}
