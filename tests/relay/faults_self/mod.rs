//! Weir's own bad days: full queues, reloads, age, ends. Each ends with the oracle's judgement and a witness
//! that the fault has happened.

mod ack;
mod age;
mod broken;
mod full;
mod linger;
mod patience;
mod reload;
mod removal;
mod settings;
