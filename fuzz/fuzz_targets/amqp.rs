//! The return leg's bytes: frames are found the same in any pieces, and two bytes of one frame may change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decisions::frame::{FRAME_BYTES_MAX, Kind, Scan, Version, retune, scan};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Scan::Whole(frame)) = scan(rest) {
        let whole = frame.bytes();
        assert!(whole.len() <= FRAME_BYTES_MAX && rest.starts_with(whole));
        for cut in (0..whole.len()).take(64).chain([whole.len() - 1]) {
            // What is missing is never overstated, or a relay would wait for the next frame.
            assert!(
                matches!(scan(&whole[..cut]), Ok(Scan::Partial(more)) if 0 < more && cut + more <= whole.len())
            );
        }
        for version in [Version::V0_8, Version::V0_9, Version::V0_9_1] {
            let (Kind::Tune(seconds) | Kind::TuneOk(seconds)) = frame.kind(version) else {
                continue;
            };
            let mut tuned = whole.to_vec();
            retune(&mut tuned, seconds);
            assert_eq!(tuned, whole);
            retune(&mut tuned, !seconds);
            assert_eq!((&tuned[..17], &tuned[19..]), (&whole[..17], &whole[19..]));
            let Ok(Scan::Whole(other)) = scan(&tuned) else {
                panic!("still a frame")
            };
            assert!(matches!(other.kind(version), Kind::Tune(s) | Kind::TuneOk(s) if s == !seconds));
        }
        rest = &rest[whole.len()..];
    }
    if let Ok(Scan::Partial(more)) = scan(rest) {
        assert!(more > 0);
    }
});
