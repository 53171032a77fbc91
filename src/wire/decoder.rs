//! Frame borders: finds the next whole frame in a connection's bytes and looks into it once.

use super::request::{self, HEADER_BYTES, Malformed, Request};

/// No configuration may allow longer frames than this (the wire's lengths are Java `int`s).
pub const FRAME_MAX_BYTES_LIMIT: usize = 1 << 30;

/// The limits a frame is held to; stateless otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Longest body of a publish in bytes.
    pub frame_max_bytes: usize,
    /// Longest event in bytes.
    pub event_max_bytes: usize,
}

/// Longest body of a login or logout.
const CONTROL_FRAME_MAX_BYTES: usize = 64 * 1024;

/// What the front of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Not yet a whole frame; it needs this many bytes in all, as far as is known now.
    Incomplete {
        /// Total bytes of the frame, or of the header while that is incomplete.
        needed: usize,
    },
    /// A whole frame.
    Frame {
        /// The request, or why its body is malformed.
        request: Result<Request<'a>, (u8, Malformed)>,
        /// Its length in the buffer, header included.
        length: usize,
    },
}

/// Framing is lost: nothing after this point can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The first byte is not that of a login, logout or publish. A real receiver does not reply to such a frame.
    UnknownType(u8),
    /// A negative length.
    NegativeLength,
    /// A length over the limit.
    TooLong,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::UnknownType(byte) => write!(f, "unknown frame type 0x{byte:02x}"),
            FrameError::NegativeLength => f.write_str("negative frame length"),
            FrameError::TooLong => f.write_str("frame length over frame_max_bytes"),
        }
    }
}

impl Decoder {
    /// Decodes the front of `buffer`. Allocates nothing; every length is checked before it is used.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the bytes seen prove that framing is lost.
    pub fn decode<'a>(&self, buffer: &'a [u8]) -> Result<Decoded<'a>, FrameError> {
        let Some((&kind, rest)) = buffer.split_first() else {
            return Ok(Decoded::Incomplete { needed: HEADER_BYTES });
        };
        let limit = match kind {
            request::PUBLISH => self.frame_max_bytes,
            request::LOGIN | request::LOGOUT => self.frame_max_bytes.min(CONTROL_FRAME_MAX_BYTES),
            other => return Err(FrameError::UnknownType(other)),
        };
        let Some((length, rest)) = super::take_i32(rest) else {
            return Ok(Decoded::Incomplete { needed: HEADER_BYTES });
        };
        let length = usize::try_from(length).map_err(|_| FrameError::NegativeLength)?;
        if length > limit {
            return Err(FrameError::TooLong);
        }
        let total = length.saturating_add(HEADER_BYTES);
        let Some(body) = rest.get(..length) else {
            return Ok(Decoded::Incomplete { needed: total });
        };
        let request = match kind {
            request::LOGIN => request::login(body),
            request::LOGOUT => request::logout(body),
            _ => request::publish(body, self.event_max_bytes),
        };
        Ok(Decoded::Frame {
            request: request.map_err(|m| (kind, m)),
            length: total,
        })
    }
}

