//! Everything a Traffic Manager, or the network in front of it, can do wrong: each ends with the oracle's
//! judgement and a witness that the fault has happened.

mod away;
mod cut;
mod login;
mod mute;
mod replies;
mod tls;
