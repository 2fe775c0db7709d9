//! Waits for files, ports and sockets; each loops inside the guest.

use std::time::{Duration, Instant};

use hotbed_console::agent::wire::Wait;
use hotbed_console::{Command, Until};

use super::Machine;
use super::channel::{Event, refused};
use super::quoting::quote;
use super::shell::{TIMED_OUT, timed_out};
use crate::call::now;
use crate::{Call, Error};

/// The pause between two looks at a file: a look is a fork of the shell.
const FILE_INTERVAL: Duration = Duration::from_millis(50);

/// Lets a script pause without starting a process: `pause MICROSECONDS MIN MAX` waits on a pipe that nobody writes to.
pub(super) const PAUSE: &str = r#"
coproc quiet_maker { read -r _; }
exec {quiet}<>"/proc/self/fd/${quiet_maker[0]}"
echo >&"${quiet_maker[1]}"
pause() {
  local t=$1
  [ "$t" -ge "$2" ] || t=$2
  [ "$t" -le "$3" ] || t=$3
  printf -v t '%d.%06d' "$((t / 1000000))" "$((t % 1000000))"
  read -r -t "$t" -u "$quiet" _ || :
}
"#;

/// Tries a port again and again. An attempt is a fork of the shell that opens `/dev/tcp`, which tries every address of a name; a
/// bash that has no such thing (its first failure says so) is helped by `nc`. An attempt that hangs is given up after a second,
/// so that a lost packet (the kernel sends it again after one second, then three, then seven) does not hide that the port is open
/// by now. The pause grows with the time that has passed: at first 10 ms, later a twentieth of it, at most 250 ms.
const WAIT_FOR_PORT: &str = r#"
LC_ALL=C
attempt() { : 3<>"/dev/tcp/$address/$port"; }
with_nc() { nc -z "$address" "$port"; }
learn() {
  local error
  error=$(attempt 2>&1) || case $error in *'/dev/tcp/'*'No such file'*) attempt() { with_nc; } ;; esac
}
start=${EPOCHREALTIME/[^0-9]/} learnt=
while :; do
  ( if attempt 2>/dev/null; then echo open; else echo closed; fi >&"$quiet" ) &
  answer=
  if ! read -r -t 1 -u "$quiet" answer; then
    kill -KILL $! 2>/dev/null || :
    # It may have answered just before it was killed.
    read -r -t 0.001 -u "$quiet" answer || :
  fi
  wait $! 2>/dev/null || :
  [ "${answer:-closed}" != "$wanted" ] || exit 0
  [ -n "$learnt" ] || learn
  learnt=1
  pause $(( (${EPOCHREALTIME/[^0-9]/} - start) / 20 )) 10000 250000
done
"#;