#[cfg(test)]
#[allow(clippy::as_conversions, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::wire::request::{Front, encode_login, encode_logout, encode_publish_header, front};
    use proptest::prelude::*;

    const DECODER: Decoder = Decoder {
        frame_max_bytes: 1 << 20,
        event_max_bytes: 1 << 16,
    };

    fn publish(session: &[u8], events: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for e in events {
            crate::wire::put_length(&mut body, e.len());
            body.extend_from_slice(e);
        }
        let mut out = Vec::new();
        encode_publish_header(&mut out, session, events.len(), body.len());
        out.extend_from_slice(&body);
        out
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(user in "[a-z]{1,20}", password in "\\PC{1,20}", session in prop::collection::vec(any::<u8>(), 0..50),
            events in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..10)) {
            let mut bytes = Vec::new();
            encode_login(&mut bytes, &user, &password);
            match DECODER.decode(&bytes).unwrap() {
                Decoded::Frame { request: Ok(Request::Login { user: u, password: p }), length } => {
                    prop_assert_eq!((u, p, length), (user.as_str(), password.as_str(), bytes.len()));
                }
                other => prop_assert!(false, "{other:?}"),
            }
            bytes.clear();
            encode_logout(&mut bytes, &session);
            prop_assert_eq!(DECODER.decode(&bytes).unwrap(), Decoded::Frame { request: Ok(Request::Logout { session: &session }), length: bytes.len() });
            let bytes = publish(&session, &events);
            match DECODER.decode(&bytes).unwrap() {
                Decoded::Frame { request: Ok(Request::Publish { session: s, events: found }), length } => {
                    prop_assert_eq!(s, &session[..]);
                    prop_assert_eq!(found.count(), events.len());
                    prop_assert_eq!(length, bytes.len());
                }
                other => prop_assert!(false, "{other:?}"),
            }
            for cut in 0..bytes.len() {
                let incomplete = matches!(DECODER.decode(&bytes[..cut]).unwrap(), Decoded::Incomplete { needed } if needed > cut);
                prop_assert!(incomplete, "cut at {}", cut);
            }
        }

        #[test]
        fn any_bytes_are_a_frame_or_its_beginning_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            match DECODER.decode(&bytes) {
                Ok(Decoded::Frame { length, .. }) => prop_assert!(length <= bytes.len()),
                Ok(Decoded::Incomplete { needed }) => prop_assert!(needed > bytes.len()),
                Err(FrameError::UnknownType(kind)) => prop_assert_eq!(kind, bytes[0]),
                Err(FrameError::NegativeLength | FrameError::TooLong) => prop_assert!(bytes.len() >= HEADER_BYTES),
            }
        }

        #[test]
        fn any_body_of_a_known_type_is_a_whole_frame(kind in 0_u8..3, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![kind];
            crate::wire::put_length(&mut bytes, body.len());
            bytes.extend_from_slice(&body);
            let whole = matches!(DECODER.decode(&bytes), Ok(Decoded::Frame { length, .. }) if length == bytes.len());
            prop_assert!(whole);
        }
    }

    const SESSION_MAX: usize = 8;

    /// Compares a whole frame's front with its decoding, and the front of every cut with the whole.
    fn fronts_agree(bytes: &[u8]) {
        let Ok(Decoded::Frame { request, length }) = DECODER.decode(bytes) else {
            return;
        };
        let whole = front(bytes, SESSION_MAX);
        let first = |session: &[u8]| session[..session.len().min(SESSION_MAX + 1)].to_vec();
        match (whole, request) {
            (Front::Open, Ok(Request::Login { .. }))
            | (Front::Open, Err((request::LOGIN, Malformed::NotUtf8)))
            | (Front::Open, Err((_, Malformed::BodyTooShort))) => {}
            (Front::Malformed(kind, malformed), Err(error)) => assert_eq!((kind, malformed), error),
            (Front::Logout(id), Ok(Request::Logout { session })) => assert_eq!(id, first(session)),
            (Front::Publish(id), Ok(Request::Publish { session, .. })) => assert_eq!(id, first(session)),
            // The session is valid, what follows it is not.
            (Front::Publish(_), Err((request::PUBLISH, _))) => {}
            other => panic!("{other:?}"),
        }
        // 5 bytes of header, 4 of a length, and the longest session.
        let enough = 9 + SESSION_MAX + 1;
        for cut in 0..length {
            match front(&bytes[..cut], SESSION_MAX) {
                Front::Open if cut < enough => {}
                early => assert_eq!(early, whole, "cut at {cut}"),
            }
        }
    }

    proptest! {
        #[test]
        fn the_front_of_a_frame_agrees_with_the_whole(
            kind in 0_u8..3, first in prop_oneof![-2_i32..20, any::<i32>()], second in prop_oneof![-2_i32..20, any::<i32>()],
            rest in prop::collection::vec(any::<u8>(), 0..40), cut in 0_usize..12) {
            let mut body = first.to_be_bytes().to_vec();
            body.extend_from_slice(&second.to_be_bytes());
            body.extend_from_slice(&rest);
            body.truncate(body.len().saturating_sub(cut));
            let mut bytes = vec![kind];
            crate::wire::put_length(&mut bytes, body.len());
            bytes.extend_from_slice(&body);
            fronts_agree(&bytes);
        }

        #[test]
        fn the_front_of_a_valid_frame_has_its_session(session in prop::collection::vec(any::<u8>(), 0..20), user in "[a-z]{1,20}") {
            fronts_agree(&publish(&session, &[vec![7; 30]]));
            let mut bytes = Vec::new();
            encode_logout(&mut bytes, &session);
            fronts_agree(&bytes);
            bytes.clear();
            encode_login(&mut bytes, &user, &user);
            fronts_agree(&bytes);
        }
    }

    #[test]
    fn lost_framing_is_detected_at_the_first_byte_that_shows_it() {
        assert_eq!(
            DECODER.decode(b"GET / HTTP/1.1"),
            Err(FrameError::UnknownType(b'G'))
        );
        assert_eq!(
            DECODER.decode(&[0x16, 3, 1]),
            Err(FrameError::UnknownType(0x16)),
            "a TLS hello"
        );
        assert_eq!(
            DECODER.decode(&[2, 0xff, 0xff, 0xff, 0xff]),
            Err(FrameError::NegativeLength)
        );
        assert_eq!(
            DECODER.decode(&[2, 0x7f, 0xff, 0xff, 0xff]),
            Err(FrameError::TooLong)
        );
        assert_eq!(
            DECODER.decode(&[0, 0, 1, 0, 1]),
            Err(FrameError::TooLong),
            "a login of 64 KiB + 1"
        );
        assert_eq!(DECODER.decode(&[]), Ok(Decoded::Incomplete { needed: 5 }));
    }

    #[test]
    fn thirty_six_zero_bytes_are_seven_empty_logins_and_a_lone_byte() {
        let probe = [0_u8; 36];
        let mut at = 0;
        for _ in 0..7 {
            let decoded = DECODER.decode(&probe[at..]).unwrap();
            assert_eq!(
                decoded,
                Decoded::Frame {
                    request: Err((0, Malformed::BodyTooShort)),
                    length: 5
                }
            );
            at += 5;
        }
        assert_eq!(
            DECODER.decode(&probe[at..]),
            Ok(Decoded::Incomplete { needed: 5 })
        );
    }

    #[test]
    fn false_lengths_are_named() {
        let frame = |kind: u8, body: &[u8]| {
            let mut bytes = vec![kind];
            crate::wire::put_length(&mut bytes, body.len());
            bytes.extend_from_slice(body);
            match DECODER.decode(&bytes).unwrap() {
                Decoded::Frame { request, .. } => request.unwrap_err().1,
                Decoded::Incomplete { .. } => unreachable!(),
            }
        };
        assert_eq!(
            frame(0, &[0, 0, 0, 9, 0, 0, 0, 1, b'a']),
            Malformed::LengthPastBody
        );
        assert_eq!(
            frame(0, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'a']),
            Malformed::NegativeLength
        );
        assert_eq!(
            frame(0, &[0, 0, 0, 0, 0, 0, 0, 1, b'a']),
            Malformed::CredentialLength
        );
        assert_eq!(
            frame(0, &[0, 0, 0, 1, 0, 0, 0, 1, 0xff, b'a']),
            Malformed::NotUtf8
        );
        assert_eq!(
            frame(0, &[0, 0, 0, 1, 0, 0, 0, 1, b'a', b'b', b'c']),
            Malformed::BytesLeftOver
        );
        assert_eq!(frame(1, &[0, 0, 0]), Malformed::BodyTooShort);
        assert_eq!(frame(2, &[0x7f, 0xff, 0xff, 0xff]), Malformed::LengthPastBody);
        assert_eq!(
            frame(2, &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
            Malformed::CountOverBytes
        );
    }
}
