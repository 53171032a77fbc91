//! The network layer over loopback sockets: TCP, TLS, identities and what of a certificate is verified.

mod identity;
mod tcp;
mod tls;
mod verify;
