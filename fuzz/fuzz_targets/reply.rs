//! A Traffic Manager's bytes: no reply is longer than what lies there, and a whole one is stable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::wire::Reply;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((reply, length))) = Reply::decode(rest) {
        assert!(length > 0 && length <= rest.len());
        for cut in 0..length.min(64) {
            assert_eq!(Reply::decode(&rest[..cut]), Ok(None));
        }
        let ascii = rest[..length].is_ascii();
        let mut written = Vec::new();
        reply.encode(&mut written);
        if ascii {
            assert_eq!(written, &rest[..length]);
        }
        rest = &rest[length..];
    }
});
