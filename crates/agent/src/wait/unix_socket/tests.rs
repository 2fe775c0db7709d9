//! Real sockets in a folder of their own.

use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::super::testing::{LONG, found, is_quiet};
use super::*;

const SHORT: Duration = Duration::from_millis(60);

fn watch(path: &Path, is_datagram: bool, is_wanted_open: bool) -> UnixSocketWatch {
    let path = path.to_str().expect("text");
    UnixSocketWatch::new(path, is_datagram, is_wanted_open, Instant::now()).expect("a path")
}

fn is_found(watch: &mut UnixSocketWatch) -> bool {
    found(watch, LONG).is_some()
}

#[test]
fn stream_is_found_when_it_listens_and_not_when_it_is_only_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/socket");
    let mut waiting = watch(&path, false, true);
    assert!(is_quiet(&mut waiting, SHORT));
    assert_eq!(
        waiting.next, None,
        "nothing is tried while there is no file"
    );
    std::fs::create_dir(folder.path().join("a")).unwrap();
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    assert!(is_quiet(&mut waiting, SHORT));
    rustix::net::listen(&socket, 8).unwrap();
    assert!(is_found(&mut waiting));
}

#[test]
fn stream_is_gone_when_nobody_listens_although_the_file_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = UnixListener::bind(&path).unwrap();
    let mut waiting = watch(&path, false, false);
    assert!(is_quiet(&mut waiting, SHORT));
    drop(server);
    assert!(path.exists());
    assert!(is_found(&mut waiting));
}

#[test]
fn stream_with_a_full_queue_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    assert!(is_found(&mut watch(&path, false, true)));
}

#[test]
fn datagram_socket_is_found_when_it_is_bound_and_kinds_are_not_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut waiting = watch(&path, true, true);
    assert!(is_quiet(&mut waiting, SHORT));
    let socket = UnixDatagram::bind(&path).unwrap();
    assert!(is_found(&mut waiting));
    assert!(is_quiet(&mut watch(&path, false, true), SHORT));
    let mut closing = watch(&path, true, false);
    assert!(is_quiet(&mut closing, SHORT));
    drop(socket);
    assert!(is_found(&mut closing));
}

#[test]
fn socket_is_found_through_a_link_and_a_path_longer_than_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let _server = UnixListener::bind(folder.path().join("socket")).unwrap();
    std::os::unix::fs::symlink("../socket", deep.join("link")).unwrap();
    assert!(is_found(&mut watch(&deep.join("link"), false, true)));
}

#[test]
fn file_that_is_no_socket_is_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    assert!(is_found(&mut watch(&path, false, false)));
    assert!(is_quiet(&mut watch(&path, false, true), SHORT));
}
