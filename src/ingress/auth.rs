//! Who may log in: passwords in clear or as argon2 hashes, compared in constant time.

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{SHA256, digest};

use crate::config::{Password, User};

/// The outcome of a cheap look at a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Decided.
    Decided(bool),
    /// The password must be held against this argon2 hash, which takes tens of milliseconds: not on a
    /// worker's thread.
    Hash(String),
}

/// Looks a user up. An unknown user costs what a known one costs: a comparison, or a hash where any user
/// has one.
#[must_use]
pub fn check(users: &[User], name: &str, password: &str) -> Check {
    let mut decided = false;
    let mut hash = None;
    let mut decoy = None;
    for user in users {
        let named = equal(user.name.as_bytes(), name.as_bytes());
        match &user.password {
            Password::Clear(clear) => {
                decided |= equal(clear.expose().as_bytes(), password.as_bytes()) & named
            }
            Password::Argon2(phc) if named => hash = Some(phc.clone()),
            Password::Argon2(phc) => decoy = Some(phc.clone()),
        }
    }
    let known_in_clear = users
        .iter()
        .any(|u| u.name == name && matches!(u.password, Password::Clear(_)));
    match (hash, decoy) {
        (Some(phc), _) if !decided => Check::Hash(phc),
        (None, Some(phc)) if !decided && !known_in_clear => Check::Hash(unmatchable(&phc)),
        _ => Check::Decided(decided),
    }
}

/// Holds a password against an argon2 hash. Slow on purpose.
#[must_use]
pub fn verify_hash(phc: &str, password: &str) -> bool {
    PasswordHash::new(phc).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// In constant time, whatever the lengths.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (digest(&SHA256, a), digest(&SHA256, b));
    constant_time::verify_slices_are_equal(a.as_ref(), b.as_ref()).is_ok()
}

/// A hash that costs the same and that nothing matches: the last characters are turned.
fn unmatchable(phc: &str) -> String {
    let turn = |c: char| if c == 'A' { 'B' } else { 'A' };
    match phc.rsplit_once('$') {
        Some((head, hash)) => format!("{head}${}", hash.chars().map(turn).collect::<String>()),
        None => phc.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use argon2::password_hash::PasswordHasher;

    fn clear(name: &str, password: &str) -> User {
        User {
            name: name.into(),
            password: Password::Clear(Secret::new(password)),
        }
    }

    fn hashed(name: &str, password: &str) -> User {
        let phc = Argon2::default()
            .hash_password_with_salt(password.as_bytes(), b"a salt of 16 byt")
            .unwrap();
        User {
            name: name.into(),
            password: Password::Argon2(phc.to_string()),
        }
    }

    fn login(users: &[User], name: &str, password: &str) -> bool {
        match check(users, name, password) {
            Check::Decided(yes) => yes,
            Check::Hash(phc) => verify_hash(&phc, password),
        }
    }

    #[test]
    fn the_right_password_of_the_right_user_and_nothing_else() {
        let users = [
            clear("admin", "secret"),
            clear("other", "word"),
            hashed("strong", "hash me"),
        ];
        assert!(login(&users, "admin", "secret"));
        assert!(login(&users, "strong", "hash me"));
        for (name, password) in [
            ("admin", "word"),
            ("admin", ""),
            ("admi", "secret"),
            ("strong", "hash m"),
            ("nobody", "hash me"),
            ("", ""),
        ] {
            assert!(!login(&users, name, password), "{name} {password}");
        }
    }

    #[test]
    fn an_unknown_user_costs_a_hash_where_somebody_has_one() {
        let users = [clear("admin", "secret"), hashed("strong", "hash me")];
        assert!(matches!(check(&users, "nobody", "x"), Check::Hash(_)));
        assert!(matches!(check(&users[..1], "nobody", "x"), Check::Decided(false)));
    }

    #[test]
    fn two_passwords_of_one_user_both_count_while_one_is_rotated() {
        let users = [clear("admin", "old"), clear("admin", "new")];
        assert!(login(&users, "admin", "old") && login(&users, "admin", "new"));
    }
}
