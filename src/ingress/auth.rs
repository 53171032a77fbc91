//! Passwords, in clear or as argon2 hashes, compared in constant time.

use std::collections::BTreeMap;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

use crate::config::{Password, Secret, User};

/// A login that was compared with the passwords in clear. It is decided if there is nothing to hash.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Index of the user whose password in clear this is.
    clear: Option<usize>,
    hashes: Vec<Hash>,
    password: Secret,
}

/// A hash to compute.
#[derive(Debug, Clone)]
struct Hash {
    phc: String,
    /// Index of the user who is logged in if it matches; `None`: it only takes time.
    user: Option<usize>,
}

impl Attempt {
    /// Looks a user up. Where any user has a hash, every login costs the same hashes, whatever its name and password:
    /// one for each set of cost parameters in use (more where a user has several passwords of one).
    #[must_use]
    pub(super) fn new(users: &[User], name: &str, password: String) -> Self {
        let mut clear = None;
        for (i, user) in users.iter().enumerate() {
            let named = equal(user.name.as_bytes(), name.as_bytes());
            if let Password::Clear(known) = &user.password
                && equal(known.expose().as_bytes(), password.as_bytes()) & named
            {
                clear = Some(i);
            }
        }
        Self {
            clear,
            hashes: hashes(users, name),
            password: Secret::new(password),
        }
    }

    /// The user's index, or `None` for a wrong password, if that is known without computing a hash.
    ///
    /// # Errors
    /// There are hashes to compute; returns the attempt.
    pub(super) fn decided(self) -> Result<Option<usize>, Self> {
        if self.hashes.is_empty() {
            Ok(self.clear)
        } else {
            Err(self)
        }
    }

    /// What [`user`](Attempt::user) needs, in blocks of 1 KiB.
    #[must_use]
    pub(super) fn blocks(&self) -> usize {
        let blocks = self.hashes.iter().filter_map(|hash| params(&hash.phc));
        blocks.map(|params| params.block_count()).max().unwrap_or(0)
    }

    /// Computes all the hashes, which is slow on purpose. Returns the index of the user who is logged in.
    #[must_use]
    pub(super) fn user(&self, memory: &mut [Block]) -> Option<usize> {
        let mut user = self.clear;
        for hash in &self.hashes {
            if matches(&hash.phc, self.password.expose(), memory) {
                user = user.or(hash.user);
            }
        }
        user
    }
}

/// The user's own hashes, filled up with others so that every login computes as many.
fn hashes(users: &[User], name: &str) -> Vec<Hash> {
    let mut by_cost: BTreeMap<&str, BTreeMap<&str, Vec<Hash>>> = BTreeMap::new();
    for (i, user) in users.iter().enumerate() {
        if let Password::Argon2(phc) = &user.password {
            // Behind the cost parameters come salt and hash.
            let cost = phc.rsplitn(3, '$').nth(2).unwrap_or_default();
            let hash = Hash {
                phc: phc.clone(),
                user: (user.name == name).then_some(i),
            };
            by_cost
                .entry(cost)
                .or_default()
                .entry(&user.name)
                .or_default()
                .push(hash);
        }
    }
    let mut all = Vec::new();
    for mut by_name in by_cost.into_values() {
        let mut own = by_name.remove(name).unwrap_or_default();
        // As many as the user who has the most of this cost.
        let most = by_name.into_values().max_by_key(Vec::len).unwrap_or_default();
        own.extend(most.into_iter().skip(own.len()));
        all.append(&mut own);
    }
    all
}

fn params(phc: &str) -> Option<Params> {
    Params::try_from(&PasswordHash::new(phc).ok()?).ok()
}

/// Compares a password with an argon2 hash.
fn matches(phc: &str, password: &str, memory: &mut [Block]) -> bool {
    computed(phc, password, memory)
        .is_some_and(|(ours, known)| constant_time::verify_slices_are_equal(&ours, &known).is_ok())
}

/// The hash of `password`, and the known one.
fn computed(phc: &str, password: &str, memory: &mut [Block]) -> Option<(Vec<u8>, Vec<u8>)> {
    let hash = PasswordHash::new(phc).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map(Version::try_from).transpose().ok()?;
    let argon2 = Argon2::new(
        algorithm,
        version.unwrap_or_default(),
        Params::try_from(&hash).ok()?,
    );
    let (salt, known) = (hash.salt?, hash.hash?);
    let mut ours = vec![0; known.as_bytes().len()];
    argon2
        .hash_password_into_with_memory(password.as_bytes(), &salt, &mut ours, memory)
        .ok()?;
    Some((ours, known.as_bytes().to_vec()))
}

