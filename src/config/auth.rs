//! `[auth]`: who may log in, and how long a session lives.

use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;

use super::Secret;
use super::kinds::{DAY, Kind, SECOND, flag, secret, text, time};
use super::problem::Bad;
use super::section::{Given, Section};
use super::settings::settings;

/// A shorter secret can be found by trial.
pub(super) const SECRET_MIN_BYTES: usize = 16;
pub(super) const MAKE_A_SECRET: &str = "make one with: openssl rand -base64 32";

settings! {
    /// Users and sessions.
    pub struct Auth("auth.") {
        "session_secret" session_secret: Option<Secret> = Kind::new("16 bytes or more", session_secret),
            eg "$file{/run/secrets/weir-session}", Now,
            "Signs session ids; the weirs of one tier share it. Without it one is generated at each start.";
        "session_ttl" session_ttl: Duration = time(60 * SECOND, 365 * DAY), or "1d", Now,
            "Lifetime of a session; gateways log in again by themselves.";
        "allow_plaintext_login" allow_plaintext_login: bool = flag(), or false, Now,
            "Accept logins on listen.tcp, where the password can be read on the network.";
    }
    and {
        /// Accepted users, in the order of the file; never empty.
        users: Vec<User>,
    }
}

settings! {
    /// One `[[auth.user]]`.
    pub(super) struct UserKeys("auth.user[].") {
        "name" name: Option<String> = text(), eg "gateway", Now,
            "A user who may log in. Without any, the credentials of [apim.throttling] are valid.";
        "password" clear: Option<Secret> = secret(), eg "$file{/run/secrets/gateway}", Now,
            "Its password, preferably as a reference.";
        "password_argon2" hashed: Option<String> = Kind::new("PHC string", argon2),
            eg "$argon2id$v=19$m=19456,t=2,p=1$…", Now,
            "Its password as an argon2 hash, in place of password.";
    }
}

/// One accepted user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Name as the gateway sends it.
    pub name: String,
    /// What it is checked against.
    pub password: Password,
}

/// A stored password.
#[derive(Debug, Clone, PartialEq)]
pub enum Password {
    /// In clear (from the file, `$env{}`, `$file{}`, `$secret{}`).
    Clear(Secret),
    /// An argon2 PHC string, `$argon2id$…`, known to be well-formed.
    Argon2(String),
}

/// `[auth]`; `fallback` may log in when no user is named.
pub(super) fn auth(s: &Section<'_>, fallback: Option<&(String, Secret)>) -> Option<Auth> {
    let tables = s.tables("user");
    let mut users: Vec<User> = Vec::new();
    for table in &tables {
        let Some(user) = user(table) else {
            continue;
        };
        if users.contains(&user) {
            table.problem(
                "name",
                "this user is named twice",
                "keep one of the [[auth.user]] tables",
            );
        } else if users.iter().any(|other| other.name == user.name) {
            table.warning(
                "name",
                "this user has more than one password, and each of them is accepted",
                "remove the old one when all gateways have the new one",
            );
        }
        users.push(user);
    }
    if tables.is_empty() {
        users.extend(fallback.map(|(name, password)| User {
            name: name.clone(),
            password: Password::Clear(password.clone()),
        }));
    }
    let auth = Auth::read(s, None, users)?;
    s.finish();
    if auth.allow_plaintext_login {
        s.warning(
            "allow_plaintext_login",
            "gateways may send their password over the plain port, where anyone on the network can read it",
            "use the TLS port for logins, as WSO2 gateways do by default",
        );
    }
    Some(auth)
}

fn user(s: &Section<'_>) -> Option<User> {
    let UserKeys { name, clear, hashed } = UserKeys::read(s, None)?;
    s.finish();
    if !s.has("name") {
        s.problem(
            "name",
            "is missing",
            "write name = \"…\", as the gateway sends it",
        );
    }
    match (s.has("password"), s.has("password_argon2")) {
        (true, true) => s.problem(
            "password",
            "password and password_argon2 are both set",
            "keep one of them",
        ),
        (false, false) => s.problem("password", "is missing", "set password or password_argon2"),
        _ => {}
    }
    let password = hashed.map(Password::Argon2).or(clear.map(Password::Clear))?;
    Some(User {
        name: name?,
        password,
    })
}

fn session_secret(given: &Given) -> Result<Secret, Bad> {
    let value = secret().parse(given)?;
    match value.expose().len() < SECRET_MIN_BYTES {
        true => Err(Bad::new("is shorter than 16 bytes", MAKE_A_SECRET)),
        false => Ok(value),
    }
}

/// A PHC string that can be checked against: algorithm, version, cost, salt and hash.
fn argon2(given: &Given) -> Result<String, Bad> {
    let bad = |message: &str| Bad::new(message, "make one with: echo -n PASSWORD | argon2 SALT -id -e");
    let value = given.text()?;
    let hash = PasswordHash::new(&value).map_err(|_| bad("is not a PHC string ($argon2id$v=19$…)"))?;
    if argon2::Algorithm::try_from(hash.algorithm.as_str()).is_err() {
        return Err(bad("is not of the argon2 family"));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(bad("has no salt or no hash in it"));
    }
    if hash
        .version
        .is_some_and(|version| argon2::Version::try_from(version).is_err())
    {
        return Err(bad("has a version that argon2 does not know"));
    }
    let params = argon2::Params::try_from(&hash);
    let params = params.map_err(|_| bad("has cost parameters argon2 does not allow"))?;
    // Far beyond any recommendation.
    if params.m_cost() > 1 << 20 || params.t_cost() > 64 {
        return Err(Bad::new(
            "would cost more than 1 GiB or 64 passes at each login",
            "use a cheaper hash",
        ));
    }
    Ok(value)
}
