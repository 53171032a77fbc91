//! Session ids that prove themselves: signed, so that they survive a restart and any weir with the same
//! secret accepts them, with no store to share. Pure but for the random nonce.
//!
//! A token is 64 hex digits: expiry (8 bytes, ms since the epoch), nonce (8), and the first 16 bytes of
//! HMAC-SHA256 over both and the user's name. The agent takes any ASCII string as a session id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac, rand};

use crate::net::hex;

const EXPIRY_BYTES: usize = 8;
const NONCE_BYTES: usize = 8;
const MAC_BYTES: usize = 16;
const TOKEN_BYTES: usize = EXPIRY_BYTES + NONCE_BYTES + MAC_BYTES;

/// What is signed stands behind this, so that no other use of the secret can be mistaken for a session.
const PURPOSE: &[u8] = b"weir session 1";

/// Logged-out sessions remembered until they would have expired anyway.
const REVOKED_MAX: usize = 65_536;

/// Signs and checks session ids; shared by all workers.
#[derive(Debug)]
pub struct Tokens {
    key: RwLock<hmac::Key>,
    revoked: Mutex<HashMap<[u8; NONCE_BYTES], i64>>,
    revocations: AtomicU64,
}

/// A session that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Valid {
    /// Milliseconds since the epoch.
    pub expires_ms: i64,
}

impl Tokens {
    /// With the configured secret, or with a random one: then sessions end with the process, and gateways
    /// log in again by themselves.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(secret: Option<&str>) -> Result<Self, String> {
        let key = RwLock::new(key(secret)?);
        Ok(Self {
            key,
            revoked: Mutex::default(),
            revocations: AtomicU64::new(0),
        })
    }

    /// Takes another secret: every session of the old one is over, and gateways log in again.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn set_secret(&self, secret: Option<&str>) -> Result<(), String> {
        let new = key(secret)?;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.revocations.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A session for `user` until `expires_ms`.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn issue(&self, user: &str, expires_ms: i64) -> Result<String, String> {
        let mut nonce = [0_u8; NONCE_BYTES];
        rand::fill(&mut nonce).map_err(|_| "the system gives no random numbers".to_owned())?;
        let expiry = expires_ms.to_be_bytes();
        let mac = self.mac(&expiry, &nonce, user);
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.extend_from_slice(&expiry);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(mac.as_ref().get(..MAC_BYTES).unwrap_or_default());
        Ok(hex(&bytes))
    }

    /// Whether `token` was issued here (or by a weir with the same secret) for one of `users`, has not
    /// expired, and was not logged out.
    #[must_use]
    pub fn check<'a>(
        &self,
        token: &[u8],
        users: impl Iterator<Item = &'a str>,
        now_ms: i64,
    ) -> Option<Valid> {
        let (expiry, nonce, mac) = parts(token)?;
        let expires_ms = i64::from_be_bytes(expiry);
        let mut genuine = false;
        for user in users {
            let ours = self.mac(&expiry, &nonce, user);
            let ours = ours.as_ref().get(..MAC_BYTES).unwrap_or_default();
            genuine |= constant_time::verify_slices_are_equal(ours, &mac).is_ok();
        }
        let revoked = self
            .revoked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&nonce);
        (genuine && !revoked && now_ms < expires_ms).then_some(Valid { expires_ms })
    }

    /// Ends a session that [`check`](Tokens::check) has found valid. Known to this process only: a weir
    /// beside this one accepts the token until it expires.
    pub fn revoke(&self, token: &[u8], now_ms: i64) {
        let Some((expiry, nonce, _)) = parts(token) else {
            return;
        };
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked.len() >= REVOKED_MAX {
            revoked.retain(|_, expires_ms| *expires_ms > now_ms);
        }
        if revoked.len() < REVOKED_MAX {
            revoked.insert(nonce, i64::from_be_bytes(expiry));
        }
        self.revocations.fetch_add(1, Ordering::Release);
    }

    /// The users have changed: every session is looked at again with its next frame, and those of users who
    /// are gone are over.
    pub fn recheck(&self) {
        self.revocations.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever some session was revoked: what was checked before must be checked again.
    #[must_use]
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    fn mac(&self, expiry: &[u8], nonce: &[u8], user: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key.read().unwrap_or_else(PoisonError::into_inner));
        for part in [PURPOSE, expiry, nonce, user.as_bytes()] {
            context.update(part);
        }
        context.sign()
    }
}