/// Looks again and again whether a socket is bound (type 0002) or bound and listening (type 0001, flag 00010000): the kernel's
/// table says so without a connection. It lists the sockets of one network namespace only, by the name they were bound to: so
/// `nc` is asked too when it is there and a socket is there but not in the table.
const WAIT_FOR_UNIX_SOCKET: &str = r#"
start=${EPOCHREALTIME/[^0-9]/}
real=
newline='
'
while :; do
  if [ -z "$real" ] && [ "${path%/*}" != "$path" ]; then
    real=$(cd -P "${path%/*}/" 2>/dev/null && pwd -P) && real=${real%/}/${path##*/} || real=
  fi
  # All at once: to read line by line, the shell would go back in the file after each.
  table=$(</proc/net/unix)$newline
  [[ ! $table =~ ${entry}"$path"$newline ]] || exit 0
  [[ -z $real || ! $table =~ ${entry}"$real"$newline ]] || exit 0
  [ ! -S "$path" ] || ! nc -z "$options" "$path" 2>/dev/null || exit 0
  pause $(( (${EPOCHREALTIME/[^0-9]/} - start) / 10 )) 20000 250000
done
"#;

impl Machine {
    /// Waits in the guest until a file is there.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_file(
        &self,
        filename: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let begin = now();
        self.nested(&format!("waiting for file '{filename}'"), || {
            // What a shell would make something of is left to a shell.
            if is_plain_path(filename) {
                let wait = Wait::File {
                    path: filename.to_owned(),
                    present: true,
                };
                if self.has_happened(&wait, begin, timeout, call)? {
                    return Ok(());
                }
            }
            self.repeat(
                &format!("test -e {filename}"),
                Until::Success,
                FILE_INTERVAL,
                timeout,
                call,
            )
            .map(|_| ())
        })
    }

    /// Waits in the guest until a TCP connection to `address` (a name or an address) succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_open_port(
        &self,
        port: u16,
        address: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let message = format!("waiting for TCP port {port} on {address}");
        self.nested(&message, || {
            self.wait_for_port(port, address, true, timeout, call)
        })
    }

    /// Waits in the guest until a TCP connection to `address` fails.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_closed_port(
        &self,
        port: u16,
        address: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let message = format!("waiting for TCP port {port} on {address} to be closed");
        self.nested(&message, || {
            self.wait_for_port(port, address, false, timeout, call)
        })
    }

    /// Waits in the guest until something listens on a UNIX-domain socket.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_open_unix_socket(
        &self,
        address: &str,
        is_datagram: bool,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let kind = if is_datagram { "datagram" } else { "stream" };
        let message = format!("waiting for UNIX-domain {kind} on '{address}'");
        let begin = now();
        self.nested(&message, || {
            let wait = Wait::UnixSocket {
                path: address.to_owned(),
                datagram: is_datagram,
                open: true,
            };
            if self.has_happened(&wait, begin, timeout, call)? {
                return Ok(());
            }
            self.wait_by(
                &unix_socket_script(address, is_datagram),
                begin,
                timeout,
                call,
            )
        })
    }

    fn wait_for_port(
        &self,
        port: u16,
        address: &str,
        open: bool,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let begin = now();
        let wait = Wait::Port {
            address: address.to_owned(),
            port,
            open,
        };
        if self.has_happened(&wait, begin, timeout, call)? {
            return Ok(());
        }
        let wanted = if open { "open" } else { "closed" };
        self.wait_by(&port_script(port, address, wanted), begin, timeout, call)
    }

    /// Whether the agent has seen it happen. What it cannot wait for may be found out otherwise.
    fn has_happened(
        &self,
        wait: &Wait,
        begin: Instant,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<bool, Error> {
        match self.wait_for_event(wait, begin, timeout, call)? {
            Event::Happened(_) => Ok(true),
            Event::Unknown => Ok(false),
            Event::Refused(kind, message) => Err(refused(self.name(), kind, &message)),
        }
    }

    /// Runs a script that ends with status 0 when what it waits for is there.
    fn wait_by(
        &self,
        script: &str,
        begin: Instant,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        self.with_channel(script.len(), call, |channel| {
            let within = timeout
                .saturating_sub(now().saturating_duration_since(begin))
                .max(Duration::from_millis(1));
            let command = Command {
                timeout: Some(within),
                ..Command::new(script)
            };
            match channel.wait(&command, &mut Vec::new(), begin, timeout, call)? {
                0 => Ok(()),
                TIMED_OUT => Err(timed_out(begin, timeout)),
                status => Err(Error::Machine(format!(
                    "{} could not look: its shell ended with exit code {status} (see its console)",
                    self.name()
                ))),
            }
        })
    }
}

/// Whether a shell would take the word for one absolute path and nothing else.
fn is_plain_path(word: &str) -> bool {
    word.starts_with('/')
        && !word.ends_with('/')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(&byte))
}

pub(super) fn port_script(port: u16, address: &str, wanted: &str) -> String {
    format!(
        "{PAUSE}address={} port={port} wanted={wanted}\n{WAIT_FOR_PORT}",
        quote(address)
    )
}

pub(super) fn unix_socket_script(address: &str, is_datagram: bool) -> String {
    // Flags, type, state and inode, between which and the path is a space.
    let (entry, options) = if is_datagram {
        (" [0-9A-F]{8} 0002 [0-9]+ +[0-9]+ ", "-uU")
    } else {
        (" 00010000 0001 [0-9]+ +[0-9]+ ", "-U")
    };
    format!(
        "{PAUSE}path={} entry={} options={options}\n{WAIT_FOR_UNIX_SOCKET}",
        quote(address),
        quote(entry)
    )
}
