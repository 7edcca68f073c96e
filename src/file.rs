//! Writing files whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes `path` through a temporary file beside it, which takes the name once it is complete: a failure leaves what was there before.
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
pub(crate) fn save(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    try_save(path, write).map_err(|source| Error::File { path: path.into(), action: message!("write"), source })
}

/// Checks that `path` could be written, so that nothing is computed in vain. Nothing is left behind.
///
/// # Errors
/// [`Error::File`] if its folder takes no new file or `path` is a folder.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    let check = || {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        tempfile::tempfile_in(folder(path)).map(drop)
    };
    check().map_err(|source| Error::File { path: path.into(), action: message!("write"), source })
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