/// A digest of a user's password or hash, part of every session's signature: a new password ends old sessions.
pub(super) fn credential(user: &User) -> Digest {
    let mut context = Context::new(&SHA256);
    let (kind, text) = match &user.password {
        Password::Clear(clear) => ("clear:", clear.expose()),
        Password::Argon2(phc) => ("argon2:", phc.as_str()),
    };
    context.update(kind.as_bytes());
    context.update(text.as_bytes());
    context.finish()
}

/// In constant time, whatever the lengths.
#[must_use]
fn equal(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (digest(&SHA256, a), digest(&SHA256, b));
    constant_time::verify_slices_are_equal(a.as_ref(), b.as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher;

    fn clear(name: &str, password: &str) -> User {
        User {
            name: name.into(),
            password: Password::Clear(Secret::new(password)),
        }
    }

    fn hashed_at(name: &str, password: &str, (memory, passes): (u32, u32)) -> User {
        let params = Params::new(memory, passes, 1, None).unwrap();
        let phc = Argon2::from(params)
            .hash_password_with_salt(password.as_bytes(), b"a salt of 16 byt")
            .unwrap();
        User {
            name: name.into(),
            password: Password::Argon2(phc.to_string()),
        }
    }

    fn hashed(name: &str, password: &str) -> User {
        hashed_at(name, password, (64, 1))
    }

    fn login(users: &[User], name: &str, password: &str) -> Option<usize> {
        let attempt = Attempt::new(users, name, password.to_owned());
        attempt
            .decided()
            .unwrap_or_else(|attempt| attempt.user(&mut vec![Block::new(); attempt.blocks()]))
    }

    #[test]
    fn the_right_password_of_the_right_user_and_nothing_else() {
        let users = [
            clear("admin", "secret"),
            clear("other", "word"),
            hashed("strong", "hash me"),
        ];
        assert_eq!(login(&users, "admin", "secret"), Some(0));
        assert_eq!(login(&users, "strong", "hash me"), Some(2));
        for (name, password) in [
            ("admin", "word"),
            ("admin", ""),
            ("admin", "hash me"),
            ("admi", "secret"),
            ("strong", "hash m"),
            ("nobody", "hash me"),
            ("", ""),
        ] {
            assert_eq!(login(&users, name, password), None, "{name} {password}");
        }
    }

    #[test]
    fn every_login_costs_the_same_hashes_whatever_its_name_and_password() {
        let users = [
            clear("clear", "word"),
            hashed_at("cheap", "word", (64, 1)),
            hashed_at("costly", "word", (128, 3)),
            hashed_at("rotated", "old", (128, 3)),
            hashed_at("rotated", "new", (128, 3)),
        ];
        let cost = |name: &str, password: &str| {
            let attempt = Attempt::new(&users, name, password.to_owned());
            let params = attempt.hashes.iter().map(|hash| params(&hash.phc).unwrap());
            params.map(|p| (p.m_cost(), p.t_cost())).collect::<Vec<_>>()
        };
        for name in ["clear", "cheap", "costly", "rotated", "nobody", ""] {
            for password in ["word", "old", "new", "wrong"] {
                assert_eq!(
                    cost(name, password),
                    [(128, 3), (128, 3), (64, 1)],
                    "{name} {password}"
                );
            }
        }
        let in_clear = Attempt::new(&users[..1], "nobody", "x".to_owned());
        assert_eq!(in_clear.decided().unwrap(), None, "no user has a hash");
    }

    #[test]
    fn two_passwords_of_one_user_both_count_while_one_is_rotated() {
        let users = [clear("admin", "old"), clear("admin", "new")];
        assert_eq!(login(&users, "admin", "old"), Some(0));
        assert_eq!(login(&users, "admin", "new"), Some(1));
        let users = [
            clear("admin", "old"),
            hashed("admin", "new"),
            hashed("admin", "newer"),
        ];
        let places = ["old", "new", "newer"].map(|password| login(&users, "admin", password));
        assert_eq!(places, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_hash_computed_in_a_used_buffer_is_the_same() {
        let users = [hashed_at("large", "one", (256, 1)), hashed("small", "two")];
        let mut memory = vec![Block::new(); 256];
        for _ in 0..2 {
            for (name, password, user) in [("large", "one", 0), ("small", "two", 1)] {
                let attempt = Attempt::new(&users, name, password.to_owned());
                assert_eq!(attempt.blocks(), 256);
                assert_eq!(attempt.user(&mut memory), Some(user));
            }
        }
    }
}
