//! Files as a whole: read, written, and checked beforehand.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes `path` through a temporary file beside it, which takes the name once it is complete: a failure leaves what was there before.
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
pub(crate) fn save(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    try_save(path, write).map_err(|source| Error::writing(path, source))
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::File`] if it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::reading(path, source))
}

/// Reads a whole file of text.
///
/// # Errors
/// [`Error::File`] if it cannot be read or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::reading(path, source))
}

/// Creates a folder, and those above it, where they are not there.
///
/// # Errors
/// [`Error::File`] if one cannot be created.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| Error::File { path: path.into(), action: message!("create"), source })
}

/// Checks that all files that a command writes can be written, and that each is a file of its own.
///
/// # Errors
/// As [`check_writable`] and [`check_apart`].
pub(crate) fn check_outputs<'a>(
    written: impl IntoIterator<Item = &'a PathBuf> + Clone,
    read: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<()> {
    check_writable(written.clone())?;
    check_apart(written, read)
}

/// Checks that none of the files that a command writes is one that it reads, or another one that it writes.
///
/// # Errors
/// [`Error::Data`] that names the file.
pub(crate) fn check_apart<'a>(written: impl IntoIterator<Item = &'a PathBuf>, read: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let read: Vec<PathBuf> = read.into_iter().map(|path| place(path)).collect();
    let mut taken = Vec::new();
    for path in written {
        let what = match place(path) {
            place if read.contains(&place) => message!("is read by this command"),
            place if taken.contains(&place) => message!("is written by this command already"),
            place => {
                taken.push(place);
                continue;
            }
        };
        return Err(Error::data(path.display(), what, message!("name another file to write")));
    }
    Ok(())
}

/// A path that two names of one file have in common, whether it is there or not.
fn place(path: &Path) -> PathBuf {
    let beside = || Some(folder(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.into())
}

/// Checks that files could be written, so that nothing is computed in vain. Nothing is left behind.
///
/// # Errors
/// [`Error::Data`] if the folder of one is not there, [`Error::File`] if it takes no new file or a path is that of a folder.
pub(crate) fn check_writable(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    let check = |path: &Path| {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        tempfile::tempfile_in(folder(path)).map(drop)
    };
    paths.into_iter().try_for_each(|path| {
        let path = path.as_ref();
        if !folder(path).exists() {
            let what = message!("there is no folder {}", folder(path).display());
            return Err(Error::data(path.display(), what, message!("create it, or name another file to write")));
        }
        check(path).map_err(|source| Error::writing(path, source))
    })
}

/// Checks that a folder takes new files, or could be created where it is not there. Nothing is left behind.
///
/// # Errors
/// [`Error::File`] if it could not.
pub(crate) fn check_creatable(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let tried = tempfile::tempfile_in(there);
    tried.map(drop).map_err(|source| Error::File { path: path.into(), action: message!("create"), source })
}

/// The folder that holds `path`.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn try_save(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    // The permissions of any new file, less the umask; a temporary file's would shut others out.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder(path))?;
    let mut writer = BufWriter::new(temporary.as_file());
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.persist(path)?;
    Ok(())
}
