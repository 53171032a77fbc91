//! A session id: none is good that weir has not issued.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use weir::config::{Password, Secret, User};
use weir::ingress::token::Tokens;

static ISSUED: OnceLock<(Tokens, String)> = OnceLock::new();

fuzz_target!(|input: (Vec<u8>, Vec<(u8, u8)>)| {
    let (bytes, turns) = input;
    let users = ["admin", "gateway"].map(|name| User {
        name: name.to_owned(),
        password: Password::Clear(Secret::new("a password")),
    });
    let (tokens, good) = ISSUED.get_or_init(|| {
        let tokens = Tokens::new(Some("the secret of the fuzzer")).expect("randomness");
        let good = tokens.issue(&users[0], 0, i64::MAX).expect("randomness");
        (tokens, good)
    });
    assert!(bytes == good.as_bytes() || tokens.check(&bytes, &users, 0).is_none());
    let mut turned = good.clone().into_bytes();
    for (at, to) in turns {
        let at = usize::from(at) % turned.len();
        turned[at] = to;
    }
    let same = turned == good.as_bytes();
    assert_eq!(tokens.check(&turned, &users, 0).is_some(), same);
});