fn key(secret: Option<&str>) -> Result<hmac::Key, String> {
    let mut random = [0_u8; 32];
    if secret.is_none() {
        rand::fill(&mut random).map_err(|_| "the system gives no random numbers".to_owned())?;
    }
    Ok(hmac::Key::new(
        hmac::HMAC_SHA256,
        secret.map_or(&random, str::as_bytes),
    ))
}

type Parts = ([u8; EXPIRY_BYTES], [u8; NONCE_BYTES], [u8; MAC_BYTES]);

fn parts(token: &[u8]) -> Option<Parts> {
    let bytes = unhex(token)?;
    let (expiry, rest) = bytes.split_first_chunk::<EXPIRY_BYTES>()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (mac, _) = rest.split_first_chunk::<MAC_BYTES>()?;
    Some((*expiry, *nonce, *mac))
}

fn unhex(token: &[u8]) -> Option<[u8; TOKEN_BYTES]> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    if token.len() != 2 * TOKEN_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(token.chunks_exact(2)) {
        let lower = pair
            .iter()
            .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(c));
        let text = std::str::from_utf8(pair).ok().filter(|_| lower)?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USERS: [&str; 2] = ["admin", "gateway"];

    fn check(tokens: &Tokens, token: &str, now_ms: i64) -> Option<i64> {
        tokens
            .check(token.as_bytes(), USERS.into_iter(), now_ms)
            .map(|v| v.expires_ms)
    }

    #[test]
    fn a_token_is_good_for_its_user_until_it_expires() {
        let tokens = Tokens::new(Some("secret")).unwrap();
        let token = tokens.issue("gateway", 1000).unwrap();
        assert!(token.is_ascii() && token.len() == 64);
        assert_eq!(check(&tokens, &token, 999), Some(1000));
        assert_eq!(check(&tokens, &token, 1000), None, "expired");
        assert_eq!(
            tokens.check(token.as_bytes(), ["admin"].into_iter(), 0),
            None,
            "its user is gone"
        );
        assert_eq!(tokens.check(token.as_bytes(), [].into_iter(), 0), None);
    }

    #[test]
    fn weirs_with_the_same_secret_accept_each_others_sessions() {
        let (a, b) = (
            Tokens::new(Some("tier")).unwrap(),
            Tokens::new(Some("tier")).unwrap(),
        );
        let token = a.issue("admin", 1000).unwrap();
        assert!(check(&b, &token, 0).is_some());
        assert!(check(&Tokens::new(Some("other")).unwrap(), &token, 0).is_none());
        assert!(check(&Tokens::new(None).unwrap(), &token, 0).is_none());
    }

    #[test]
    fn a_logout_ends_one_session_and_asks_for_a_new_look_at_the_others() {
        let tokens = Tokens::new(None).unwrap();
        let (one, two) = (
            tokens.issue("admin", 1000).unwrap(),
            tokens.issue("admin", 1000).unwrap(),
        );
        let before = tokens.revocations();
        tokens.revoke(one.as_bytes(), 0);
        assert_ne!(tokens.revocations(), before);
        assert_eq!(check(&tokens, &one, 0), None);
        assert_eq!(check(&tokens, &two, 0), Some(1000));
    }

    proptest! {
        #[test]
        fn any_change_of_a_token_is_noticed(at in 0_usize..64, to in any::<u8>()) {
            let tokens = Tokens::new(Some("secret")).unwrap();
            let mut token = tokens.issue("admin", i64::MAX).unwrap().into_bytes();
            prop_assume!(token[at] != to);
            token[at] = to;
            prop_assert_eq!(tokens.check(&token, USERS.into_iter(), 0), None);
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let tokens = Tokens::new(Some("secret")).unwrap();
            prop_assert_eq!(tokens.check(&bytes, USERS.into_iter(), 0), None);
        }
    }
}
