//! The request of a VDE client, and the answer, as libvdeplug has them: packed structures in the host's byte order.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most bytes of a request; whatever is behind them in the same message is not looked at.
pub const REQUEST_MAX: usize = 256;

/// Bytes of the answer: a whole `sockaddr_un`.
pub const REPLY_LEN: usize = 2 + SOCKET_PATH_LEN;

/// Room for a path in a `sockaddr_un`.
pub const SOCKET_PATH_LEN: usize = 108;

const MAGIC: u32 = 0xfeed_face;
const NEW_PORT: u8 = 0;
/// An all-zero address in a version 1 request; nobody reads it.
const V1_ADDRESS_LEN: usize = 6;

/// A client that wants a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The port it wants; `None`: any.
    pub port: Option<u32>,
    /// Where it receives.
    pub path: &'a Path,
    /// What it calls itself: `QEMU user=alice PID=1234`.
    pub description: &'a [u8],
}

/// Why a request gets no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The message ends early.
    #[error("the request is too short")]
    Short,
    /// It does not begin as a VDE request does.
    #[error("the request does not begin with the VDE magic number")]
    Magic,
    /// A version that libvdeplug never spoke, or not any more.
    #[error("the request has version {0}; 1 and 3 are known")]
    Version(u32),
    /// It wants something other than a port; a management port, say.
    #[error("the request has type {0}; only 0, a new port, is served")]
    Type(u8),
    /// It does not say where it receives.
    #[error("the request names no absolute path of a unix socket")]
    Path,
}

impl<'a> Request<'a> {
    /// Takes one message of a client.
    ///
    /// # Errors
    ///
    /// [`BadRequest::Short`] may become a request when more bytes come; the others never do.
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, BadRequest> {
        let bytes = &bytes[..bytes.len().min(REQUEST_MAX)];
        let (magic, rest) = take_u32(bytes)?;
        if magic != MAGIC {
            return Err(BadRequest::Magic);
        }
        // The second word is the version, or in version 1, which has none, the type.
        let (version, after_version) = take_u32(rest)?;
        let (kind, rest) = match version {
            3 => take_u32(after_version)?,
            0 | 1 => {
                let (_, after_address) = after_version
                    .split_at_checked(V1_ADDRESS_LEN)
                    .ok_or(BadRequest::Short)?;
                (version, after_address)
            }
            _ => return Err(BadRequest::Version(version)),
        };
        let [kind, port @ ..] = kind.to_le_bytes();
        if kind != NEW_PORT {
            return Err(BadRequest::Type(kind));
        }
        let port = u32::from_le_bytes([port[0], port[1], port[2], 0]);
        let (family, rest) = rest.split_first_chunk().ok_or(BadRequest::Short)?;
        let (path, description) = rest
            .split_first_chunk::<SOCKET_PATH_LEN>()
            .ok_or(BadRequest::Short)?;
        if u16::from_ne_bytes(*family) != FAMILY {
            return Err(BadRequest::Path);
        }
        let path = Path::new(OsStr::from_bytes(until_nul(path)));
        if !path.is_absolute() {
            return Err(BadRequest::Path);
        }
        let port = (port != 0).then_some(port);
        Ok(Request {
            port,
            path,
            description: until_nul(description),
        })
    }

    /// Builds the message that libvdeplug would send.
    ///
    /// A path longer than [`SOCKET_PATH_LEN`] is cut.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REQUEST_MAX);
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&3_u32.to_ne_bytes());
        let kind = self.port.unwrap_or(0) << 8 | u32::from(NEW_PORT);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&reply(self.path));
        bytes.extend_from_slice(self.description);
        bytes
    }
}

/// Builds the answer: the path where the switch receives from the port, as a raw `sockaddr_un`.
pub fn reply(path: &Path) -> [u8; REPLY_LEN] {
    let mut bytes = [0; REPLY_LEN];
    bytes[..2].copy_from_slice(&FAMILY.to_ne_bytes());
    let path = path.as_os_str().as_bytes();
    let len = path.len().min(SOCKET_PATH_LEN);
    bytes[2..2 + len].copy_from_slice(&path[..len]);
    bytes
}

/// Takes an answer apart: the path in it, if it is one.
pub fn parse_reply(bytes: &[u8; REPLY_LEN]) -> Option<&Path> {
    let (family, path) = bytes.split_first_chunk()?;
    let path = until_nul(path);
    (u16::from_ne_bytes(*family) == FAMILY && !path.is_empty())
        .then(|| Path::new(OsStr::from_bytes(path)))
}

/// What the fuzzer does with its bytes: a request that parses says the same after a round trip.
pub fn fuzz(bytes: &[u8]) {
    let Ok(request) = Request::parse(bytes) else {
        return;
    };
    let again = request.to_bytes();
    assert_eq!(
        Request::parse(&again),
        Ok(request),
        "a round trip changed the request"
    );
}

/// `AF_UNIX`, which Linux will not renumber.
const FAMILY: u16 = 1;

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), BadRequest> {
    let (word, rest) = bytes.split_first_chunk().ok_or(BadRequest::Short)?;
    Ok((u32::from_ne_bytes(*word), rest))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}
