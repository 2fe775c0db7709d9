//! Into a guest, through its shell's stream.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

use hotbed_console::Command;

use super::super::quoting::quote;
use super::super::shell::Session;
use super::{CHUNK, SERIAL, cannot_read, check};
use crate::{Call, Error};

/// Puts `length` bytes, which `write` gives, at `target` in the guest.
pub(super) fn put(
    session: &mut Session<'_>,
    target: &str,
    length: u64,
    call: &Call<'_>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let doing = || format!("copying to {target}");
    let until = call.slice(&doing)?;
    session
        .shell
        .begin_put(target, length, until)
        .map_err(|error| session.failed(error))?;
    let mut writer = PutWriter {
        session,
        call,
        left: length,
        error: None,
    };
    let written = write(&mut writer);
    let (left, error) = (writer.left, writer.error);
    if let Some(error) = error {
        return Err(error);
    }
    written.map_err(Error::host(format!(
        "cannot read what is copied to {target}"
    )))?;
    if left > 0 {
        return Err(Error::Machine(format!(
            "what is copied to {target} became {left} bytes shorter meanwhile"
        )));
    }
    match session.collect(&mut Vec::new(), None, call)? {
        0 => Ok(()),
        status => Err(Error::TestFailed(format!(
            "{} did not take {target} (exit code {status}; see its console)",
            session.machine.name()
        ))),
    }
}

/// Writes into the file that is being put.
struct PutWriter<'p, 's, 'c> {
    session: &'p mut Session<'s>,
    call: &'p Call<'c>,
    left: u64,
    error: Option<Error>,
}

impl PutWriter<'_, '_, '_> {
    fn give_up(&mut self, error: Error) -> io::Error {
        self.error = Some(error);
        io::ErrorKind::Other.into()
    }
}

impl Write for PutWriter<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("it became longer meanwhile"));
        }
        loop {
            let until = self
                .call
                .slice(&|| "copying".to_owned())
                .map_err(|error| self.give_up(error))?;
            match self.session.shell.put_chunk(bytes, until) {
                Ok(0) => {}
                Ok(count) => {
                    self.left -= count as u64;
                    return Ok(count);
                }
                Err(error) => {
                    let error = self.session.failed(error);
                    return Err(self.give_up(error));
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn copy(source: &mut dyn Read, target: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => target.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts an archive of a directory into the guest and unpacks it at `target`.
pub(super) fn put_directory(
    session: &mut Session<'_>,
    source: &Path,
    target: &str,
    call: &Call<'_>,
) -> Result<(), Error> {
    let mut length = Counter(0);
    write_archive(source, &mut length).map_err(cannot_read(source))?;
    let archive = format!(
        "/tmp/.hotbed-{}.tar",
        SERIAL.fetch_add(1, Ordering::Relaxed)
    );
    put(session, &archive, length.0, call, |writer| {
        // The archive comes in small pieces; the guest is better given large ones.
        let mut writer = BufWriter::with_capacity(CHUNK, writer);
        write_archive(source, &mut writer)?;
        writer.flush()
    })?;
    let (archive, target) = (quote(&archive), quote(target));
    let unpack = format!(
        "mkdir -p -- {target} && tar -C {target} -o -xpf {archive}; status=$?; rm -f {archive}; exit $status"
    );
    let script = format!("set +e; {unpack}");
    let status = session.run(&Command::new(&script), &mut Vec::new(), None, call)?;
    check(status, "unpacking", session.machine)
}

pub(super) fn write_archive(directory: &Path, writer: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    archive.follow_symlinks(true);
    archive.append_dir_all(".", directory)?;
    archive.finish()
}

/// Counts bytes.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
