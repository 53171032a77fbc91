//! Signed session ids: they survive a restart, and any weir with the same secret and users accepts them, without a
//! shared store. Pure but for the random nonce.
//!
//! A token is `weir-` and 80 hex digits: expiry and issue (8 bytes each, ms since the epoch), nonce (8), and the
//! first 16 bytes of HMAC-SHA256 over these, a digest of the user's password and the user's name. So a session ends
//! with the password it was opened with. The agent takes any ASCII string as a session id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac};

use super::auth::credential;
use crate::config::User;
use crate::net::hex;

/// Distinguishes a weir's session from a Traffic Manager's.
pub const PREFIX: &str = "weir-";

const TIME_BYTES: usize = 8;
const NONCE_BYTES: usize = 8;
const MAC_BYTES: usize = 16;
const TOKEN_BYTES: usize = 2 * TIME_BYTES + NONCE_BYTES + MAC_BYTES;

/// Prefix of what is signed, so that no other use of the secret can be mistaken for a session.
const PURPOSE: &[u8] = b"weir session 2";

/// Logged-out sessions remembered until they would have expired anyway.
const REVOKED_MAX: usize = 65_536;

/// Signs and checks session ids; shared by all workers.
#[derive(Debug)]
pub struct Tokens {
    key: RwLock<hmac::Key>,
    /// By user.
    revoked: Mutex<HashMap<String, Revoked>>,
    revocations: AtomicU64,
}

/// A user's sessions that have ended before they expire.
#[derive(Debug, Default)]
struct Revoked {
    sessions: HashMap<[u8; NONCE_BYTES], Times>,
    /// Sessions issued up to then have ended; 0 = none.
    up_to_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    expires_ms: i64,
    issued_ms: i64,
}

/// A session that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Valid<'a> {
    /// Milliseconds since the epoch.
    pub expires_ms: i64,
    /// Whose it is.
    pub user: &'a str,
}

impl Tokens {
    /// With the configured secret, or with a random one: then sessions end with the process, and gateways
    /// log in again.
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

    /// Replaces the secret: every session of the old one ends, and gateways log in again.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn set_secret(&self, secret: Option<&str>) -> Result<(), String> {
        let new = key(secret)?;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.revocations.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A session for `user`, from `now_ms` until `expires_ms`.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn issue(&self, user: &User, now_ms: i64, expires_ms: i64) -> Result<String, String> {
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| "the system gives no random numbers".to_owned())?;
        // After the clock was set back: what is issued now must not count as ended.
        let over = self.revoked().get(&user.name).map_or(0, |r| r.up_to_ms);
        let times = Times {
            expires_ms,
            issued_ms: now_ms.max(over.saturating_add(1)),
        };
        let mac = self.mac(times, &nonce, user);
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.extend_from_slice(&times.expires_ms.to_be_bytes());
        bytes.extend_from_slice(&times.issued_ms.to_be_bytes());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(mac.as_ref().get(..MAC_BYTES).unwrap_or_default());
        Ok(format!("{PREFIX}{}", hex(&bytes)))
    }

    /// Whether `token` was issued here (or by a weir with the same secret) for one of `users` with its password of
    /// now, has not expired, and was not logged out.
    #[must_use]
    pub fn check<'a>(&self, token: &[u8], users: &'a [User], now_ms: i64) -> Option<Valid<'a>> {
        let (times, nonce, mac) = parts(token)?;
        let mut genuine = None;
        for user in users {
            let ours = self.mac(times, &nonce, user);
            let ours = ours.as_ref().get(..MAC_BYTES).unwrap_or_default();
            if constant_time::verify_slices_are_equal(ours, &mac).is_ok() {
                genuine = Some(user.name.as_str());
            }
        }
        let user = genuine?;
        let revoked = self.revoked();
        let over = revoked
            .get(user)
            .is_some_and(|r| times.issued_ms <= r.up_to_ms || r.sessions.contains_key(&nonce));
        (!over && now_ms < times.expires_ms).then_some(Valid {
            expires_ms: times.expires_ms,
            user,
        })
    }

    /// Ends a session that [`check`](Tokens::check) has found valid. Known to this process only: a weir
    /// beside this one accepts the token until it expires.
    ///
    /// Too many to remember: the older half of the user who has the most is forgotten, and with it every session of
    /// this user that is no younger has ended. Gives that user: its gateways log in again, and lose nothing.
    #[must_use]
    pub(super) fn revoke(&self, token: &[u8], user: &str, now_ms: i64) -> Option<String> {
        let (times, nonce, _) = parts(token)?;
        let mut revoked = self.revoked();
        revoked
            .entry(user.to_owned())
            .or_default()
            .sessions
            .insert(nonce, times);
        let forgotten = limit(&mut revoked, now_ms);
        self.revocations.fetch_add(1, Ordering::Release);
        forgotten
    }

    /// The users have changed: every session is checked again with its next frame, and those of removed users
    /// and passwords end.
    pub fn recheck(&self) {
        self.revocations.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever a session was revoked: what was checked before must be checked again.
    #[must_use]
    pub(super) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    fn revoked(&self) -> MutexGuard<'_, HashMap<String, Revoked>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mac(&self, times: Times, nonce: &[u8], user: &User) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key.read().unwrap_or_else(PoisonError::into_inner));
        let (expiry, issue) = (times.expires_ms.to_be_bytes(), times.issued_ms.to_be_bytes());
        // All but the last have one length.
        for part in [
            PURPOSE,
            &expiry,
            &issue,
            nonce,
            credential(user).as_ref(),
            user.name.as_bytes(),
        ] {
            context.update(part);
        }
        context.sign()
    }
}

