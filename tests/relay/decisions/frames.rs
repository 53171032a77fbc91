//! The frames the played gateways and brokers say, written by amq-protocol.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::FieldTable;

/// What Andes offers.
pub(crate) const FRAME_MAX: u32 = 65_535;

pub(crate) fn encode(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new()))
        .unwrap()
        .into_inner()
        .0
}

fn on_connection(method: connection::AMQPMethod) -> Vec<u8> {
    encode(&AMQPFrame::Method(0, AMQPClass::Connection(method)))
}

pub(crate) fn start_frame() -> Vec<u8> {
    on_connection(connection::AMQPMethod::Start(connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: FieldTable::default(),
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
    }))
}

pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";

pub(crate) fn start_ok_frame() -> Vec<u8> {
    on_connection(connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties: FieldTable::default(),
        mechanism: "PLAIN".into(),
        response: format!("\0admin\0{PASSWORD}").into(),
        locale: "en_US".into(),
    }))
}

pub(crate) fn tune(heartbeat: u16) -> Vec<u8> {
    on_connection(connection::AMQPMethod::Tune(connection::Tune {
        channel_max: 256,
        frame_max: FRAME_MAX,
        heartbeat,
    }))
}

pub(crate) fn tune_ok(heartbeat: u16) -> Vec<u8> {
    on_connection(connection::AMQPMethod::TuneOk(connection::TuneOk {
        channel_max: 256,
        frame_max: FRAME_MAX,
        heartbeat,
    }))
}

pub(crate) fn close_frame() -> Vec<u8> {
    on_connection(connection::AMQPMethod::Close(connection::Close {
        reply_code: 200,
        reply_text: "bye".into(),
        class_id: 0,
        method_id: 0,
    }))
}

pub(crate) fn close_ok_frame() -> Vec<u8> {
    on_connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
}

/// A body frame of `bytes` payload, filled with `fill`.
pub(crate) fn body(bytes: usize, fill: u8) -> Vec<u8> {
    encode(&AMQPFrame::Body(1, vec![fill; bytes]))
}
