//! Durations and sizes as a person writes them: one number and one unit.

use std::time::Duration;

/// `"3650d"`, `"16h"`, `"250ms"`: the largest unit that leaves a whole number.
#[must_use]
pub fn duration_text(time: Duration) -> String {
    let units = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];
    let nanoseconds = time.as_nanos();
    let fits = |(_, unit): &&(&str, u128)| nanoseconds.is_multiple_of(*unit);
    match units.iter().find(fits) {
        _ if nanoseconds == 0 => "0s".to_owned(),
        Some((name, unit)) => format!("{}{name}", nanoseconds / unit),
        None => format!("{nanoseconds}ns"),
    }
}

/// `"1TiB"`, `"64MiB"`; a bare number of bytes where no unit leaves a whole number.
pub(super) fn size_text(bytes: usize) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, shift): &&(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << shift);
    match units.iter().find(fits) {
        Some((name, shift)) => format!("\"{}{name}\"", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_one_number_and_one_unit() {
        for (text, time) in [
            ("3650d", Duration::from_secs(3650 * 86_400)),
            ("1d", Duration::from_secs(86_400)),
            ("16h", Duration::from_secs(16 * 3600)),
            ("90m", Duration::from_secs(5400)),
            ("65535s", Duration::from_secs(65_535)),
            ("1500ms", Duration::from_millis(1500)),
            ("3us", Duration::from_micros(3)),
            ("7ns", Duration::from_nanos(7)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(duration_text(time), text);
            assert_eq!(humantime::parse_duration(text), Ok(time), "it can be read back");
        }
    }

    #[test]
    fn a_size_is_one_number_and_one_unit() {
        for (text, size) in [
            ("\"1TiB\"", 1_usize << 40),
            ("\"3GiB\"", 3 << 30),
            ("\"64MiB\"", 64 << 20),
            ("\"1536KiB\"", 1536 << 10),
            ("256", 256),
            ("0", 0),
        ] {
            assert_eq!(size_text(size), text);
        }
    }
}