fn limit(revoked: &mut HashMap<String, Revoked>, now_ms: i64) -> Option<String> {
    let all = |revoked: &HashMap<String, Revoked>| revoked.values().map(|r| r.sessions.len()).sum::<usize>();
    if all(revoked) <= REVOKED_MAX {
        return None;
    }
    for of_user in revoked.values_mut() {
        of_user.sessions.retain(|_, times| times.expires_ms > now_ms);
    }
    if all(revoked) <= REVOKED_MAX {
        return None;
    }
    let (user, most) = revoked.iter_mut().max_by_key(|(_, r)| r.sessions.len())?;
    let mut issued: Vec<i64> = most.sessions.values().map(|times| times.issued_ms).collect();
    let middle = issued.len() / 2;
    let (_, up_to_ms, _) = issued.select_nth_unstable(middle);
    most.up_to_ms = most.up_to_ms.max(*up_to_ms);
    let up_to_ms = most.up_to_ms;
    most.sessions.retain(|_, times| times.issued_ms > up_to_ms);
    Some(user.clone())
}

fn key(secret: Option<&str>) -> Result<hmac::Key, String> {
    let mut random = [0_u8; 32];
    if secret.is_none() {
        getrandom::fill(&mut random).map_err(|_| "the system gives no random numbers".to_owned())?;
    }
    Ok(hmac::Key::new(
        hmac::HMAC_SHA256,
        secret.map_or(&random, str::as_bytes),
    ))
}

type Parts = (Times, [u8; NONCE_BYTES], [u8; MAC_BYTES]);

