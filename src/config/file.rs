//! Reads the files that a configuration is made of or names. A device, a pipe or a directory in place of a file costs neither
//! memory nor time.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The whole content of a regular file of at most `max_bytes`; links are followed.
///
/// # Errors
/// It is another kind of file, it is larger, or the system's own.
pub fn read_file(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    // Before opening, which has effects on some devices, and after, as it may have been replaced in between.
    regular(path.metadata()?.is_file())?;
    let file = open(path)?;
    let metadata = file.metadata()?;
    regular(metadata.is_file())?;
    fits(metadata.len(), max_bytes)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    fits(bytes.len() as u64, max_bytes)?;
    Ok(bytes)
}

/// Without waiting: opening a pipe would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
}

fn regular(is_file: bool) -> io::Result<()> {
    match is_file {
        true => Ok(()),
        false => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}

fn fits(bytes: u64, max_bytes: u64) -> io::Result<()> {
    if bytes <= max_bytes {
        return Ok(());
    }
    let limit = match max_bytes >> 20 {
        0 => format!("{} KiB", max_bytes >> 10),
        mib => format!("{mib} MiB"),
    };
    Err(io::Error::new(
        ErrorKind::FileTooLarge,
        format!("it is larger than {limit}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        read_file(path, 1 << 10).unwrap_err().to_string()
    }

    #[test]
    fn only_a_regular_file_is_read_whatever_else_stands_in_its_place() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "value").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_file(&link, 5).unwrap(), b"value");
        let zero = dir.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for other in [&zero, &fifo, dir.path()] {
            assert_eq!(refused(other), "it is not a regular file");
        }
        // Between the look and the open.
        assert!(!open(&fifo).unwrap().metadata().unwrap().is_file());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_even_if_its_size_reads_zero() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(refused(&path), "it is larger than 1 KiB");
        assert_eq!(
            read_file(Path::new("/proc/self/status"), 8)
                .unwrap_err()
                .to_string(),
            "it is larger than 0 KiB"
        );
    }
}
