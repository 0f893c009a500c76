//! Files that a run writes: whole or not at all.

use crate::failure::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `contents` to a temporary name beside `path` and renames it: whoever reads `path` sees the old file or the new one.
///
/// What is no regular file, such as /dev/stdout, is written as it is. A message begins with `option`, the one that
/// names the file.
///
/// # Errors
///
/// Exit code 1, with the path, the reason and what to do; what was at `path` is still there.
pub(crate) fn write(option: &str, path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let written = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(contents))
        }
        _ => replace(path, contents),
    };
    written.map_err(|error| Failure::failed(format!("{option} {}: {}", path.display(), advice(&error))))
}

/// Prints `text`. A reader that has gone away is no error: it has seen what it wanted.
///
/// # Errors
///
/// Exit code 1, with the reason: standard output may be a file on a full disk.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {}", advice(&error))))
        }
        _ => Ok(()),
    }
}

/// Whether `path` can be written, told before a run that takes minutes; leaves nothing behind.
///
/// # Errors
///
/// Exit code 2: name another file.
pub(crate) fn check(option: &str, path: &Path) -> Result<(), Failure> {
    let tried = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(metadata) if !metadata.is_file() => OpenOptions::new().write(true).open(path).map(drop),
        _ => {
            let temporary = temporary(path);
            let made = File::create(&temporary).map(drop);
            made.and_then(|()| fs::remove_file(&temporary))
        }
    };
    tried.map_err(|error| {
        Failure::usage(format!("{option} {}: {error}; name a file that can be written", path.display()))
    })
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// A name beside `path`, on the same file system.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("{error}; nothing was written: make room or name a file on another disk")
        }
        _ => format!("{error}; nothing was written: name a file that can be written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let directory = std::env::temp_dir().join(format!("synfin-output-{}", std::process::id()));
        fs::create_dir(&directory).expect("a directory for the test");
        let path = directory.join("a.json");
        write("--json", &path, b"one").expect("writes");
        check("--json", &path).expect("can be written");
        write("--json", &path, b"two").expect("writes again");
        assert_eq!(fs::read(&path).expect("is there"), b"two");
        let missing = write("--json", &directory.join("no/b.json"), b"x").expect_err("no such directory");
        assert_eq!(missing.exit, 1);
        assert_eq!(check("--json", &directory).expect_err("a directory").exit, 2);
        assert_eq!(fs::read_dir(&directory).expect("lists").count(), 1, "no temporary file is left");
        fs::remove_dir_all(&directory).expect("removes");
    }

    #[test]
    fn a_full_disk_is_one_clear_line() {
        let full = write("--json", Path::new("/dev/full"), b"text").expect_err("ENOSPC");
        assert_eq!(full.exit, 1);
        assert!(full.message.starts_with("--json /dev/full: No space left on device"), "{full}");
        assert!(full.message.contains("make room") && !full.message.contains('\n'), "{full}");
    }
}