fn parts(token: &[u8]) -> Option<Parts> {
    let bytes = unhex(token.strip_prefix(PREFIX.as_bytes())?)?;
    let (expiry, rest) = bytes.split_first_chunk::<TIME_BYTES>()?;
    let (issue, rest) = rest.split_first_chunk::<TIME_BYTES>()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (mac, _) = rest.split_first_chunk::<MAC_BYTES>()?;
    let times = Times {
        expires_ms: i64::from_be_bytes(*expiry),
        issued_ms: i64::from_be_bytes(*issue),
    };
    Some((times, *nonce, *mac))
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
    use crate::config::{Password, Secret};
    use proptest::prelude::*;

    fn user(name: &str, password: &str) -> User {
        User {
            name: name.into(),
            password: Password::Clear(Secret::new(password)),
        }
    }

    fn users() -> [User; 2] {
        [user("admin", "one"), user("gateway", "two")]
    }

    /// For the first of [`users`].
    fn issue(tokens: &Tokens, now_ms: i64, expires_ms: i64) -> String {
        tokens.issue(&users()[0], now_ms, expires_ms).unwrap()
    }

    fn check(tokens: &Tokens, token: &str, now_ms: i64) -> Option<i64> {
        tokens
            .check(token.as_bytes(), &users(), now_ms)
            .map(|v| v.expires_ms)
    }

    #[test]
    fn a_token_is_good_for_its_user_until_it_expires() {
        let tokens = Tokens::new(Some("secret")).unwrap();
        let [admin, gateway] = users();
        let token = tokens.issue(&gateway, 0, 1000).unwrap();
        assert!(token.is_ascii() && token.len() == 85);
        assert_eq!(check(&tokens, &token, 999), Some(1000));
        assert_eq!(check(&tokens, &token, 1000), None, "expired");
        let mine = tokens.check(token.as_bytes(), std::slice::from_ref(&gateway), 0);
        assert_eq!(mine.map(|v| v.user), Some("gateway"));
        assert_eq!(
            tokens.check(token.as_bytes(), &[admin], 0),
            None,
            "its user is gone"
        );
        assert_eq!(tokens.check(token.as_bytes(), &[], 0), None);
    }

    #[test]
    fn a_token_is_good_as_long_as_the_password_it_was_issued_for() {
        let tokens = Tokens::new(Some("secret")).unwrap();
        let hash = "$argon2id$v=19$m=64,t=1,p=1$YSBzYWx0IG9mIDE2$aGFzaA";
        let hashed = User {
            name: "admin".into(),
            password: Password::Argon2(hash.into()),
        };
        let passwords = [
            user("admin", "old"),
            user("admin", "new"),
            hashed,
            user("admin", hash),
        ];
        for (i, one) in passwords.iter().enumerate() {
            let token = tokens.issue(one, 0, 1000).unwrap();
            let good = |users: &[User]| tokens.check(token.as_bytes(), users, 0).is_some();
            assert!(good(&passwords), "one of several");
            let mut others = passwords.to_vec();
            assert!(good(&[others.remove(i)]));
            assert!(!good(&others), "{one:?} is gone");
        }
    }

    #[test]
    fn weirs_with_the_same_secret_accept_each_others_sessions() {
        let (a, b) = (
            Tokens::new(Some("tier")).unwrap(),
            Tokens::new(Some("tier")).unwrap(),
        );
        let token = issue(&a, 0, 1000);
        assert!(check(&b, &token, 0).is_some());
        assert!(check(&Tokens::new(Some("other")).unwrap(), &token, 0).is_none());
        assert!(check(&Tokens::new(None).unwrap(), &token, 0).is_none());
    }

    #[test]
    fn a_logout_ends_one_session_and_has_the_others_checked_again() {
        let tokens = Tokens::new(None).unwrap();
        let (one, two) = (issue(&tokens, 0, 1000), issue(&tokens, 0, 1000));
        let before = tokens.revocations();
        assert_eq!(tokens.revoke(one.as_bytes(), "admin", 0), None);
        assert_ne!(tokens.revocations(), before);
        assert_eq!(check(&tokens, &one, 0), None);
        assert_eq!(check(&tokens, &two, 0), Some(1000));
    }

    #[test]
    fn no_logout_is_forgotten_however_many_there_are() {
        const MANY: i64 = 3 * REVOKED_MAX as i64 / 2;
        let tokens = Tokens::new(None).unwrap();
        let idle = tokens.issue(&users()[1], 0, i64::MAX).unwrap();
        let (mut over, mut told) = (Vec::new(), 0);
        for now_ms in 1..=MANY {
            let token = issue(&tokens, now_ms, i64::MAX);
            assert!(check(&tokens, &token, now_ms).is_some(), "a new session is good");
            told += usize::from(tokens.revoke(token.as_bytes(), "admin", now_ms).is_some());
            over.push(token);
        }
        let good = over.iter().filter(|token| check(&tokens, token, MANY).is_some());
        assert_eq!(good.count(), 0, "sessions that were logged out");
        assert_eq!(told, 1, "once, when the older half went");
        let held: usize = tokens.revoked().values().map(|r| r.sessions.len()).sum();
        assert!(held <= REVOKED_MAX, "{held}");
        assert!(check(&tokens, &idle, MANY).is_some(), "another user's sessions");
        let early = issue(&tokens, 1, i64::MAX);
        assert!(
            check(&tokens, &early, MANY).is_some(),
            "a login is good though the clock has gone back"
        );
    }

    #[test]
    fn expired_sessions_are_forgotten_first() {
        let tokens = Tokens::new(None).unwrap();
        let other = tokens.issue(&users()[0], 0, i64::MAX).unwrap();
        for now_ms in 0..2 * REVOKED_MAX as i64 {
            let token = issue(&tokens, now_ms, now_ms + 1000);
            assert_eq!(tokens.revoke(token.as_bytes(), "admin", now_ms), None);
        }
        assert!(check(&tokens, &other, 0).is_some(), "no other session ends");
    }

    proptest! {
        #[test]
        fn any_change_of_a_token_invalidates_it(at in 0_usize..85, to in any::<u8>()) {
            let tokens = Tokens::new(Some("secret")).unwrap();
            let mut token = issue(&tokens, 0, i64::MAX).into_bytes();
            prop_assume!(token[at] != to);
            token[at] = to;
            prop_assert!(tokens.check(&token, &users(), 0).is_none());
        }

        #[test]
        fn no_other_bytes_are_a_valid_token(bytes in prop::collection::vec(any::<u8>(), 0..100), prefixed: bool) {
            let tokens = Tokens::new(Some("secret")).unwrap();
            let bytes = if prefixed { [PREFIX.as_bytes(), &bytes].concat() } else { bytes };
            prop_assert!(tokens.check(&bytes, &users(), 0).is_none());
        }
    }
}
